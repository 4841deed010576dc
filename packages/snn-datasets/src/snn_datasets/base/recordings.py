"""The five kinds of recording that readers return: plain numpy arrays with units.

A new sensor is a new reader that returns one of these, not a sixth kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST_EVENTS_US = 2**32 - 1
"""Longest recording: event times are stored as 32-bit microseconds, about 71 minutes."""


# eq=False: `==` between arrays has no single truth value.
@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image."""

    pixels: NDArray[np.uint8]
    """[C, H, W], C = 1 (gray) or 3 (red, green, blue), 0 to 255."""


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Frames with their times."""

    frames: NDArray[np.uint8]
    """[F, C, H, W], F >= 1, 0 to 255."""
    times: NDArray[np.float64]
    """[F] start of each frame in seconds from the start of the recording."""


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """Sound, or any other signal sampled like sound."""

    samples: NDArray[np.float32]
    """[channels, L]; full scale is 1."""
    rate: int
    """Samples per second of each channel."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events of an event camera, a spiking cochlea or an array of taxels. A recording may have none."""

    t: NDArray[np.int64]
    """[E] microseconds from the start of the recording, non-decreasing."""
    x: NDArray[np.uint16]
    """[E] column, or channel of a sensor without a plane (then y is 0)."""
    y: NDArray[np.uint16]
    """[E] row."""
    p: NDArray[np.uint8]
    """[E] polarity: 1 on, 0 off; all 0 if there is one polarity."""
    size: tuple[int, int]
    """Height and width of the sensor: y < height, x < width."""
    polarities: int
    """2, or 1 for a sensor without polarity."""
    duration: int
    """Length of the recording in microseconds; t < duration."""

    @classmethod
    def of(
        cls,
        *,
        t: NDArray[np.integer],
        x: NDArray[np.integer],
        y: NDArray[np.integer],
        p: NDArray[np.integer],
        size: tuple[int, int],
        polarities: int = 2,
        duration: int | None = None,
    ) -> Events:
        """Validate and sort the columns of a file; without a duration the recording ends just after its last event.

        Times must count from the start of the recording.

        Raises:
            ValueError: lengths differ, or a time, a coordinate or a polarity is out of range.
        """
        lengths = {len(t), len(x), len(y), len(p)}
        if len(lengths) != 1:
            raise ValueError(
                f"t, x, y, p have {len(t)}, {len(x)}, {len(y)}, {len(p)} entries; they must have equal length"
            )
        for name, values, below in (("x", x, size[1]), ("y", y, size[0]), ("p", p, polarities)):
            if len(values) and (int(values.min()) < 0 or int(values.max()) >= below):
                wrong = int(values.min()) if int(values.min()) < 0 else int(values.max())
                raise ValueError(f"an event has {name} = {wrong}, outside 0 to {below - 1}")
        first, last = (int(t.min()), int(t.max())) if len(t) else (0, 0)
        duration = last + 1 if duration is None else duration
        if first < 0 or (last >= duration and len(t)):
            raise ValueError(f"an event is at {first if first < 0 else last} us of a recording of {duration} us")
        if duration > LONGEST_EVENTS_US:
            raise ValueError(
                f"the recording lasts {duration / 6e7:.0f} minutes; split it into parts of at most 71 minutes"
            )
        t = t.astype(np.int64)
        x, y, p = x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)
        if len(t) > 1 and bool((np.diff(t) < 0).any()):
            order = np.argsort(t, kind="stable")
            t, x, y, p = t[order], x[order], y[order], p[order]
        return cls(t, x, y, p, size, polarities, duration)

    def __len__(self) -> int:
        """Return the number of events E."""
        return len(self.t)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Slow measurements: muscles, gas sensors, temperature, positions."""

    values: NDArray[np.float32]
    """[L, C], finite."""
    times: NDArray[np.float64]
    """[L] seconds from the start of the recording, increasing; need not be evenly spaced."""


Recording = Image | Video | Waveform | Events | Series
"""The result of a reader."""
