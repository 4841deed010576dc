"""Options with which every command reaches the data of a run. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class DataAccess:
    """How a command reaches the data of a run, which may have been moved or changed since the training."""

    root: Annotated[
        Path | None,
        Parameter(name="--data.root", help="folder where the data are now; none: where they were in training."),
    ] = None
    cache_folder: Annotated[
        Path | None,
        Parameter(
            name="--data.cache_folder",
            help="folder of the caches; none: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder.",
        ),
    ] = None
    accept_changes: Annotated[
        bool,
        Parameter(
            name="--accept-changed-data",
            negative="",
            help="go on although the data are not those of the training, and note it.",
        ),
    ] = False


AS_TRAINED = DataAccess()
"""The data where they were in training, unchanged."""
