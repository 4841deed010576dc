"""A small DVS128 Gesture."""

from pathlib import Path

import numpy as np

from datasets.writers.aedat import some_events, write_aedat3

TRAINING, TESTING = (1, 2, 3, 5, 8), (24, 27)
LIGHTS = ("fluorescent", "led")


def write_dvs128_gesture(root: Path, *, classes: int = 3, events: int = 150) -> dict[str, np.ndarray]:
    """Write seven users' gestures in two lights; return the events [E, 4] of t, x, y, p of each gesture by id.

    Recordings begin long before the first gesture, and times are those of the recording. Between two gestures there is
    a rest with separate events, but the last two of user02_led overlap by 10 ms.
    """
    rng = np.random.default_rng(2)
    written: dict[str, np.ndarray] = {}
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for user in (*TRAINING, *TESTING):
        for light in LIGHTS:
            stem = f"user{user:02d}_{light}"
            lists["train" if user in TRAINING else "test"].append(f"{stem}.aedat")
            bounds = [(1_000_000 + 300_000 * n, 1_200_000 + 300_000 * n) for n in range(classes)]
            if stem == "user02_led":
                bounds[-1] = (bounds[-2][1] - 10_000, bounds[-1][1])
            recording = some_events(rng, events * classes, duration=1_300_000 + 300_000 * classes)
            write_aedat3(root / f"{stem}.aedat", recording, per_packet=67)
            lines = ["class,startTime_usec,endTime_usec"]
            for number, (start, end) in enumerate(bounds):
                lines.append(f"{number * 5 + 1},{start},{end}")
                inside = recording[(recording[:, 0] >= start) & (recording[:, 0] < end)]
                written[f"{stem}/{number:02d}"] = inside - (start, 0, 0, 0)
            (root / f"{stem}_labels.csv").write_text("\n".join(lines) + "\n")
    for part, names in lists.items():
        (root / f"trials_to_{part}.txt").write_text("\n".join(names) + "\n")
    return written
