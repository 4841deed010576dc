"""`scmrl evaluate`: how good a run's model is, how sure that is, and what each sense is worth.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scmrl.data_access import AS_TRAINED, DataAccess
from scmrl.tables import DataTable, escape_markdown, first_and_last, one_line

if TYPE_CHECKING:
    from scmrl.engine.evaluate import Evaluation
    from scmrl.experiment import Experiment

FORMAT_VERSION = 1
"""Of evaluation.json; raised when what is there changes its meaning."""
WIDEST = 26
"""Columns of the widest table that a terminal is to show."""
MOST_CLASSES = 60
"""Classes up to which each has its row and the confusion matrix is a table; of more, the best and worst are shown."""
MOST_MISTAKES = 20
"""Pairs of classes in the table that takes the matrix's place."""


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
    """Evaluate a run's model: scores with their uncertainty, every class, calibration, firing rates, missing senses.

    Writes evaluation.json and evaluation.md into the run's folder; those of an earlier evaluation are replaced.

    Args:
        run: folder that `scmrl train` left; none: the newest one in the folder `runs`.
        split: samples to evaluate on.
        json: another file to write evaluation.json to.
        bootstrap: resamples that the confidence intervals are taken from.
        seed: decides the resamples.
        access: where the data are now.
    """
    from scmrl.engine.newest_run import run_or_newest
    from scmrl.engine.run_folder import read_experiment, write_json, write_text

    if bootstrap < 1:
        raise ValueError(f"--bootstrap {bootstrap}: confidence intervals need at least 1 resample")
    if seed < 0:
        raise ValueError(f"--seed {seed} is negative; give 0 or more")
    if json is not None and not json.absolute().parent.is_dir():
        raise ValueError(f"--json {json}: there is no folder {json.absolute().parent}")
    run = run_or_newest(run)
    experiment = read_experiment(run, access)

    from scmrl.engine.evaluate import evaluate as run_evaluation
    from scmrl.progress import Progress

    with Progress.create() as progress:
        evaluation = run_evaluation(run, split, progress, access)
    content = contents(evaluation, experiment, split, resamples=bootstrap, seed=seed)
    blocks = tables(content)
    write_json(run / "evaluation.json", content)
    write_text(run / "evaluation.md", markdown(content, blocks))
    if json is not None:
        write_json(json, content)
    console = Console()
    for block in blocks:
        console.print(Text(one_line(block.title), style="bold"), soft_wrap=True)
        if len(block.columns) > WIDEST:
            console.print(f"  {len(block.rows)} classes: too wide for a terminal, see evaluation.md")
        else:
            console.print(printed(block))
        console.print()
    for note in content["notes"]:
        print(f"note: {one_line(note)}")
    print(f"in {run}: evaluation.json, evaluation.md" + (f"; also {json}" if json is not None else ""))
    return 0


def contents(
    evaluation: Evaluation, experiment: Experiment, split: str, *, resamples: int, seed: int
) -> dict[str, Any]:
    """The evaluation in numbers, as evaluation.json holds it."""
    from scmrl.engine import metrics
    from scmrl.engine.metrics import Predictions

    scores = {
        "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1,
        "calibration_error": metrics.calibration_error,
    }
    every = next(iter(evaluation.predictions))
    subsets: list[dict[str, Any]] = []
    for modalities, predictions in evaluation.predictions.items():
        said = Predictions.of(predictions.labels.numpy(), predictions.probabilities.numpy())
        bounds = metrics.intervals(said, scores, resamples=resamples, seed=seed)
        subsets.append(
            {
                "modalities": list(modalities),
                "without": [name for name in every if name not in modalities],
                **{
                    name: {"value": score(said), "low": bounds[name][0], "high": bounds[name][1]}
                    for name, score in scores.items()
                },
                "blank": predictions.blank,
            }
        )
    predictions = evaluation.predictions[every]
    whole = Predictions.of(predictions.labels.numpy(), predictions.probabilities.numpy())
    counts = metrics.confusion(whole, len(evaluation.info.classes))
    per_class = zip(evaluation.info.classes, metrics.class_scores(counts), strict=True)
    return {
        "format_version": FORMAT_VERSION,
        "data": evaluation.info.name,
        "split": split,
        "n": predictions.n,
        "selection": experiment.train.selection,
        "mark": mark_of(split, experiment.train.selection),
        "notes": list(evaluation.info.notes),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": metrics.LEVEL},
        "loss": predictions.loss,
        **{name: subsets[0][name] for name in scores},
        "classes": [
            {"class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "samples": s.support}
            for name, s in per_class
        ],
        "confusion": counts.tolist(),
        "subsets": subsets,
        "rates": evaluation.rates,
    }


def mark_of(split: str, selection: str) -> str:
    """What every table is marked with where a split selected the epoch that it is no longer fair to, or ""."""
    if selection == "published":
        return "selected on the test split, as published"
    return {"val": "on the split that selected the epoch", "train": "on the samples it was trained on"}.get(split, "")


def tables(content: dict[str, Any]) -> list[DataTable]:
    """What there is to show, from the contents of evaluation.json."""
    mark = f" ({content['mark']})" if content["mark"] else ""
    names = [entry["class"] for entry in content["classes"]]
    level, resamples = content["bootstrap"]["level"], content["bootstrap"]["resamples"]
    sure = f"{level:.0%} by {resamples:,} resamples"
    where = f"{content['data']}, {content['split']}, {content['n']:,} samples"
    kinds = (("accuracy", "accuracy"), ("macro-F1", "macro_f1"), ("calibration error", "calibration_error"))
    blocks = [
        DataTable(
            f"{where}{mark}",
            ("score", "value", sure),
            [(label, f"{content[name]['value']:.2%}", _interval(content[name])) for label, name in kinds]
            + [("loss", f"{content['loss']:.4f}", "")],
        ),
        _class_table(content["classes"], mark),
        _confusion_table(names, content["confusion"], mark),
    ]
    if len(content["subsets"]) > 1:
        blank = any(subset["blank"] for subset in content["subsets"])
        blocks.append(
            DataTable(
                f"what if a modality is missing?{mark}",
                ("modalities", "without", "accuracy", sure, "macro-F1", "calibration error")
                + (("has none of them",) if blank else ()),
                [
                    (
                        " + ".join(subset["modalities"]),
                        ", ".join(subset["without"]) or "-",
                        f"{subset['accuracy']['value']:.2%}",
                        _interval(subset["accuracy"]),
                        f"{subset['macro_f1']['value']:.2%}",
                        f"{subset['calibration_error']['value']:.2%}",
                        *([f"{subset['blank']:,}"] if blank else []),
                    )
                    for subset in content["subsets"]
                ],
            )
        )
    rates = [(name, f"{rate:.2%}") for name, rate in content["rates"].items()]
    return [*blocks, DataTable(f"firing rates{mark}", ("layer", "rate"), rates)]


def _class_table(classes: Sequence[Mapping[str, Any]], mark: str) -> DataTable:
    """A row for each class; of very many, for those with the lowest and the highest F1."""
    title, listed = f"classes{mark}", list(classes)
    if len(classes) > MOST_CLASSES:
        ranked = sorted(classes, key=lambda entry: entry["f1"])
        listed = [ranked[at] for at in first_and_last(len(ranked), MOST_CLASSES)]
        title = (
            f"the classes with the lowest and the highest F1{mark}; {len(classes) - len(listed):,} more are in "
            "evaluation.json"
        )
    return DataTable(
        title,
        ("class", "precision", "recall", "F1", "samples"),
        [
            (e["class"], f"{e['precision']:.2%}", f"{e['recall']:.2%}", f"{e['f1']:.2%}", f"{e['samples']:,}")
            for e in listed
        ],
    )


def _confusion_table(names: Sequence[str], confusion: Sequence[Sequence[int]], mark: str) -> DataTable:
    """The confusion matrix; of very many classes, the pairs that were confused most often."""
    if len(names) <= MOST_CLASSES:
        return DataTable(
            f"confusion: true classes down, predicted across{mark}",
            ("true", *names),
            [(name, *map(str, row)) for name, row in zip(names, confusion, strict=True)],
        )
    from scmrl.engine.metrics import confused_pairs

    return DataTable(
        f"the most frequent mistakes{mark}; the whole confusion matrix is in evaluation.json",
        ("true", "predicted", "samples", "of the class"),
        [
            (names[pair.true], names[pair.predicted], f"{pair.count:,}", f"{pair.count / pair.support:.2%}")
            for pair in confused_pairs(confusion, limit=MOST_MISTAKES)
        ],
    )


def markdown(content: dict[str, Any], blocks: Sequence[DataTable]) -> str:
    """The same tables as a document."""
    lines = [f"# Evaluation on {escape_markdown(content['data'])}", ""]
    lines += [f"> {escape_markdown(note)}\n" for note in content["notes"]]
    return "\n".join([*lines, *(block.markdown() for block in blocks)])


def _interval(score: dict[str, float]) -> str:
    return f"{score['low']:.2%} to {score['high']:.2%}"


def printed(block: DataTable) -> Table:
    """A table for a terminal, without control characters."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(block.columns):
        table.add_column(Text(one_line(column)), justify="left" if number == 0 else "right", overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
