"""Write the summary of a finished run: summary.json, summary.txt and the figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from shlex import quote

from matplotlib.figure import Figure

from scmrl.engine.diagnostics import SILENT, rate_warnings, saturated_layers, silent_layers
from scmrl.engine.metrics import confused_pairs
from scmrl.engine.run import Run
from scmrl.plots.files import save_png
from scmrl.plots.run_figures import confusion_figure, curves_figure, rates_figure
from scmrl.report.next_steps import next_steps
from scmrl.results.run import BranchRates, Rates, SplitScore, SummaryFile, TestScore
from scmrl.run_folder.files import write_json, write_text
from snn_datasets.loading.recorded import RecordedDataset

FEW_STEPS = 30
"""Optimizer steps below which a run is too short to judge a model."""
LEARNED = 0.5
"""Training loss, relative to chance level, below which the training samples count as learned."""


def write_summary(run: Run) -> str:
    """Write the summary and the figures of a run into its folder, and return the text."""
    assert run.validation is not None
    assert run.test is not None
    write_json(run.folder / "summary.json", summarize(run).model_dump(mode="json"))
    # Figures come last: the result must not depend on them.
    figures = figures_of(run)
    text = summary_text(run, list(figures))
    write_text(run.folder / "summary.txt", text + "\n")
    faults: list[str] = []
    for name, draw in figures.items():
        try:
            save_png(draw(), run.folder / name)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            faults.append(f"{name} was not drawn: {str(error) or type(error).__name__}")
    if not faults:
        return text
    drawn = [name for name in figures if (run.folder / name).is_file()]
    text = "\n".join([summary_text(run, drawn), *(f"warning: {fault}" for fault in faults)])
    write_text(run.folder / "summary.txt", text + "\n")
    return text


def figures_of(run: Run) -> dict[str, Callable[[], Figure]]:
    """Return a function by file name that draws the figure."""
    assert run.test is not None
    confusion = run.test.confusion
    title = f"test, {run.test.n} samples, {run.test.accuracy:.1%} accuracy{_mark(run)}"
    first, last = branch_rates(run.position.rates_first), branch_rates(run.position.rates_last)
    figures: dict[str, Callable[[], Figure]] = {
        "confusion.png": lambda: confusion_figure(confusion, run.classes, title=title),
        "curves.png": lambda: curves_figure(run.position.history, best_epoch=run.position.best_epoch),
    }
    if last:
        figures["firing_rates.png"] = lambda: rates_figure(first, last)
    return figures


def branch_rates(rates: Mapping[str, float]) -> dict[str, float]:
    """Return the firing rates of the cross-modal branch, by layer names without the prefix `fusion.`."""
    return {name.removeprefix("fusion."): rate for name, rate in rates.items() if name.startswith("fusion.")}


def _mark(run: Run) -> str:
    """Return the mark of test scores if the test split selected the epoch, else ""."""
    return " (selected on the test split, as published)" if run.experiment.train.selection == "test" else ""


def summarize(run: Run) -> SummaryFile:
    """Return the content of summary.json."""
    assert run.validation is not None
    assert run.test is not None
    position, last = run.position, branch_rates(run.position.rates_last)
    return SummaryFile(
        data=run.splits.info.name,
        modalities=tuple(run.spec.encoders),
        classes=tuple(run.classes),
        selection=run.experiment.train.selection,
        validation=SplitScore(accuracy=run.validation.accuracy, loss=run.validation.loss, n=run.validation.n),
        test=TestScore(
            accuracy=run.test.accuracy,
            loss=run.test.loss,
            n=run.test.n,
            confusion=tuple(map(tuple, run.test.confusion)),
        ),
        best_epoch=position.best_epoch,
        epochs=len(position.history),
        seconds=round(run.seconds, 2),
        rates=Rates(
            first_step=position.rates_first,
            last_step=position.rates_last,
            silent=tuple(silent_layers(position.rates_last)),
            saturated=tuple(saturated_layers(position.rates_last)),
        ),
        branch=BranchRates(
            first_step=branch_rates(position.rates_first), last_step=last, silent=tuple(silent_layers(last))
        ),
    )


def summary_text(run: Run, figures: Sequence[str]) -> str:
    """Summarize the run in a few lines with the names of its figures; the most important warning comes last."""
    assert run.validation is not None
    assert run.test is not None
    position = run.position
    lines = [
        f"{' + '.join(run.spec.encoders)} on {run.splits.info.name}: test accuracy {run.test.accuracy:.2%}{_mark(run)} "
        f"({run.test.n} samples), validation {run.validation.accuracy:.2%} in epoch {position.best_epoch} of "
        f"{len(position.history)}, {run.seconds:.0f} s",
        f"in {run.folder}: summary.json, metrics.jsonl, tensorboard, checkpoints, model.safetensors + spec.json, "
        f"experiment.json, environment.json and the figures {', '.join(figures)}",
        *(f"note: {hint}" for hint in hints(run)),
        "next commands:",
        *next_steps(run.folder, list(run.spec.encoders), from_files=isinstance(run.splits.test, RecordedDataset)),
    ]
    last = branch_rates(position.rates_last)
    other_layers = {name: rate for name, rate in position.rates_last.items() if not name.startswith("fusion.")}
    lines += [f"warning: {warning}" for warning in rate_warnings(other_layers)]
    if last:
        silent = silent_layers(last)
        if silent:
            lines.append(
                f"the cross-modal branch is SILENT: {len(silent)} of its {len(last)} neuron layers fire "
                f"below {SILENT:.1%} in the last step ({', '.join(silent[:3])}{', ...' if len(silent) > 3 else ''}), "
                "so no modality reads another; " + _remedy(run)
            )
        else:
            lines.append(
                f"the cross-modal branch is alive: its {len(last)} neuron layers fire at {min(last.values()):.1%} to "
                f"{max(last.values()):.1%} in the last step"
            )
    return "\n".join(lines)


def hints(run: Run) -> list[str]:
    """List anomalies of this run with remedies."""
    assert run.validation is not None
    assert run.test is not None
    notes: list[str] = []
    for pair in confused_pairs(run.test.confusion, limit=1):
        notes.append(
            f"the most frequent mistake is class {run.classes[pair.true]!r}, predicted as "
            f"{run.classes[pair.predicted]!r} in {pair.count} of {pair.support} test samples (confusion.png)"
        )
    chance = math.log(len(run.classes))  # loss of a uniform prediction
    last = run.position.history[-1]
    if run.position.step < FEW_STEPS:
        notes.append(
            f"the training was short, {run.position.step} optimizer steps: raise --train.epochs "
            f"(now {run.schedule.epochs}) or lower --train.batch_size (now {run.schedule.batch_size}) before judging "
            "this model (curves.png)"
        )
    elif run.position.best_epoch == len(run.position.history) and len(run.position.history) > 1:
        notes.append("the last epoch was the best: more --train.epochs may improve the accuracy (curves.png)")
    elif last["train_accuracy"] - last["val_accuracy"] > 0.1 and last["train_loss"] < LEARNED * chance:
        notes.append(
            f"training accuracy ends at {last['train_accuracy']:.0%}, validation at {last['val_accuracy']:.0%}: the "
            "model overfits; more data or --train.weight_decay may help (curves.png)"
        )
    modalities = list(run.spec.encoders)
    if len(modalities) > 1:
        notes.append(f"for a unimodal baseline, train with --data.modalities {quote(modalities[0])}")
    return notes


def _remedy(run: Run) -> str:
    if run.spec.init == "uncalibrated":
        return "--model.init calibrated makes it fire from the first step"
    return "try a lower --train.learning_rate or a higher --train.target_rate"
