"""Events in NumPy files, in common layouts."""

from pathlib import Path
from typing import Any, Literal

import numpy as np


def write_events(
    path: Path, events: np.ndarray, *, how: Literal["columns", "structured", "arrays"], columns: str = "txyp"
) -> None:
    """Write events [E, 4] of columns t, x, y, p: as a matrix in another order, with named fields, or array by array."""
    named: dict[str, Any] = {name: events[:, "txyp".index(name)] for name in columns}
    if how == "columns":
        np.save(path, np.stack(list(named.values()), axis=1))
    elif how == "structured":
        fields = np.dtype([(name, named[name].dtype if name == "t" else np.int16) for name in columns])
        array = np.zeros(len(events), fields)
        for name, column in named.items():
            array[name] = column
        np.save(path, array)
    else:
        np.savez_compressed(path, **named)
