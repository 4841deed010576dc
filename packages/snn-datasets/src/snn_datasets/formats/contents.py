"""Detection of the kind of recording in a file, by its extension and, if that is ambiguous, by its content.

Does not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.kinds import KIND_OF, RecordingKind
from snn_datasets.formats.file_signature import conversion_advice, format_of, unsupported_format

T_NAMES = ("t", "ts", "time", "timestamp", "timestamps")
X_NAMES = ("x", "addr", "address", "channel")
ROWS_INSPECTED = 100_000
"""Rows inspected to decide whether the columns of an array may be events."""


def kinds_of(path: Path) -> tuple[RecordingKind, ...]:
    """Return the kinds of recording that a file may hold, the likeliest first; empty if no reader takes it.

    .npy files are inspected: structured records with a time and a coordinate are events, four columns of integers that
    could be t, x, y and p may be events or a series, all other numbers are a series. Damage is left to the reader.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return _of_npy(path)
    kind = KIND_OF.get(ending)
    if kind == "series" and event_columns(path):
        return ()
    if ending == ".aedat" and format_of(path) == "a Prophesee event file":
        return ()
    return () if kind is None else (kind,)


def why_unreadable(path: Path) -> str | None:
    """Explain why no reader takes a file, as in "it is an HDF5 file; save ..."; None if its format is unknown."""
    if names := event_columns(path):
        return (
            f"it is a table of events ({', '.join(names)}); save them as an .npz file of arrays x, y, t (in "
            "microseconds) and p, for instance with pandas.read_csv and numpy.savez"
        )
    name = unsupported_format(path)
    if name is None:
        return None
    advice = conversion_advice(name)
    return f"it is {name}" + (f"; {advice}" if advice is not None else "")


def event_columns(path: Path) -> tuple[str, ...]:
    """Return the column names of a text file if they are those of events: a time, x, y and a polarity.

    iniVation's DV and many scripts write such files; read as a series they would be meaningless channels.
    """
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return ()
    try:
        with path.open("rb") as file:
            line = file.read(256).decode("utf-8-sig", errors="replace").splitlines()[:1]
    except OSError:
        return ()
    if not line:
        return ()
    cells = line[0].strip("# ").replace(";", ",").replace("\t", ",").split(",")
    names = tuple(cell.strip().strip('"') for cell in cells)
    return names if is_events_header(names) else ()


def is_events_header(names: tuple[str, ...]) -> bool:
    """Return whether columns with these names are events."""
    lower = {name.lower() for name in names}
    return {"x", "y"} <= lower and not lower.isdisjoint(T_NAMES) and not lower.isdisjoint(("p", "pol", "polarity"))


def _of_npy(path: Path) -> tuple[RecordingKind, ...]:
    try:
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception:  # a damaged header raises many types; the series reader reports the damage
        return ("series",)
    if array.dtype.names is not None:
        lower = {name.lower() for name in array.dtype.names}
        return () if lower.isdisjoint(T_NAMES) or lower.isdisjoint(X_NAMES) else ("events",)
    return ("events", "series") if _may_be_events(array) else ("series",)


def _may_be_events(array: NDArray[Any]) -> bool:
    """Return whether an array may be the columns t, x, y, p [E, 4]: integers, t sorted, p with two values."""
    if array.ndim != 2 or array.shape[1] != 4 or array.shape[0] < 2 or array.dtype.kind not in "iuf":
        return False
    rows = np.asarray(array[:ROWS_INSPECTED], np.float64)
    whole = bool(np.isfinite(rows).all()) and bool((rows == np.floor(rows)).all())
    t, x, y, p = rows.T
    ordered = bool((np.diff(t) >= 0).all()) and t[-1] > t[0]
    on_plane = bool((x >= 0).all() and (y >= 0).all() and max(x.max(), y.max()) < 2**15)
    return whole and ordered and on_plane and set(np.unique(p).tolist()) in ({0.0, 1.0}, {-1.0, 1.0})
