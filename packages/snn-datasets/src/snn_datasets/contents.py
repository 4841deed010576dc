"""What kind of recording a file holds, by its ending, and by its content where the ending does not tell.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_datasets.file_signature import cure, describe, foreign
from snn_datasets.kinds import KIND_OF, RecordingKind

T_NAMES = ("t", "ts", "time", "timestamp", "timestamps")
X_NAMES = ("x", "addr", "address", "channel")
ROWS_LOOKED_AT = 100_000
"""Of an array whose columns may be those of events."""


def kinds_of(path: Path) -> tuple[RecordingKind, ...]:
    """Kinds of recording that a file may hold, the likeliest first; empty if no reader takes it.

    A .npy file is looked into: structured records with a time and a place are events, four columns of whole numbers
    that could be t, x, y and p may be events or a series, all other numbers are a series. Whether the file is whole is
    for its reader to say.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return _of_npy(path)
    kind = KIND_OF.get(ending)
    if kind == "series" and event_columns(path):
        return ()
    if ending == ".aedat" and describe(path) == "a Prophesee event file":
        return ()
    return () if kind is None else (kind,)


def why_unreadable(path: Path) -> str | None:
    """What a file is that no reader takes, with what to do, as in "it is an HDF5 file; save ..."; None if unknown."""
    if names := event_columns(path):
        return (
            f"it is a table of events ({', '.join(names)}); save them as an .npz file of arrays x, y, t (in "
            "microseconds) and p, for instance with pandas.read_csv and numpy.savez"
        )
    name = foreign(path)
    if name is None:
        return None
    advice = cure(name)
    return f"it is {name}" + (f"; {advice}" if advice is not None else "")


def event_columns(path: Path) -> tuple[str, ...]:
    """The names in the first line of a text file, if they are those of events: a time, x, y and a polarity.

    So iniVation's DV and many scripts write events; read as a series they would be channels that mean nothing.
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
    """Whether columns of these names are events."""
    lower = {name.lower() for name in names}
    return {"x", "y"} <= lower and not lower.isdisjoint(T_NAMES) and not lower.isdisjoint(("p", "pol", "polarity"))


def _of_npy(path: Path) -> tuple[RecordingKind, ...]:
    try:
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception:  # a damaged header raises errors of many types; the reader of series tells what is wrong
        return ("series",)
    if array.dtype.names is not None:
        lower = {name.lower() for name in array.dtype.names}
        return () if lower.isdisjoint(T_NAMES) or lower.isdisjoint(X_NAMES) else ("events",)
    return ("events", "series") if _may_be_events(array) else ("series",)


def _may_be_events(array: NDArray[Any]) -> bool:
    """Whether columns t, x, y, p could be what an array [E, 4] holds: whole numbers, t in order, p of two values."""
    if array.ndim != 2 or array.shape[1] != 4 or array.shape[0] < 2 or array.dtype.kind not in "iuf":
        return False
    rows = np.asarray(array[:ROWS_LOOKED_AT], np.float64)
    whole = bool(np.isfinite(rows).all()) and bool((rows == np.floor(rows)).all())
    t, x, y, p = rows.T
    ordered = bool((np.diff(t) >= 0).all()) and t[-1] > t[0]
    on_plane = bool((x >= 0).all() and (y >= 0).all() and max(x.max(), y.max()) < 2**15)
    return whole and ordered and on_plane and set(np.unique(p).tolist()) in ({0.0, 1.0}, {-1.0, 1.0})
