"""What a study found, as tables that people and programs read: CSV, Markdown and results.json."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scmrl.engine.run_folder import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT_VERSION = 1
"""Of results.json; raised when what is there changes its meaning."""


@dataclass(frozen=True)
class StudyTable:
    """One table; the first column names its rows."""

    name: str
    """Of its file, without .csv."""
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table as Markdown, with its title above."""
        marks = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [self.columns, *self.rows]
        text = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
        return "\n".join([f"## {_escaped(self.title)}", "", text[0], "| " + " | ".join(marks) + " |", *text[1:], ""])

    def csv(self) -> str:
        """The table as comma-separated values, with a line of titles."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


@dataclass(frozen=True, eq=False)
class StudyPlot:
    """One picture."""

    name: str
    """Of its files, without .svg and .png."""
    title: str
    figure: Figure


@dataclass(frozen=True, eq=False)
class Findings:
    """What a study found; `write` puts it into the study's folder."""

    kind: str
    title: str
    tables: Sequence[StudyTable]
    plots: Sequence[StudyPlot] = ()
    notes: Sequence[str] = field(default=())

    def write(self, folder: Path) -> list[Path]:
        """Write every table as CSV, all of them as results.md, every plot as SVG and PNG, and results.json last."""
        written: list[Path] = []
        for table in self.tables:
            written.append(_write(folder / f"{table.name}.csv", table.csv()))
        plots: list[dict[str, str]] = []
        for plot in self.plots:
            name = f"{plot.name}.svg"
            for path in (folder / name, (folder / name).with_suffix(".png")):
                beside = path.with_name(f".part-{path.name}")
                plot.figure.savefig(beside, bbox_inches="tight", dpi=150, format=path.suffix[1:])
                beside.replace(path)
                written.append(path)
            plots.append({"title": plot.title, "file": name})
        document = [f"# {_escaped(self.title)}", "", *(f"> {_escaped(note)}\n" for note in self.notes)]
        document += [table.markdown() for table in self.tables]
        document += [f"![{_escaped(plot['title'])}]({plot['file']})\n" for plot in plots]
        written.append(_write(folder / "results.md", "\n".join(document)))
        write_json(
            folder / "results.json",
            {
                "format_version": FORMAT_VERSION,
                "kind": self.kind,
                "title": self.title,
                "notes": list(self.notes),
                "tables": [
                    {"title": t.title, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
                    for t in self.tables
                ],
                "plots": plots,
            },
        )
        return [*written, folder / "results.json"]


def _write(path: Path, text: str) -> Path:
    beside = path.with_name(f".part-{path.name}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path


def _escaped(text: str) -> str:
    """Names come from users' files: they must not become markup."""
    text = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)
