"""A small copy of the hand gestures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snn_datasets.formats.hand_gesture_arrays import convert_davis

GESTURES = ("pinky", "elle", "yo", "index", "thumb")


@dataclass(frozen=True)
class Session:
    """What was written of one session."""

    ann: np.ndarray
    """[L] text."""
    emg: np.ndarray
    """[L, 8]."""
    events: np.ndarray
    """[4, E]: x, y, seconds, polarity."""
    frames: list[np.ndarray]
    """F frames, the last of another size."""
    times: np.ndarray
    """[F] seconds."""


def write_hand_gestures(
    root: Path,
    *,
    subjects: tuple[int, ...] = (1, 2),
    sessions: tuple[int, ...] = (1, 2, 3),
    repetitions: int = 2,
    convert: bool = True,
) -> dict[str, Session]:
    """Write ann, emg, dvs and davis of every session as published; return what they hold by session.

    The frames are converted as well, unless that is not wanted. Each gesture is held for 0.5 s or a bit more, with rest
    between; every sample of the muscles is another number.
    """
    rng = np.random.default_rng(0)
    written: dict[str, Session] = {}
    root.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        for session in sessions:
            labels: list[str] = ["none"] * 13
            for _ in range(repetitions):
                for gesture in GESTURES:
                    labels += [gesture] * int(rng.integers(100, 112)) + ["none"] * 9
            ann = np.array(labels)
            emg = rng.permutation(len(ann) * 8).reshape(len(ann), 8).astype(np.float32) - len(ann) * 4
            seconds = np.sort(rng.uniform(-0.2, len(ann) / 200, size=len(ann) * 4))
            events = np.stack(
                [
                    rng.integers(0, 128, len(seconds)),
                    rng.integers(0, 128, len(seconds)),
                    seconds,
                    rng.integers(0, 2, len(seconds)),
                ]
            ).astype(np.float64)
            times = np.arange(0.01, len(ann) / 200, 0.08)
            frames = [np.full((180, 240), 1000 + number, np.uint16) for number in range(len(times) - 1)]
            for number, frame in enumerate(frames):
                frame[number % 180, ::2] = 2000
            frames.append(np.zeros((90, 120), np.uint16))
            stem = f"subject{subject:02d}_session{session:02d}"
            np.save(root / f"{stem}_ann.npy", ann)
            np.save(root / f"{stem}_emg.npy", emg)
            np.save(root / f"{stem}_dvs.npy", events)
            ragged = np.empty(len(frames), dtype=object)
            ragged[:] = frames
            np.savez(root / f"{stem}_davis.npz", frames=ragged, frames_time=times, dvs_events=events)
            written[stem] = Session(ann, emg, events, frames, times)
    if convert:
        convert_davis(root, allow_pickle=True)
    return written
