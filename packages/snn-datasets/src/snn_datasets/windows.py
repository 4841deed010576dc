"""Windows of a series, in which fast vibration survives, and the choice of a length for them."""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.recordings import Series
from snn_datasets.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor


SPARSE = 1.05
"""Bins a value, from which on all are interpolated: means of single values beside them would make steps."""


class SeriesWindows(Stage):
    """Lay a series out on evenly spaced values, whole or as one window a time step.

    Time is cut into T equal spans, a window each, and each window into `length` equal bins. A bin holds the mean of its
    values; one without any is interpolated linearly, and so are all where there are more bins than values. With as many
    bins as rows every row is kept as it is.

    Shape: `Series` [L, C] -> [C, length] static, or [T, C, length] with steps, in the unit of the series
    """

    kind: Literal["window"] = "window"
    """Names this encoder."""
    length: int = Field(ge=1, le=2**20)
    """Values in a window."""
    steps: int | None = Field(default=None, ge=1)
    """Time steps T, a window each; none makes one static window of the whole time."""
    seconds: float | None = Field(default=None, gt=0)
    """Time that the windows cover together, from the first value on: what comes later is cut off, and a shorter
    recording holds its last value. None covers each recording from end to end, so that a longer one is compressed and
    its vibration seems faster."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Average or interpolate each channel.

        Raises:
            ValueError: what comes in is no series, or has no value.
        """
        import torch

        value = expect_series(value, self)
        channels = value.values.shape[1]
        bins = self.length * (self.steps or 1)
        _, lasts = extent(value.times)
        # Gaps do not make the others longer.
        interval = float(np.median(np.diff(value.times))) if len(value.times) > 1 else lasts
        bin_position = (value.times - value.times[0]) * bins / (lasts if self.seconds is None else self.seconds)
        # A value on the edge of two bins is in the later one, also where rounding puts it a little before.
        index = np.floor(bin_position + 1e-6).astype(np.int64)
        inside = index < bins
        counts = np.bincount(index[inside], minlength=bins)
        # Where a value is the mean of the time until the next one, its middle is half an interval later.
        width = bins * interval / (lasts if self.seconds is None else self.seconds)
        middles = np.arange(bins) + 0.5
        averaged = (counts > 0) & (width < SPARSE)
        values = np.empty((channels, bins))
        for number, channel in enumerate(value.values.T.astype(np.float64)):
            sums = np.bincount(index[inside], channel[inside], minlength=bins)
            values[number] = np.interp(middles, bin_position + width / 2, channel)
            values[number, averaged] = (sums / counts.clip(min=1))[averaged]
        windows = torch.from_numpy(values.astype(np.float32))
        if self.steps is None:
            return windows
        return torch.stack(windows.chunk(self.steps, dim=1))


def expect_series(value: object, stage: Stage) -> Series:
    """A series with a time for each value.

    Raises:
        ValueError: it is something else, or has no value.
    """
    if not isinstance(value, Series):
        raise ValueError(
            f"{type(stage).__name__} takes Series, but {type(value).__name__} comes in; use an encoder for that, or "
            "correct the stage before this one"
        )
    if not len(value.values) or len(value.values) != len(value.times):
        raise ValueError(
            f"a series has {len(value.values)} values and {len(value.times)} times; it needs a time for each value, "
            "and at least one"
        )
    return value


def extent(times: NDArray[np.float64]) -> tuple[float, float]:
    """Average interval and length in seconds, where the last value lasts one interval; one value alone lasts 1 s."""
    measured = float(times[-1] - times[0])
    if measured <= 0:
        return 1.0, 1.0
    interval = measured / (len(times) - 1)
    return interval, interval * len(times)


def window_length(rows: int, *, most: int) -> int:
    """Values of a window for so many rows: all of them, or means of equally many, at most `most`."""
    return -(-rows // -(-rows // most))
