"""The files of a study's folder: study.json and results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

PLOT_SUFFIXES = (".svg", ".png")


class StudyFile(BaseModel):
    """study.json: the study's settings, written when it starts."""

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    """Of the study in the storage."""
    storage: str | None
    """Database address without its password; None: the journal in the folder."""
    spec: dict[str, Any]
    settings: dict[str, Any]
    """What affects the results; must be the same when the study is resumed."""


class ResultTable(BaseModel):
    """A table of a study, its cells formatted."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, but there are {len(self.columns)} columns")
        return self


class ResultPlot(BaseModel):
    """A plot in the folder of results.json."""

    model_config = ConfigDict(frozen=True)

    title: str
    file: str

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        # A manipulated file must not make a page include other files of its reader.
        if Path(self.file).name != self.file or Path(self.file).suffix not in PLOT_SUFFIXES:
            raise ValueError(f"{self.file!r} is not a file name that ends in {' or '.join(PLOT_SUFFIXES)}")
        return self


class StudyResults(BaseModel):
    """results.json: tables and plots of a study."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1] = 1
    """Raised when the meaning of the fields changes."""
    kind: str
    title: str
    notes: tuple[str, ...]
    tables: tuple[ResultTable, ...]
    plots: tuple[ResultPlot, ...]
