"""Series as tables in text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_series_csv(
    path: Path,
    values: np.ndarray,
    *,
    times: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    delimiter: str = ",",
) -> None:
    """Write values [L, C], after a column of times where there are some, under a line of names where there are some."""
    table = values if times is None else np.column_stack([times, values])
    lines = [delimiter.join(names)] if names else []
    lines += [delimiter.join(repr(float(cell)) for cell in row) for row in table]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
