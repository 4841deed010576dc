"""What numbers from several seeds say: means, deviations, paired comparisons, importance of settings."""

# SciPy has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Some numbers in short."""

    mean: float
    deviation: float
    """Standard deviation with n - 1 in the denominator; 0 for a single number."""
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of one number or more."""
        array = np.asarray(values, np.float64)
        return cls(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0, len(array))


@dataclass(frozen=True)
class Difference:
    """How much better one of two variants is."""

    mean: float
    """Of the differences, seed by seed."""
    low: float
    high: float
    """The 95 % confidence interval: of all such intervals, from other seeds and other test samples of the same kind,
    about 95 in 100 hold the true difference. Of one seed it is that of the test samples alone."""
    p: float | None
    """Of the paired t-test over seeds: how probable a difference as large would be between equals; None with one seed
    or where all seeds differ by the same."""


def paired(one: Mapping[int, Floats], other: Mapping[int, Floats]) -> Difference:
    """Compare two variants on the seeds that both have.

    Seeds and test samples are both drawn by chance, so the variance of the mean is that over seeds plus that over
    samples, which counts the chance of a single answer twice and so errs on the safe side. The interval is that of
    Student's t, with degrees of freedom after Satterthwaite (1946, doi:10.2307/3002019). To draw seeds anew instead, as
    a bootstrap does, gives far too narrow ones with two or three seeds. The t-test takes the seeds' accuracies alone,
    so it has little power with so few.

    Args:
        one: by seed, which test samples were right, 0 or 1 [N], or a share of the times that they were.
        other: the same of the other variant, with the same samples in the same order.

    Raises:
        ValueError: no seed that both have, or samples that differ in number.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        raise ValueError("the variants have no seed in common")
    if len({len(right) for key in seeds for right in (one[key], other[key])}) > 1:
        raise ValueError("the variants were tested on different numbers of samples")
    differences = np.stack([one[key] - other[key] for key in seeds]).astype(np.float64)  # [seeds, samples]
    by_seed = differences.mean(1)
    mean, half = float(by_seed.mean()), _half_width([by_seed, differences.mean(0)])
    p = float(np.asarray(stats.ttest_1samp(by_seed, 0.0))[1]) if len(seeds) > 1 and np.ptp(by_seed) > 1e-12 else None
    return Difference(mean, mean - half, mean + half, p)


def comparable(one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether two variants have a seed in common and were tested on the same samples with it.

    They were not where samples lack modalities: a model of audio alone is tested on the samples that have audio.

    Args:
        one: by seed, what was measured: `right`, and `samples`, a checksum of the samples' names.
        other: the same of the other variant.
    """
    seeds = one.keys() & other.keys()
    return bool(seeds) and all(
        one[seed].get("samples") == other[seed].get("samples")
        and len(from_bits(one[seed]["right"])) == len(from_bits(other[seed]["right"]))
        for seed in seeds
    )


def _half_width(means: Sequence[Floats]) -> float:
    """Half of the 95 % interval of a mean to which several things add their chance, each with means of its own."""
    freedom = [len(values) - 1 for values in means if len(values) > 1]
    variances = [float(values.var(ddof=1)) / len(values) for values in means if len(values) > 1]
    total = sum(variances)
    if total < 1e-24:
        return 0.0
    freely = total**2 / sum(variance**2 / free for variance, free in zip(variances, freedom, strict=True))
    return float(stats.t.ppf(0.975, freely)) * total**0.5


def main_effects(values: Mapping[tuple[Any, ...], float]) -> list[float]:
    """Share of a full grid's variance that each axis explains by itself; the rest of 1 is their interplay.

    For axis i: the variance of the means over all others, over the variance of all (first-order Sobol index, Sobol'
    1993; the same as functional ANOVA on the grid). All are 0 where nothing varies.

    Args:
        values: the mean over seeds at each point of the grid, by its coordinates; all combinations.

    Raises:
        ValueError: combinations are missing.
    """
    points = list(values)
    axes = [list(dict.fromkeys(point[i] for point in points)) for i in range(len(points[0]))]
    if len(values) != int(np.prod([len(axis) for axis in axes])):
        raise ValueError("importance needs every combination of the grid")
    grid = np.empty([len(axis) for axis in axes])
    for point, value in values.items():
        grid[tuple(axis.index(x) for axis, x in zip(axes, point, strict=True))] = value
    total = grid.var()
    others = [tuple(j for j in range(grid.ndim) if j != i) for i in range(grid.ndim)]
    return [float(grid.mean(axis=rest).var() / total) if total > 1e-15 else 0.0 for rest in others]


def as_good_as_the_best(scores: Sequence[Sequence[float]]) -> list[int]:
    """Which settings cannot be told from the best: within one standard error of its mean (Breiman et al. 1984).

    With one seed the error is unknown, and only those that equal the best are.

    Args:
        scores: of each setting, one for each seed.

    Returns:
        their places, the best one's first.
    """
    summaries = [Summary.of(values) for values in scores]
    best = max(range(len(summaries)), key=lambda i: summaries[i].mean)
    error = summaries[best].deviation / np.sqrt(summaries[best].n)
    near = [i for i, s in enumerate(summaries) if i != best and s.mean >= summaries[best].mean - error]
    return [best, *near]


def bits(right: NDArray[np.bool_]) -> str:
    """Which samples were right [N], in little space: their number and hexadecimal digits of eight samples each."""
    return f"{len(right)}:{np.packbits(right).tobytes().hex()}"


def from_bits(text: str) -> Floats:
    """What `bits` packed, as 0 and 1 [N]."""
    count, _, digits = text.partition(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[: int(count)].astype(np.float64)
