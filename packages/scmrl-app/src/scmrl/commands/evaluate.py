"""`scmrl evaluate`: scores of a run's model with confidence intervals, by class and by subset of modalities.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scmrl.config.data_access import AS_TRAINED, DataAccess
from scmrl.config.preflight import require_parent
from scmrl.console.tables import DataTable, one_line
from scmrl.results.evaluation import evaluation_file, markdown, tables

MAX_COLUMNS = 26
"""Most columns of a table that is printed to a terminal."""


def evaluate(
    run: Path | None = None,
    /,
    *,
    split: Literal["test", "val", "train"] = "test",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    bootstrap: int = 1000,
    seed: int = 0,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Evaluate a run: scores with confidence intervals, classes, calibration, firing rates, missing modalities.

    Writes evaluation.json and evaluation.md to the run folder and replaces those of an earlier evaluation.

    Args:
        run: run folder; none: the newest one in the folder `runs`.
        split: samples to evaluate.
        json: another file to write evaluation.json to.
        bootstrap: number of resamples for the confidence intervals.
        seed: seed of the resamples.
        access: where the data are now.
    """
    from scmrl.run_folder.files import read_experiment, write_json, write_text
    from scmrl.run_folder.newest import run_or_newest

    if bootstrap < 1:
        raise ValueError(f"--bootstrap {bootstrap}: confidence intervals need at least 1 resample")
    if seed < 0:
        raise ValueError(f"--seed {seed} is negative; give 0 or more")
    if json is not None:
        require_parent("--json", json)
    run = run_or_newest(run)
    experiment = read_experiment(run, access)

    from scmrl.console.progress import Progress
    from scmrl.engine.evaluate import evaluate as run_evaluation

    with Progress.create() as progress:
        evaluation = run_evaluation(run, split, progress, access)
    file = evaluation_file(evaluation, experiment, split, resamples=bootstrap, seed=seed)
    content, blocks = file.model_dump(mode="json", by_alias=True), tables(file)
    write_json(run / "evaluation.json", content)
    write_text(run / "evaluation.md", markdown(file.data, file.notes, blocks))
    if json is not None:
        write_json(json, content)
    console = Console()
    for block in blocks:
        console.print(Text(one_line(block.title), style="bold"), soft_wrap=True)
        if len(block.columns) > MAX_COLUMNS:
            console.print(f"  {len(block.rows)} classes: too wide for a terminal, see evaluation.md")
        else:
            console.print(rich_table(block))
        console.print()
    for note in file.notes:
        print(f"note: {one_line(note)}")
    print(f"in {run}: evaluation.json, evaluation.md" + (f"; also {json}" if json is not None else ""))
    return 0


def rich_table(block: DataTable) -> Table:
    """Convert to a table for a terminal, without control characters."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(block.columns):
        table.add_column(Text(one_line(column)), justify="left" if number == 0 else "right", overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
