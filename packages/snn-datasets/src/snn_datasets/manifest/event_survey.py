"""Inference of the event sensor from training files: its size, its polarities, its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.reader import ReadError
from snn_datasets.formats.event_arrays import read_event_columns
from snn_datasets.modalities.events import EventsReader

SENSORS = (
    *((side, side) for side in (8, 10, 16, 28, 32, 34, 64, 128, 256)),
    *((180, 240), (240, 304), (260, 346), (240, 320), (320, 320), (480, 640), (720, 1280), (800, 1280)),
)
"""Heights and widths of common sensors and datasets."""
NEAR = 0.9
"""Fraction of a common sensor's height and width that the events must reach to match it."""


@dataclass(frozen=True, slots=True)
class EventSurvey:
    """The inferred reader, and notes for the user."""

    reader: EventsReader
    notes: tuple[str, ...]


def survey_events(name: str, paths: Sequence[Path]) -> EventSurvey:
    """Infer the reader of a column of events from its training files.

    The size is that of the smallest common sensor that holds all events, if they nearly fill it, else the largest
    coordinates that occur. Unreadable files are skipped; reading them later reports the error.

    Raises:
        ReadError: none of the files can be read.
    """
    height = width = 1
    has_polarity, has_fractions, late, read = False, False, 0, 0
    longest = 0.0
    problem: ReadError | None = None
    for path in paths:
        try:
            columns = read_event_columns(path)
        except (ReadError, OSError) as error:
            problem = problem or (error if isinstance(error, ReadError) else ReadError(f"{path}: {error.strerror}"))
            continue
        t = columns["t"]
        if not _plausible(columns):
            continue  # the reader will refuse it with the reason
        read += 1
        has_polarity |= "p" in columns
        if not len(t):
            continue
        width = max(width, int(columns["x"].max()) + 1)
        height = max(height, int(columns["y"].max()) + 1 if "y" in columns else 1)
        has_fractions |= t.dtype.kind == "f" and bool((t != np.floor(t)).any())
        first, last = float(t.min()), float(t.max())
        longest = max(longest, last - first)
        late += first > last - first
    if not read:
        raise problem or ReadError(f"column {name!r} has no training file of events")
    notes: list[str] = []
    sensor = _sensor(height, width)
    polarities = "2 polarities" if has_polarity else "1 polarity"
    files = f"{read} training file{'s' * (read > 1)}"
    notes.append(f"{name}: sensor of {sensor[0]} x {sensor[1]} pixels (height x width), {polarities}, from {files}")
    if has_fractions:
        notes.append(
            f"{name}: times are fractions, so they are read as seconds (the longest recording lasts {longest:g} s); "
            f"set columns.{name}.reader.time_unit to change this"
        )
    if late * 2 > read:
        notes.append(f"{name}: recordings start at their first event, since most start long after time 0")
    reader = EventsReader(
        height=sensor[0],
        width=sensor[1],
        polarities=2 if has_polarity else 1,
        time_unit="s" if has_fractions else "us",
        start="first" if late * 2 > read else "zero",
    )
    return EventSurvey(reader, tuple(notes))


def _plausible(columns: Mapping[str, NDArray[Any]]) -> bool:
    coordinates = [columns[axis].astype(np.float64) for axis in ("x", "y") if axis in columns]
    return bool(np.isfinite(columns["t"].astype(np.float64)).all()) and all(
        bool(((values >= 0) & (values < 2**15)).all()) for values in coordinates
    )


def _sensor(height: int, width: int) -> tuple[int, int]:
    fitting = [(h, w) for h, w in SENSORS if NEAR * h <= height <= h and NEAR * w <= width <= w]
    return min(fitting, key=lambda size: size[0] * size[1], default=(height, width))
