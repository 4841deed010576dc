"""MATLAB 5 files, written by SciPy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat


def write_mat(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> None:
    """Write arrays by name, as MATLAB's `save` does with -v7, or -v6 if not compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(arrays), do_compression=compressed)
