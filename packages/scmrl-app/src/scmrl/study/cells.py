"""Text of the cells in a study's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scmrl.study.statistics import MeanStd, PairedDifference

DIFFERENCE_COLUMNS = ("difference, points", "95 % interval", "p")
"""Titles of the columns that `difference_cells` fills."""
INTERVAL_NOTE = (
    "The interval covers the variation of seeds and test samples; with one seed, of test samples only. p is from a "
    "paired t-test over seeds, not corrected for multiple comparisons."
)
"""Note that explains these columns."""
SELECTED_ON_TEST = "Epochs were selected on the test split, as published; the accuracies are no estimate for new data."
"""Note for `train.selection=test`."""


def plus_minus(summary: MeanStd, factor: float = 1.0) -> str:
    """Format mean and standard deviation as in `71.2 ± 0.8`; the mean only if there is one value."""
    mean = f"{factor * summary.mean:.1f}"
    return f"{mean} ± {factor * summary.std:.1f}" if summary.n > 1 else mean


def difference_cells(difference: PairedDifference | None) -> list[str]:
    """Format a difference of accuracies in points, its interval and p; dashes where there is none."""
    if difference is None:
        return ["-", "-", "-"]
    d = difference
    p = "-" if d.p is None else f"{d.p:.3f}" if d.p >= 0.001 else "< 0.001"
    return [f"{100 * d.mean:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", p]
