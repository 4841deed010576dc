"""Summarize a run in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from scmrl.report.formatting import count, interval, percent
from scmrl.report.unimodal_runs import UnimodalRun
from scmrl.results.run import EvaluationFile

NEGLIGIBLE = 0.02
"""Largest drop of accuracy at which a missing modality counts as unimportant."""


def verdict(
    accuracy: float,
    confusion: Sequence[Sequence[int]],
    evaluation: EvaluationFile | None,
    *,
    split: str,
    unimodal: Sequence[UnimodalRun],
) -> str:
    """Compare the accuracy with the majority class and unimodal runs, and name the most important modality.

    Args:
        accuracy: fraction of correct predictions.
        confusion: counts by true class (rows) and predicted class (columns).
        evaluation: of the same split; None omits intervals and modalities.
        split: name of the split.
        unimodal: comparable runs on one modality each.
    """
    n = sum(map(sum, confusion))
    majority = max(map(sum, confusion)) / n
    bounds = (
        f" ({100 * evaluation.bootstrap.level:.0f}% interval {interval(evaluation.accuracy)})" if evaluation else ""
    )
    parts = [f"Accuracy is {percent(accuracy)} on {count(n)} {split} samples{bounds}"]
    is_better = accuracy > majority if evaluation is None else evaluation.accuracy.low > majority
    baseline = f"{percent(majority)} for always predicting the most frequent class"
    parts.append(f", compared with {baseline}" if is_better else f", which is not clearly above {baseline}")
    if unimodal:
        best = max(unimodal, key=lambda each: each.accuracy)
        if accuracy <= best.accuracy:
            parts.append(f"; {best.modality} alone reaches {percent(best.accuracy)}, which this run does not beat")
        elif is_better:
            parts.append(f" and {percent(best.accuracy)} for {best.modality}, the best single modality")
        else:
            parts.append(f"; {best.modality}, the best single modality, reaches {percent(best.accuracy)}")
    return "".join(parts) + _dependence(evaluation) + "."


def _dependence(evaluation: EvaluationFile | None) -> str:
    """Name the modality whose absence costs most accuracy; "" if that was not evaluated."""
    if evaluation is None:
        return ""
    drops = {
        subset.without[0]: evaluation.accuracy.value - subset.accuracy.value
        for subset in evaluation.subsets
        if len(subset.without) == 1
    }
    if len(drops) < 2:
        return ""
    ranked = sorted(drops, key=lambda name: -drops[name])
    if drops[ranked[0]] <= NEGLIGIBLE:
        return "; the model depends on no single modality: without any one of them accuracy changes by at most " + (
            f"{100 * max(map(abs, drops.values())):.1f} points"
        )
    clauses = [f"without {name} accuracy {_change(drops[name])}" for name in (ranked[0], ranked[-1])]
    return f"; the model depends most on {ranked[0]}: {', '.join(clauses)}"


def _change(drop: float) -> str:
    return f"falls by {100 * drop:.1f} points" if drop >= 0 else f"rises by {-100 * drop:.1f} points"
