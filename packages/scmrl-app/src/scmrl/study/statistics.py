"""Statistics over seeds: means, standard deviations, paired comparisons, importance of settings."""

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

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation of some values."""

    mean: float
    std: float
    """Standard deviation with n - 1 in the denominator; 0 for a single value."""
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanStd:
        """Compute them from one or more values."""
        array = np.asarray(values, np.float64)
        return cls(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0, len(array))


@dataclass(frozen=True)
class PairedDifference:
    """Difference in accuracy between two variants."""

    mean: float
    """Mean of the differences of each seed."""
    low: float
    high: float
    """95 % confidence interval over seeds and test samples; with one seed, over test samples only."""
    p: float | None
    """p-value of the paired t-test over seeds; None with one seed or where the difference is the same for all seeds."""


def paired_difference(one: Mapping[int, Float64Array], other: Mapping[int, Float64Array]) -> PairedDifference:
    """Compare two variants on the seeds that both have.

    Seeds and test samples are both random, so the variance of the mean is the sum of the variances over seeds and over
    samples. This counts the randomness of a single prediction twice and so errs on the safe side. The interval is
    Student's t with degrees of freedom after Satterthwaite (1946, doi:10.2307/3002019). A bootstrap over seeds would
    give far too narrow intervals with two or three seeds. The t-test uses the accuracies of the seeds only, so it has
    little power with few seeds.

    Args:
        one: by seed, which test samples are correct, 0 or 1 [N], or the fraction of conditions in which they are.
        other: the same for the other variant, with the same samples in the same order.

    Raises:
        ValueError: the variants have no common seed or different numbers of samples.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        raise ValueError("the variants have no seed in common")
    if len({len(correct) for key in seeds for correct in (one[key], other[key])}) > 1:
        raise ValueError("the variants were tested on different numbers of samples")
    differences = np.stack([one[key] - other[key] for key in seeds]).astype(np.float64)  # [seeds, samples]
    by_seed = differences.mean(1)
    mean, half = float(by_seed.mean()), _half_width([by_seed, differences.mean(0)])
    p = float(np.asarray(stats.ttest_1samp(by_seed, 0.0))[1]) if len(seeds) > 1 and np.ptp(by_seed) > 1e-12 else None
    return PairedDifference(mean, mean - half, mean + half, p)


def comparable(one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]) -> bool:
    """Return whether two variants have a common seed and were tested on the same samples.

    They were not where samples lack modalities: an audio-only model is tested on the samples that have audio.

    Args:
        one: by seed, measurements with `correct`, and `samples`, a checksum of the sample ids.
        other: the same for the other variant.
    """
    seeds = one.keys() & other.keys()
    return bool(seeds) and all(
        one[seed].get("samples") == other[seed].get("samples")
        and len(unpack_bits(one[seed]["correct"])) == len(unpack_bits(other[seed]["correct"]))
        for seed in seeds
    )


def _half_width(sources: Sequence[Float64Array]) -> float:
    """Half of the 95 % interval of a mean with several sources of variation, each given by its own means."""
    degrees = [len(values) - 1 for values in sources if len(values) > 1]
    variances = [float(values.var(ddof=1)) / len(values) for values in sources if len(values) > 1]
    total = sum(variances)
    if total < 1e-24:
        return 0.0
    effective = total**2 / sum(variance**2 / degree for variance, degree in zip(variances, degrees, strict=True))
    return float(stats.t.ppf(0.975, effective)) * total**0.5


def main_effects(values: Mapping[tuple[Any, ...], float]) -> list[float]:
    """Compute the fraction of a full grid's variance that each axis explains alone; the rest of 1 is interaction.

    For axis i: the variance of the means over all other axes, over the total variance (first-order Sobol index, Sobol'
    1993; the same as functional ANOVA on the grid). All are 0 for constant values.

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


def within_one_standard_error(scores: Sequence[Sequence[float]]) -> list[int]:
    """Return the settings within one standard error of the best mean (Breiman et al. 1984).

    With one seed the error is unknown, and only settings equal to the best are returned.

    Args:
        scores: for each setting, one per seed.

    Returns:
        their indices, the best one's first.
    """
    summaries = [MeanStd.of(values) for values in scores]
    best = max(range(len(summaries)), key=lambda i: summaries[i].mean)
    error = summaries[best].std / np.sqrt(summaries[best].n)
    near = [i for i, s in enumerate(summaries) if i != best and s.mean >= summaries[best].mean - error]
    return [best, *near]


def pack_bits(mask: NDArray[np.bool_]) -> str:
    """Encode a mask [N] as its length and hexadecimal digits, two for eight samples."""
    return f"{len(mask)}:{np.packbits(mask).tobytes().hex()}"


def unpack_bits(text: str) -> Float64Array:
    """Decode a mask of `pack_bits` as 0 and 1 [N]."""
    count, _, digits = text.partition(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[: int(count)].astype(np.float64)
