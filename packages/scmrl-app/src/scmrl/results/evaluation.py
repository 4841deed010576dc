"""The content of evaluation.json, and its tables.

Nothing here loads PyTorch before an evaluation is converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from scmrl.console.tables import DataTable, escape_markdown, first_and_last
from scmrl.results.run import Bootstrap, ClassRow, EvaluationFile, Score, Subset

if TYPE_CHECKING:
    from scmrl.config.experiment import Experiment
    from scmrl.engine.evaluate import Evaluation

FORMAT_VERSION: Literal[1] = 1
"""Format version of evaluation.json; increased when a field changes its meaning."""
MAX_CLASSES = 60
"""Most classes for a full class table and confusion matrix; above, only the best and worst classes are shown."""
MAX_PAIRS = 20
"""Rows of the table of confused classes that replaces a large confusion matrix."""


def evaluation_file(
    evaluation: Evaluation, experiment: Experiment, split: str, *, resamples: int, seed: int
) -> EvaluationFile:
    """Return the content of evaluation.json, with confidence intervals from `resamples` resamples."""
    from scmrl.engine import metrics
    from scmrl.engine.metrics import Predictions

    scores = {
        "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1,
        "calibration_error": metrics.calibration_error,
    }
    full_set = next(iter(evaluation.predictions))
    subsets: list[Subset] = []
    for modalities, predictions in evaluation.predictions.items():
        arrays = Predictions.of(predictions.labels.numpy(), predictions.probabilities.numpy())
        bounds = metrics.intervals(arrays, scores, resamples=resamples, seed=seed)
        subsets.append(
            Subset(
                modalities=modalities,
                without=tuple(name for name in full_set if name not in modalities),
                **{
                    name: Score(value=score(arrays), low=bounds[name][0], high=bounds[name][1])
                    for name, score in scores.items()
                },
                blank=predictions.blank,
            )
        )
    predictions, full = evaluation.predictions[full_set], subsets[0]
    arrays = Predictions.of(predictions.labels.numpy(), predictions.probabilities.numpy())
    counts = metrics.confusion(arrays, len(evaluation.info.classes))
    return EvaluationFile(
        format_version=FORMAT_VERSION,
        data=evaluation.info.name,
        split=split,
        n=predictions.n,
        selection=experiment.train.selection,
        mark=mark_of(split, experiment.train.selection),
        notes=evaluation.info.notes,
        bootstrap=Bootstrap(resamples=resamples, seed=seed, level=metrics.LEVEL),
        loss=predictions.loss,
        accuracy=full.accuracy,
        macro_f1=full.macro_f1,
        calibration_error=full.calibration_error,
        classes=tuple(
            ClassRow.model_validate(
                {"class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "samples": s.support}
            )
            for name, s in zip(evaluation.info.classes, metrics.class_scores(counts), strict=True)
        ),
        confusion=counts.tolist(),
        subsets=tuple(subsets),
        rates=evaluation.rates,
    )


def mark_of(split: str, selection: str) -> str:
    """Return a remark for every table if the split was used in training or selection; otherwise ""."""
    if selection == "test":
        return "selected on the test split, as published"
    return {"val": "on the split that selected the epoch", "train": "on the training samples"}.get(split, "")


def tables(file: EvaluationFile) -> list[DataTable]:
    """Build the tables of evaluation.json."""
    mark = f" ({file.mark})" if file.mark else ""
    interval_title = f"{file.bootstrap.level:.0%} by {file.bootstrap.resamples:,} resamples"
    title = f"{file.data}, {file.split}, {file.n:,} samples"
    scores = {"accuracy": file.accuracy, "macro-F1": file.macro_f1, "calibration error": file.calibration_error}
    blocks = [
        DataTable(
            f"{title}{mark}",
            ("score", "value", interval_title),
            [(label, f"{score.value:.2%}", _interval(score)) for label, score in scores.items()]
            + [("loss", f"{file.loss:.4f}", "")],
        ),
        _class_table(file.classes, mark),
        _confusion_table([row.name for row in file.classes], file.confusion, mark),
    ]
    if len(file.subsets) > 1:
        blank = any(subset.blank for subset in file.subsets)
        blocks.append(
            DataTable(
                f"missing modalities{mark}",
                ("modalities", "without", "accuracy", interval_title, "macro-F1", "calibration error")
                + (("samples with none",) if blank else ()),
                [
                    (
                        " + ".join(subset.modalities),
                        ", ".join(subset.without) or "-",
                        f"{subset.accuracy.value:.2%}",
                        _interval(subset.accuracy),
                        f"{subset.macro_f1.value:.2%}",
                        f"{subset.calibration_error.value:.2%}",
                        *([f"{subset.blank:,}"] if blank else []),
                    )
                    for subset in file.subsets
                ],
            )
        )
    rates = [(name, f"{rate:.2%}") for name, rate in file.rates.items()]
    return [*blocks, DataTable(f"firing rates{mark}", ("layer", "rate"), rates)]


def _class_table(classes: Sequence[ClassRow], mark: str) -> DataTable:
    """One row per class; of very many classes, those with the lowest and the highest F1."""
    title, listed = f"classes{mark}", list(classes)
    if len(classes) > MAX_CLASSES:
        ranked = sorted(classes, key=lambda row: row.f1)
        listed = [ranked[index] for index in first_and_last(len(ranked), MAX_CLASSES)]
        title = (
            f"the classes with the lowest and the highest F1{mark}; {len(classes) - len(listed):,} more are in "
            "evaluation.json"
        )
    return DataTable(
        title,
        ("class", "precision", "recall", "F1", "samples"),
        [
            (row.name, f"{row.precision:.2%}", f"{row.recall:.2%}", f"{row.f1:.2%}", f"{row.samples:,}")
            for row in listed
        ],
    )


def _confusion_table(names: Sequence[str], confusion: Sequence[Sequence[int]], mark: str) -> DataTable:
    """The confusion matrix; of very many classes, the most frequently confused pairs."""
    if len(names) <= MAX_CLASSES:
        return DataTable(
            f"confusion matrix: true classes in rows, predicted in columns{mark}",
            ("true", *names),
            [(name, *map(str, row)) for name, row in zip(names, confusion, strict=True)],
        )
    from scmrl.engine.metrics import confused_pairs

    return DataTable(
        f"the most frequent mistakes{mark}; the whole confusion matrix is in evaluation.json",
        ("true", "predicted", "samples", "of the class"),
        [
            (names[pair.true], names[pair.predicted], f"{pair.count:,}", f"{pair.count / pair.support:.2%}")
            for pair in confused_pairs(confusion, limit=MAX_PAIRS)
        ],
    )


def markdown(data: str, notes: Sequence[str], blocks: Sequence[DataTable]) -> str:
    """Return the tables of an evaluation on a dataset as a Markdown document."""
    lines = [f"# Evaluation on {escape_markdown(data)}", ""]
    lines += [f"> {escape_markdown(note)}\n" for note in notes]
    return "\n".join([*lines, *(block.markdown() for block in blocks)])


def _interval(score: Score) -> str:
    return f"{score.low:.2%} to {score.high:.2%}"
