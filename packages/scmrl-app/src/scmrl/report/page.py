"""One page of HTML about runs and studies, complete in itself: no script, no file or font from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from scmrl import __version__
from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress, format_duration
from scmrl.energy.output import format_joules
from scmrl.engine.diagnostics import SATURATED, SILENT
from scmrl.report import wording
from scmrl.report.alone import runs_alone
from scmrl.report.drawings import lines
from scmrl.report.findings import Findings, find_out
from scmrl.report.folders import RunFiles, StudyFiles, read_folder
from scmrl.report.pictures import Room, Shown, plot_of, shown
from scmrl.report.sections import RunSection, StudySection
from scmrl.report.settings import differences

EXAMPLES = (4, 2)
"""Samples explained of one run, and of each of several."""


def page(folders: Sequence[Path], progress: Progress, access: DataAccess | None = None) -> str:
    """The page about some runs and studies.

    Args:
        folders: of runs and studies, in the order in which they are to be shown.
        progress: the display; it also tells what the page lacks.
        access: where the data of the runs are now.

    Raises:
        ValueError: a folder that is neither, twice the same one, a run that is not finished, or a damaged file.
    """
    if twice := [path for path, times in Counter(folder.resolve() for folder in folders).items() if times > 1]:
        raise ValueError(f"{twice[0]} is given twice; name it once")
    contents = [each for folder in folders for each in read_folder(folder, access)]
    names = _names(folders)
    room = Room()
    studies: list[StudySection] = []
    for content in contents:
        if isinstance(content, StudyFiles):
            id_ = f"study-{len(studies) + 1}"
            plots = [plot_of(content, number) for number in range(len(content.results.plots))]
            fit = [room.takes(plot) for plot in plots]
            studies.append(
                StudySection(
                    id_,
                    names[content.folder],
                    content,
                    [plot for plot, fits in zip(plots, fit, strict=True) if fits],
                    [plot.file for plot, fits in zip(content.results.plots, fit, strict=True) if not fits],
                )
            )
    runs = _runs([each for each in contents if isinstance(each, RunFiles)], names, room, progress)
    return _render(runs, studies)


def _runs(files: Sequence[RunFiles], names: Mapping[Path, str], room: Room, progress: Progress) -> list[RunSection]:
    examples = EXAMPLES[len(files) > 1]
    found: list[Findings] = []
    for each in files:
        if len(files) > 1:
            progress.info(f"{names[each.folder]}:")
        found.append(find_out(each, examples=examples, progress=progress))
        for missing in found[-1].missing:
            progress.warn(f"{names[each.folder]}: the page is without {missing.what}: {missing.why}")
    pictured: list[list[Shown]] = [[] for _ in files]
    with progress.phase("drawing", sum(len(each.examples) for each in found), "samples") as phase:
        for number, (each, mine) in enumerate(zip(found, pictured, strict=True), 1):
            for place, example in enumerate(each.examples, 1):
                mine.append(shown(example, name=f"run-{number}-sample-{place}"))
                phase.advance()
    # Where room is short, every run has its first example before another has its second.
    fit: list[list[Shown]] = [[] for _ in files]
    for place in range(examples):
        for mine, taken in zip(pictured, fit, strict=True):
            if place < len(mine) and room.takes(*mine[place].pictures):
                taken.append(mine[place])
    return [
        RunSection(
            f"run-{number}", names[each.folder], each, findings, mine, len(all_) - len(mine), runs_alone(each, files)
        )
        for number, (each, findings, mine, all_) in enumerate(zip(files, found, fit, pictured, strict=True), 1)
    ]


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The folders' own names, and the whole path of those that share theirs with others."""
    times = Counter(folder.resolve().name for folder in folders)
    return {folder: name if times[name := folder.resolve().name] == 1 else str(folder) for folder in folders}


def _render(runs: Sequence[RunSection], studies: Sequence[StudySection]) -> str:
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=wording.visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "interval": wording.interval,
        "joules": format_joules,
        "count": wording.count,
        "breakable": wording.breakable,
        "duration": format_duration,
    }
    curves = [
        (
            f"{run.name} (test split, as published)" if run.selects_on_test else run.name,
            run.files.history,
            "val_accuracy",
        )
        for run in runs
        if run.files.history
    ]
    if len(runs) + len(studies) == 1:
        title = (
            f"{' + '.join(runs[0].files.summary.modalities)} of {runs[0].files.summary.data}"
            if runs
            else studies[0].files.results.title
        )
    else:
        title = " and ".join(
            f"{len(each)} {name if len(each) == 1 else plural}"
            for each, name, plural in ((runs, "run", "runs"), (studies, "study", "studies"))
            if each
        )
    return templates.get_template("page.html.j2").render(
        version=__version__,
        title=title,
        runs=runs,
        studies=studies,
        differing=differences([run.files.experiment for run in runs]) if len(runs) > 1 else [],
        together=lines(curves, "validation accuracy", None, name="runs") if len(curves) > 1 else None,
        silent=SILENT,
        saturated=SATURATED,
    )
