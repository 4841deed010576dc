"""Sixty recordings of a machine at three speeds, by a motion sensor, a microphone and an event camera."""

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
    """Write <speed>/<number>.csv, .wav and .npy; every sample lacks at most two of the three."""
    rng = np.random.default_rng(seed)
    for number in range(samples):
        label = list(SPEEDS)[number % len(SPEEDS)]
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        lacking = [sensor for sensor in SENSORS if rng.random() < missing][:2]
        hertz = SPEEDS[label] * rng.uniform(0.95, 1.05)
        stem = folder / f"{number:03d}"
        if "csv" not in lacking:
            write_motion(stem.with_suffix(".csv"), hertz, rng)
        if "wav" not in lacking:
            soundfile.write(stem.with_suffix(".wav"), sound(hertz, rng), SOUND_RATE)
        if "npy" not in lacking:
            np.save(stem.with_suffix(".npy"), events(label, hertz, rng))


def write_motion(path: Path, hertz: float, rng: np.random.Generator) -> None:
    """Accelerations in m/s^2 with gravity on the third axis, turns in degrees a second; each axis its own phase."""
    t = np.arange(ROWS) / RATE
    strength = np.array([1.0, 0.7, 1.3, 20.0, 12.0, 8.0]) * rng.uniform(0.7, 1.4, 6)
    offset = np.array([0.3, -0.2, 9.81, 0.0, 1.0, -1.0]) + rng.normal(0, 0.2, 6)
    noise = np.array([0.5, 0.5, 0.5, 8.0, 8.0, 8.0]) * rng.normal(0, 1, (ROWS, 6))
    phase = rng.uniform(0, 2 * np.pi, 6)
    values = offset + strength * np.sin(2 * np.pi * hertz * t[:, None] + phase) + noise
    np.savetxt(path, values, fmt="%.5f", delimiter=",", header="ax,ay,az,gx,gy,gz", comments="")


def sound(hertz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Teeth of a gear, 40 a turn, with overtones, swelling once a turn; 1 s."""
    t = np.arange(SOUND_RATE) / SOUND_RATE
    tone = sum(0.6**n * np.sin(2 * np.pi * 40 * hertz * n * t + rng.uniform(0, 6.3)) for n in range(1, 5))
    swelling = 1 + 0.3 * np.sin(2 * np.pi * hertz * t)
    return 0.1 * rng.uniform(0.5, 2) * (tone * swelling + rng.normal(0, 0.7, len(t)))


def events(label: str, hertz: float, rng: np.random.Generator) -> NDArray[np.void]:
    """A mark on the shaft, whose orbit widens with speed: on where it comes, off where it was; 2 s; and noise."""
    radius = {"slow": 4.0, "medium": 7.5, "fast": 11.0}[label] + rng.normal(0, 0.4)
    center = SIDE / 2 + rng.normal(0, 1, 2)
    count, stray = 1500, 300
    t = np.sort(rng.uniform(0, 2, count))
    on = rng.integers(0, 2, count)
    angle = 2 * np.pi * hertz * t + rng.uniform(0, 6.3) - 0.4 * (1 - on)
    places = center + radius * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.7, (count, 2))
    written = np.zeros(count + stray, EVENT)
    written["x"], written["y"] = np.concatenate([places, rng.uniform(0, SIDE, (stray, 2))]).clip(0, SIDE - 1).T
    written["t"] = np.concatenate([t, rng.uniform(0, 2, stray)]) * 1e6
    written["p"] = np.concatenate([on, rng.integers(0, 2, stray)])
    return np.sort(written, order="t")
