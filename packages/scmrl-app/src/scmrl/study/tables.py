"""Findings of a study as tables for people and programs: CSV, Markdown and results.json."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scmrl.console.tables import DataTable, escape_markdown
from scmrl.results.study import ResultPlot, ResultTable, StudyResults
from scmrl.run_folder.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PART = ".part-"
"""Prefix of the names of files that are not complete yet."""


@dataclass(frozen=True)
class StudyTable:
    """One table; the first column names its rows."""

    name: str
    """Name of its file, without .csv."""
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the title and the table as Markdown."""
        return DataTable(self.title, self.columns, self.rows).markdown()

    def csv(self) -> str:
        """Return the table as comma-separated values with a header line."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


@dataclass(frozen=True, eq=False)
class StudyPlot:
    """One plot."""

    name: str
    """Name of its files, without .svg and .png."""
    title: str
    figure: Figure


@dataclass(frozen=True, eq=False)
class StudyFindings:
    """Tables, plots and notes of a study."""

    kind: str
    title: str
    tables: Sequence[StudyTable]
    plots: Sequence[StudyPlot] = ()
    notes: Sequence[str] = field(default=())
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further text files, by name."""

    def write(self, folder: Path) -> list[Path]:
        """Write every table as CSV, all tables as results.md, every plot as SVG and PNG, and results.json last.

        Several commands that share a study may write at the same time.

        Raises:
            OSError: a file cannot be written, for example because the disk is full; the previous file is unchanged.
        """
        written: list[Path] = []
        for table in self.tables:
            written.append(write_shared_text(folder / f"{table.name}.csv", table.csv()))
        plots: list[ResultPlot] = []
        for plot in self.plots:
            name = f"{plot.name}.svg"
            for path in (folder / name, (folder / name).with_suffix(".png")):
                with atomic_write(path, part=_part_path(path)) as part:
                    plot.figure.savefig(part, bbox_inches="tight", dpi=150, format=path.suffix[1:])
                written.append(path)
            plots.append(ResultPlot(title=plot.title, file=name))
        written += [write_shared_text(folder / name, text) for name, text in self.files.items()]
        document = [f"# {escape_markdown(self.title)}", "", *(f"> {escape_markdown(note)}\n" for note in self.notes)]
        document += [table.markdown() for table in self.tables]
        document += [f"![{escape_markdown(plot.title)}]({plot.file})\n" for plot in plots]
        written.append(write_shared_text(folder / "results.md", "\n".join(document)))
        content = self.to_results(plots).model_dump(mode="json")
        return [*written, write_shared_text(folder / "results.json", json.dumps(content, indent=2) + "\n")]

    def to_results(self, plots: Sequence[ResultPlot] = ()) -> StudyResults:
        """Return the content of results.json, with the plots that have been written."""
        return StudyResults(
            kind=self.kind,
            title=self.title,
            notes=tuple(self.notes),
            tables=tuple(
                ResultTable(title=table.title, columns=tuple(table.columns), rows=tuple(map(tuple, table.rows)))
                for table in self.tables
            ),
            plots=tuple(plots),
        )


def write_shared_text(path: Path, text: str) -> Path:
    """Write a file atomically, through a temporary name that no other process uses.

    Raises:
        OSError: the file cannot be written; the previous file is unchanged.
    """
    with atomic_write(path, part=_part_path(path)) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _part_path(path: Path) -> Path:
    return path.with_name(f"{PART}{secrets.token_hex(4)}-{path.name}")
