"""Small copies of two datasets of gas sensors."""

from pathlib import Path

import numpy as np

HEADERS = {
    "ethylene_CO": "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels) ",
    "ethylene_methane": "Time (seconds), Methane conc (ppm), Ethylene conc (ppm), sensor readings (16 channels) ",
}


def write_gas_mixtures(
    root: Path, *, steps: int = 40, seconds: tuple[float, float] = (8.0, 12.0), rate: int = 20
) -> dict[str, np.ndarray]:
    """Write both recordings, with so many set points that hold for some seconds each; return [L, 19] by name.

    Like the published ones, times have two decimals, so that some repeat and some are left out.
    """
    root.mkdir(parents=True, exist_ok=True)
    written: dict[str, np.ndarray] = {}
    for seed, (name, header) in enumerate(HEADERS.items()):
        rng = np.random.default_rng(seed)
        rows: list[np.ndarray] = []
        state = -1
        for _ in range(steps):
            state = int(rng.choice([other for other in range(4) if other != state]))
            length = int(rng.uniform(*seconds) * rate)
            second = 100.0 * (state in (2, 3)) * rng.integers(1, 5)
            ethylene = 5.0 * (state in (1, 3)) * rng.integers(1, 4)
            level = 500 + 300 * (state == 1) + np.arange(16) * (20 * (state == 2) - 10 * (state == 3))
            drift = np.linspace(0, 50, length)[:, None]
            sensors = np.round(level + drift + rng.normal(size=(length, 16)), 2)
            rows.append(
                np.column_stack([np.zeros(length), np.full(length, second), np.full(length, ethylene), sensors])
            )
        table = np.concatenate(rows)
        jitter = rng.integers(-1, 2, size=len(table)) / 100
        table[:, 0] = np.round(np.maximum.accumulate(np.maximum(np.arange(len(table)) / rate + jitter, 0)), 2)
        lines = [header, *(" \t".join(f"{cell:.2f}" for cell in row) + " " for row in table)]
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        written[name] = table
    return written


def write_gas_drift(
    root: Path, *, per_batch: int = 9, concentrations: bool = False
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Write ten batches, with concentrations as dataset 270; return gases (1 to 6) and features [N, 128] by batch."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for batch in range(1, 11):
        gases = np.arange(per_batch) % 6 + 1
        features = np.round(rng.normal(size=(per_batch, 128)) * 1000 + 100 * batch, 6)
        lines = []
        for gas, row in zip(gases.tolist(), features.tolist(), strict=True):
            named = " ".join(f"{number}:{value:.6f}" for number, value in enumerate(row, start=1))
            lines.append(f"{gas};{10.0 * gas:.6f} {named}" if concentrations else f"{gas} {named} ")
        (root / f"batch{batch}.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")
        written[batch] = (gases, features)
    return written
