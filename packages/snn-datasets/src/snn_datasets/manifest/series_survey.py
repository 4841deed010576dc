"""Survey of the length and rate of training series, and the choice of a coding for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Stage
from snn_datasets.modalities.series import Standardize
from snn_datasets.stages.codings import Steps
from snn_datasets.stages.windows import SeriesWindows, interval_and_duration, window_length

SURVEYED = 64
"""Training recordings that are read to choose a coding."""
LONGEST_WINDOW = 4096
"""Values of a window; more rows are averaged."""
FEW_ROWS = 4
"""Rows per time step below which the mean of each step loses little."""
MOST_MEDIANS = 2.0
"""Longest window in multiples of the median length, so that one outlier does not decide for all."""
ALIKE = 1.02
"""Ratio of window length to recording length up to which nothing is reported."""


@dataclass(frozen=True, slots=True)
class SeriesSurvey:
    """Lengths, rate and scale of the series of a modality."""

    rows: int
    """Rows of the longest recording."""
    shortest: float
    """Seconds."""
    median: float
    longest: float
    interval: float
    """Median seconds between two rows."""
    standardize: Standardize
    """Mean and standard deviation of each channel."""

    @classmethod
    def of(cls, recordings: Sequence[Series]) -> SeriesSurvey:
        """Measure some recordings of the same channels."""
        extents = [interval_and_duration(series.times) for series in recordings]
        return cls(
            rows=max(len(series.times) for series in recordings),
            shortest=min(seconds for _, seconds in extents),
            median=float(np.median([seconds for _, seconds in extents])),
            longest=max(seconds for _, seconds in extents),
            interval=float(np.median([interval for interval, _ in extents])),
            standardize=Standardize.of(np.concatenate([series.values for series in recordings])),
        )


def choose(name: str, survey: SeriesSurvey, *, steps: int, known_rate: bool) -> tuple[tuple[Stage, ...], str]:
    """Choose the coding of such series; return its stages and a note on what becomes of the rows.

    Few rows become the mean of each time step. More rows become one static window as long as the longest recording, so
    that all recordings, those predicted later included, keep their time scale.
    """
    if survey.rows < FEW_ROWS * steps:
        return (survey.standardize, Steps(steps=steps)), f"{name}: {describe_average(survey.rows, steps)}"
    seconds = min(survey.longest, MOST_MEDIANS * survey.median)
    rows = min(survey.rows, max(1, round(seconds / survey.interval))) if seconds < survey.longest else survey.rows
    length = window_length(rows, most=LONGEST_WINDOW)
    window = SeriesWindows(length=length, seconds=seconds)
    rows_text = f"{rows:,} rows" + (f" at {1 / survey.interval:.6g} Hz" if known_rate else "")
    note = f"{name}: {rows_text} become a window of {length:,} values"
    if length < rows:
        note += (
            f", {_share(rows, length)} rows are averaged into one; columns.{name}.coding.kind window and "
            f"columns.{name}.coding.length take more"
        )
    if seconds > ALIKE * survey.shortest:
        note += f"; shorter recordings (from {_seconds(survey.shortest, known_rate)}) hold their last value"
    if survey.longest > seconds:
        note += f"; longer ones (up to {_seconds(survey.longest, known_rate)}) are cut off"
    return (survey.standardize, window), note


def describe_average(rows: int, steps: int) -> str:
    """Describe averaging so many rows over time steps."""
    if rows <= steps:
        return f"{rows:,} rows become {steps} steps"
    return f"{rows:,} rows become {steps} steps, {_share(rows, steps)} rows are averaged into one"


def _share(rows: int, values: int) -> str:
    low, high = rows // values, -(-rows // values)
    return f"{low:,}" if low == high else f"{low:,} or {high:,}"


def _seconds(seconds: float, known_rate: bool) -> str:
    return f"{seconds:.3g} s" if known_rate else f"{round(seconds):,} rows"
