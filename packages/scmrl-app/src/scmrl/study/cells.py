"""How numbers are written into the cells of a study's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scmrl.study.statistics import Difference, Summary

COMPARED = ("difference, points", "95 % interval", "p")
"""Columns of what `compared` gives."""
CHANCE = (
    "The interval allows for other seeds and other test samples, with one seed for other samples alone; p is of the "
    "paired t-test over seeds, and not corrected for the number of comparisons."
)
"""What they mean, as a note."""


def plus_minus(summary: Summary, factor: float = 1.0) -> str:
    """Mean and deviation, as in `71.2 ± 0.8`; the mean alone of one number."""
    mean = f"{factor * summary.mean:.1f}"
    return f"{mean} ± {factor * summary.deviation:.1f}" if summary.n > 1 else mean


def compared(difference: Difference | None) -> list[str]:
    """Difference of two accuracies in points, its interval, and p; dashes for what there is not."""
    if difference is None:
        return ["-", "-", "-"]
    d = difference
    p = "-" if d.p is None else f"{d.p:.3f}" if d.p >= 0.001 else "< 0.001"
    return [f"{100 * d.mean:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", p]
