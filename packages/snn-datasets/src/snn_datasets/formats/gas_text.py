"""Readers of the text files of two gas sensor datasets of UC San Diego (UCI 322, and UCI 224 or 270)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Series
from snn_datasets.formats.series_table import is_number

SENSORS = 16
FEATURES = 128
BATCHES = 10
LONGEST_SECONDS = 1e7
"""Longest recording; the published ones last twelve hours."""
LARGEST = 1e30
"""Bound of sensor values, so that their sums fit into a float."""
LINES = 100_000
"""Lines parsed at once."""
GASES = ("ethanol", "ethylene", "ammonia", "acetaldehyde", "acetone", "toluene")


class GasMixturesReader(Reader):
    """Reads a recording of UCI 322: a header line, then 19 columns of text at about 100 Hz, averaged on reading.

    The part of a source is (start, stop) in seconds and selects the 16 sensors in that span; without one, the whole
    recording is returned with the set points of the second gas and of ethylene as its first two columns. The text is
    parsed once per process while the file is unchanged.
    """

    kind: Literal["gas-mixtures"] = "gas-mixtures"
    """UCI 322."""
    gives: ClassVar[RecordingKind] = "series"
    rate: float = Field(default=10.0, gt=0, le=100)
    """Values per second; each is the mean of a span, and its time is the middle of the span. Spans without a row are
    missing. Set points are those at the end of the span."""

    def read(self, source: Source) -> Series:
        """Read a recording or a span of it."""
        path = self.open_file(source)
        status = path.stat()
        table = _mixtures(path, status.st_size, status.st_mtime_ns, self.rate)
        if not source.part:
            return table
        window = sensors_within(table, source)
        if not len(window.values):
            raise ReadError(f"{source} has no values in this span")
        return window


class GasDriftReader(Reader):
    """Reads one measurement of UCI 224 or 270: line n (from 0) of a batch, for a source with the part (n,).

    A line is `gas 1:value ... 128:value`, or `gas;concentration 1:value ...`, with gases 1 to 6. A batch is parsed once
    per process while the file is unchanged.
    """

    kind: Literal["gas-drift"] = "gas-drift"
    """UCI 224 or 270."""
    gives: ClassVar[RecordingKind] = "series"

    def read(self, source: Source) -> Series:
        """Read one measurement as a series of one row."""
        _, features = self.batch(source.path)
        line = source.part[0] if len(source.part) == 1 else None
        if not isinstance(line, int) or not 0 <= line < len(features):
            raise ReadError(f"{source}: the part must be (line,), the index of one of its {len(features)} lines")
        return Series(features[line : line + 1].astype(np.float32), np.zeros(1))

    def batch(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return labels (0 to 5) and features [N, 128] of every measurement in a batch; raises what `read` does."""
        status = self.open_file(Source(path)).stat()
        return _batch(path, status.st_size, status.st_mtime_ns)


def sensors_within(table: Series, source: Source) -> Series:
    """Return the sensors in the part of a source; time then counts from its start."""
    start, stop = source.seconds() or (0.0, math.inf)
    first, end = np.searchsorted(table.times, [start, stop]).tolist()
    return Series(table.values[first:end, 2:].copy(), table.times[first:end] - start)


@lru_cache(maxsize=2)
def _mixtures(path: Path, _size: int, _changed: int, rate: float) -> Series:
    """Return a whole recording, averaged: set points [L, 2] and sensors [L, 16]."""
    spans: list[NDArray[np.int64]] = []
    sums: list[NDArray[np.float64]] = []
    counts: list[NDArray[np.int64]] = []
    last: list[NDArray[np.float64]] = []
    latest = -math.inf
    for line, numbers in _chunks(path):
        seconds = numbers[:, 0]
        # Written so that NaN also fails the check.
        if not (np.abs(numbers) < LARGEST).all() or seconds[0] < max(latest, 0) or (np.diff(seconds) < 0).any():
            raise ReadError(
                f"{path}: after line {line} a value is NaN or out of range, or time decreases; fetch it again"
            )
        latest = float(seconds[-1])
        if latest > LONGEST_SECONDS:
            raise ReadError(f"{path}: after line {line} time reaches {latest:g}; the first column must be in seconds")
        span = np.floor(seconds * rate + 1e-6).astype(np.int64)
        starts = np.flatnonzero(np.diff(span, prepend=span[0] - 1))
        spans.append(span[starts])
        sums.append(np.add.reduceat(numbers[:, 3:], starts))
        counts.append(np.diff(starts, append=len(span)))
        last.append(numbers[np.append(starts[1:], len(span)) - 1, 1:3])
    if not spans:
        raise ReadError(f"{path} has no numeric line; fetch it again")
    span, count = np.concatenate(spans), np.concatenate(counts)
    # Two chunks may share a span.
    starts = np.flatnonzero(np.diff(span, prepend=span[0] - 1))
    mean = np.add.reduceat(np.concatenate(sums), starts) / np.add.reduceat(count, starts)[:, None]
    set_points = np.concatenate(last)[np.append(starts[1:], len(span)) - 1]
    values = np.concatenate([set_points, mean], axis=1).astype(np.float32)
    return Series(values, np.asarray((span[starts] + 0.5) / rate, np.float64))


def _chunks(path: Path) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the numbers [n, 19] of up to `LINES` lines at once, each with the number of the line before."""
    try:
        with path.open(encoding="utf-8") as file:
            line = 1
            if is_number(file.readline().partition(" ")[0]):  # some copies lack the header line
                file.seek(0)
                line = 0
            while lines := list(islice(file, LINES)):
                rows = [text for text in lines if text.strip()]
                if rows:
                    numbers: NDArray[np.float64] = np.loadtxt(rows, comments=None, ndmin=2)
                    if numbers.shape[1] != 3 + SENSORS:
                        raise ValueError(f"a line has {numbers.shape[1]} numbers instead of {3 + SENSORS}")
                    yield line, numbers
                line += len(lines)
    except ValueError as error:  # text instead of a number, a short line, not UTF-8
        raise ReadError(f"{path} is not a recording of gas mixtures: {error}; fetch it again") from error


@lru_cache(maxsize=BATCHES)
def _batch(path: Path, _size: int, _changed: int) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return labels and features of a batch."""
    labels: list[int] = []
    features: list[list[float]] = []
    expected = [str(number) for number in range(1, FEATURES + 1)]
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                gas, *named = line.split()[: FEATURES + 2] or [""]
                if not gas:
                    continue
                numbers, _, values = (
                    zip(*(feature.partition(":") for feature in named), strict=True) if named else ((), (), ())
                )
                if list(numbers) != expected:
                    raise ValueError(f"line {len(labels) + 1} does not have the features 1 to {FEATURES}")
                labels.append(int(gas.partition(";")[0]) - 1)
                features.append([float(value) for value in values])
    except ValueError as error:
        raise ReadError(f"{path} is not a batch of gas measurements: {error}; fetch it again") from error
    array = np.array(features, np.float64).reshape(len(labels), FEATURES)
    if not labels or not 0 <= min(labels) <= max(labels) < len(GASES):
        raise ReadError(f"{path} has no measurement, or a gas outside 1 to {len(GASES)}; fetch it again")
    # Written so that NaN also fails the check.
    if not (np.abs(array) < LARGEST).all():
        raise ReadError(f"{path} has a feature that is NaN or inf; fetch it again")
    return tuple(labels), array
