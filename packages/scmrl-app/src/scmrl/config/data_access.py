"""Options of every command that reads the data of a run. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class DataAccess:
    """Location of a run's data, which may have been moved or changed since training."""

    root: Annotated[
        Path | None,
        Parameter(name="--data.root", help="folder of the data; none: as in training."),
    ] = None
    cache_folder: Annotated[
        Path | None,
        Parameter(
            name="--data.cache_folder",
            help="folder for caches; none: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder.",
        ),
    ] = None
    accept_changes: Annotated[
        bool,
        Parameter(
            name="--accept-changed-data",
            negative="",
            help="continue although the data differ from those of training, and note it.",
        ),
    ] = False


AS_TRAINED = DataAccess()
"""Data unchanged and in the same folder as in training."""
