"""What a run shows, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from scmrl.report.alone import AloneRun
from scmrl.report.stored import Evaluation
from scmrl.report.wording import count, percent

LITTLE = 0.02
"""Loss of accuracy up to which a modality matters little."""


def verdict(
    accuracy: float,
    confusion: Sequence[Sequence[int]],
    evaluation: Evaluation | None,
    *,
    split: str,
    alone: Sequence[AloneRun],
) -> str:
    """How good a model is, against what it has to beat, and which modality it depends on.

    Args:
        accuracy: share of the samples that are right.
        confusion: counts by true class (rows) and predicted class (columns).
        evaluation: of the same split; None leaves out intervals and modalities.
        split: that the accuracy is of.
        alone: comparable runs on one modality each.
    """
    n = sum(map(sum, confusion))
    majority = max(map(sum, confusion)) / n
    interval = f" ({_level(evaluation)} interval {_between(evaluation)})" if evaluation else ""
    parts = [f"{percent(accuracy)} of {count(n)} {split} samples are right{interval}"]
    surely = accuracy > majority if evaluation is None else evaluation.accuracy.low > majority
    base = f"{percent(majority)} for always answering the most frequent class"
    parts.append(f", against {base}" if surely else f", which is not clearly more than {base}")
    if alone:
        best = max(alone, key=lambda each: each.accuracy)
        if accuracy <= best.accuracy:
            parts.append(f"; {best.modality} trained alone reaches {percent(best.accuracy)}, which this does not beat")
        elif surely:
            parts.append(f" and {percent(best.accuracy)} for {best.modality}, the best modality trained alone")
        else:
            parts.append(f"; {best.modality}, the best modality trained alone, reaches {percent(best.accuracy)}")
    return "".join(parts) + _dependence(evaluation) + "."


def _dependence(evaluation: Evaluation | None) -> str:
    """Which modality the answers depend on most, found by leaving each out; "" where that is not known."""
    if evaluation is None:
        return ""
    losses = {
        subset.without[0]: evaluation.accuracy.value - subset.accuracy.value
        for subset in evaluation.subsets
        if len(subset.without) == 1
    }
    if len(losses) < 2:
        return ""
    ranked = sorted(losses, key=lambda name: -losses[name])
    if losses[ranked[0]] <= LITTLE:
        return "; the model depends on no single modality: without any one of them accuracy changes by at most " + (
            f"{100 * max(map(abs, losses.values())):.1f} points"
        )
    clauses = [f"without {name} accuracy {_change(losses[name])}" for name in (ranked[0], ranked[-1])]
    return f"; the model depends most on {ranked[0]}: {', '.join(clauses)}"


def _change(loss: float) -> str:
    return f"falls by {100 * loss:.1f} points" if loss >= 0 else f"rises by {-100 * loss:.1f} points"


def _level(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.bootstrap.level:.0f}%"


def _between(evaluation: Evaluation) -> str:
    return f"{percent(evaluation.accuracy.low)} to {percent(evaluation.accuracy.high)}"
