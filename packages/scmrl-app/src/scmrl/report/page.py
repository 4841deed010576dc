"""Render runs and studies as one self-contained HTML page: no scripts, no external files or fonts."""

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
from scmrl.report import formatting
from scmrl.report.analysis import RunAnalysis, analyze_run
from scmrl.report.charts import line_chart
from scmrl.report.folders import RunFiles, StudyFiles, read_folder
from scmrl.report.page_figures import FigureBudget, SampleCard, sample_card, study_figure
from scmrl.report.sections import RunSection, StudySection
from scmrl.report.settings import differing_settings
from scmrl.report.unimodal_runs import unimodal_runs

EXAMPLES = (4, 2)
"""Explained samples if the page has one run, and per run if it has several."""


def render_page(folders: Sequence[Path], progress: Progress, access: DataAccess | None = None) -> str:
    """Render the page.

    Args:
        folders: of runs and studies, in the order of their sections.
        progress: the display; it also reports what the page lacks.
        access: overrides of where the data of the runs are.

    Raises:
        ValueError: a folder is neither a run nor a study, is given twice, holds an unfinished run or a damaged file.
    """
    if duplicates := [path for path, times in Counter(folder.resolve() for folder in folders).items() if times > 1]:
        raise ValueError(f"{duplicates[0]} is given twice; name it once")
    contents = [each for folder in folders for each in read_folder(folder, access)]
    names = _names(folders)
    budget = FigureBudget()
    studies: list[StudySection] = []
    for content in contents:
        if isinstance(content, StudyFiles):
            id_ = f"study-{len(studies) + 1}"
            plots = [study_figure(content, number) for number in range(len(content.results.plots))]
            fits = [budget.reserve(plot) for plot in plots]
            studies.append(
                StudySection(
                    id_,
                    names[content.folder],
                    content,
                    [plot for plot, fit in zip(plots, fits, strict=True) if fit],
                    [plot.file for plot, fit in zip(content.results.plots, fits, strict=True) if not fit],
                )
            )
    runs = _run_sections([each for each in contents if isinstance(each, RunFiles)], names, budget, progress)
    return _render(runs, studies)


def _run_sections(
    runs: Sequence[RunFiles], names: Mapping[Path, str], budget: FigureBudget, progress: Progress
) -> list[RunSection]:
    examples = EXAMPLES[len(runs) > 1]
    analyses: list[RunAnalysis] = []
    for run in runs:
        if len(runs) > 1:
            progress.info(f"{names[run.folder]}:")
        analyses.append(analyze_run(run, examples=examples, progress=progress))
        for omission in analyses[-1].omissions:
            progress.warn(f"{names[run.folder]}: the page is without {omission.content}: {omission.reason}")
    cards: list[list[SampleCard]] = [[] for _ in runs]
    with progress.phase("drawing", sum(len(each.examples) for each in analyses), "samples") as phase:
        for number, (analysis, drawn) in enumerate(zip(analyses, cards, strict=True), 1):
            for index, example in enumerate(analysis.examples, 1):
                drawn.append(sample_card(example, name=f"run-{number}-sample-{index}"))
                phase.advance()
    # If space is short, every run gets its first example before any run gets its second.
    fitting: list[list[SampleCard]] = [[] for _ in runs]
    for index in range(examples):
        for drawn, fits in zip(cards, fitting, strict=True):
            if index < len(drawn) and budget.reserve(*drawn[index].figures):
                fits.append(drawn[index])
    return [
        RunSection(
            f"run-{number}",
            names[run.folder],
            run,
            analysis,
            fits,
            len(drawn) - len(fits),
            unimodal_runs(run, runs),
        )
        for number, (run, analysis, fits, drawn) in enumerate(zip(runs, analyses, fitting, cards, strict=True), 1)
    ]


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each folder, or its whole path if another folder has the same name."""
    times = Counter(folder.resolve().name for folder in folders)
    return {folder: name if times[name := folder.resolve().name] == 1 else str(folder) for folder in folders}


def _render(runs: Sequence[RunSection], studies: Sequence[StudySection]) -> str:
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=formatting.escape_unprintable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "percent": formatting.percent,
        "points": formatting.points,
        "interval": formatting.interval,
        "joules": format_joules,
        "count": formatting.count,
        "breakable": formatting.breakable,
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
        differing_settings=differing_settings([run.files.experiment for run in runs]) if len(runs) > 1 else [],
        joint_chart=line_chart(curves, "validation accuracy", None, name="runs") if len(curves) > 1 else None,
        silent=SILENT,
        saturated=SATURATED,
    )
