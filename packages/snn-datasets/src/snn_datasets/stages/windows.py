"""A coding of series as windows, which preserve fast vibration, and the choice of a window length."""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.stages.codings import expect_series

if TYPE_CHECKING:
    from torch import Tensor


SPARSE = 1.05
"""Bins per value above which all bins are interpolated; mixing means of single values in would make steps."""


class SeriesWindows(Stage):
    """Resample a series to evenly spaced values, as one static window or one window per time step.

    Time is split into T equal spans, a window each, and each window into `length` equal bins. A bin is the mean of its
    values; empty bins are interpolated linearly, and so are all bins if there are more bins than values. With as many
    bins as rows the values are unchanged.

    Shape: `Series` [L, C] -> [C, length] static, or [T, C, length] with steps, in the unit of the series
    """

    kind: Literal["window"] = "window"
    """Windows of a series."""
    length: int = Field(ge=1, le=2**20)
    """Values in a window."""
    steps: int | None = Field(default=None, ge=1)
    """Time steps T, a window each; None makes one static window."""
    seconds: float | None = Field(default=None, gt=0)
    """Total duration of the windows, from the first value on: later values are cut off, and a shorter recording holds
    its last value. None covers each recording from end to end, so that a longer one is compressed in time and its
    vibration seems faster."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Average or interpolate each channel."""
        import torch

        value = expect_series(value, self)
        channels = value.values.shape[1]
        bins = self.length * (self.steps or 1)
        _, duration = interval_and_duration(value.times)
        seconds = self.seconds or duration
        # The median, so that gaps do not lengthen the other intervals.
        interval = float(np.median(np.diff(value.times))) if len(value.times) > 1 else duration
        bin_position = (value.times - value.times[0]) * bins / seconds
        # A value on the edge of two bins belongs to the later one; the tolerance absorbs rounding.
        index = np.floor(bin_position + 1e-6).astype(np.int64)
        inside = index < bins
        counts = np.bincount(index[inside], minlength=bins)
        # A value stands for the time until the next one, so its middle is half an interval later.
        width = bins * interval / seconds
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


def interval_and_duration(times: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean interval and duration in seconds; the last value lasts one interval, a single value 1 s."""
    measured = float(times[-1] - times[0])
    if measured <= 0:
        return 1.0, 1.0
    interval = measured / (len(times) - 1)
    return interval, interval * len(times)


def window_length(rows: int, *, most: int) -> int:
    """Return the length of a window for so many rows: as many, or means of equally many rows, at most `most`."""
    return -(-rows // -(-rows // most))
