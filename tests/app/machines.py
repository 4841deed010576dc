"""Write recordings of a machine at three speeds from a motion sensor, a microphone and an event camera."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

SPEEDS = {"fast": 12.0, "medium": 6.0, "slow": 3.0}
"""Class -> Hz at which the machine vibrates."""
SENSORS = ("csv", "wav", "npy")
RATE, ROWS = 100, 200
SOUND_RATE = 8000
SIDE = 32
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "i1")])


def write_machines(root: Path, *, samples: int = 60, seed: int = 0, missing: float = 0.12) -> None:
    """Write <speed>/<number>.csv, .wav and .npy; each sample lacks at most two of the three."""
    rng = np.random.default_rng(seed)
    for number in range(samples):
        label = list(SPEEDS)[number % len(SPEEDS)]
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        missing_sensors = [sensor for sensor in SENSORS if rng.random() < missing][:2]
        hertz = SPEEDS[label] * rng.uniform(0.95, 1.05)
        stem = folder / f"{number:03d}"
        if "csv" not in missing_sensors:
            write_motion(stem.with_suffix(".csv"), hertz, rng)
        if "wav" not in missing_sensors:
            soundfile.write(stem.with_suffix(".wav"), sound(hertz, rng), SOUND_RATE)
        if "npy" not in missing_sensors:
            np.save(stem.with_suffix(".npy"), events(label, hertz, rng))


def write_motion(path: Path, hertz: float, rng: np.random.Generator) -> None:
    """Write accelerations in m/s^2 (gravity on the third axis) and rotations in degrees/s, with a phase per axis."""
    t = np.arange(ROWS) / RATE
    strength = np.array([1.0, 0.7, 1.3, 20.0, 12.0, 8.0]) * rng.uniform(0.7, 1.4, 6)
    offset = np.array([0.3, -0.2, 9.81, 0.0, 1.0, -1.0]) + rng.normal(0, 0.2, 6)
    noise = np.array([0.5, 0.5, 0.5, 8.0, 8.0, 8.0]) * rng.normal(0, 1, (ROWS, 6))
    phase = rng.uniform(0, 2 * np.pi, 6)
    values = offset + strength * np.sin(2 * np.pi * hertz * t[:, None] + phase) + noise
    np.savetxt(path, values, fmt="%.5f", delimiter=",", header="ax,ay,az,gx,gy,gz", comments="")


def sound(hertz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return 1 s of gear noise: 40 teeth per turn with overtones, modulated once per turn."""
    t = np.arange(SOUND_RATE) / SOUND_RATE
    tone = sum(0.6**n * np.sin(2 * np.pi * 40 * hertz * n * t + rng.uniform(0, 6.3)) for n in range(1, 5))
    modulation = 1 + 0.3 * np.sin(2 * np.pi * hertz * t)
    return 0.1 * rng.uniform(0.5, 2) * (tone * modulation + rng.normal(0, 0.7, len(t)))


def events(label: str, hertz: float, rng: np.random.Generator) -> NDArray[np.void]:
    """Return 2 s of events of a mark orbiting the shaft, plus noise; the orbit widens with speed."""
    radius = {"slow": 4.0, "medium": 7.5, "fast": 11.0}[label] + rng.normal(0, 0.4)
    center = SIDE / 2 + rng.normal(0, 1, 2)
    count, stray = 1500, 300
    t = np.sort(rng.uniform(0, 2, count))
    on = rng.integers(0, 2, count)
    angle = 2 * np.pi * hertz * t + rng.uniform(0, 6.3) - 0.4 * (1 - on)
    positions = center + radius * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.7, (count, 2))
    records = np.zeros(count + stray, EVENT)
    records["x"], records["y"] = np.concatenate([positions, rng.uniform(0, SIDE, (stray, 2))]).clip(0, SIDE - 1).T
    records["t"] = np.concatenate([t, rng.uniform(0, 2, stray)]) * 1e6
    records["p"] = np.concatenate([on, rng.integers(0, 2, stray)])
    return np.sort(records, order="t")
