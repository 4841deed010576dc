"""Statistics of studies, compared with SciPy, NumPy and values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from scmrl.study.cells import difference_cells
from scmrl.study.statistics import (
    MeanStd,
    PairedDifference,
    main_effects,
    pack_bits,
    paired_difference,
    unpack_bits,
    within_one_standard_error,
)


def test_mean_and_standard_deviation_are_those_of_a_sample():
    mean: Any = pytest.approx(0.7)
    std: Any = pytest.approx(0.2)
    assert MeanStd.of([0.5, 0.7, 0.9]) == MeanStd(mean, std, 3)
    assert MeanStd.of([0.25]) == MeanStd(0.25, 0.0, 1)


def correct(accuracy: float, samples: int = 400, *, seed: int = 0) -> np.ndarray:
    """Return random correctness of samples, 0 or 1."""
    return (np.random.default_rng(seed).random(samples) < accuracy).astype(np.float64)


def test_a_paired_difference_uses_the_common_seeds():
    one = {seed: correct(0.8, seed=seed) for seed in (0, 1, 2, 3)}
    other = {seed: correct(0.6, seed=10 + seed) for seed in (1, 2, 3, 4)}
    difference = paired_difference(one, other)

    differences = [one[seed].mean() - other[seed].mean() for seed in (1, 2, 3)]
    assert difference.mean == pytest.approx(np.mean(differences))
    tested: Any = stats.ttest_1samp(differences, 0.0)
    assert difference.p == pytest.approx(tested.pvalue)
    assert difference.low < difference.mean < difference.high
    assert difference.low > 0


def test_a_reversed_paired_difference_has_the_opposite_sign():
    one, other = {0: correct(0.8), 1: correct(0.7, seed=1)}, {0: correct(0.6, seed=2), 1: correct(0.5, seed=3)}
    forward, reverse = paired_difference(one, other), paired_difference(other, one)
    assert (forward.mean, forward.low, forward.high) == pytest.approx((-reverse.mean, -reverse.high, -reverse.low))
    assert forward.p == pytest.approx(reverse.p)


def test_the_interval_of_one_seed_is_that_of_its_samples():
    one, other = correct(0.7, 2000), correct(0.6, 2000, seed=1)
    difference = paired_difference({0: one}, {0: other})
    by_hand = stats.ttest_1samp(one - other, 0.0).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((by_hand.low, by_hand.high))
    assert difference.p is None


def test_the_interval_without_variation_over_samples_is_that_of_the_seeds():
    """Each seed has the same difference on every sample."""
    always, never = np.ones(50), np.zeros(50)
    difference = paired_difference({0: always, 1: always, 2: never}, {0: never, 1: never, 2: never})
    by_hand = stats.ttest_1samp([1.0, 1.0, 0.0], 0.0).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((by_hand.low, by_hand.high))


def test_the_interval_adds_the_variances_of_seeds_and_samples():
    one = {0: np.array([1.0, 1, 1, 0]), 1: np.array([1.0, 0, 1, 1])}
    other = {0: np.array([0.0, 1, 0, 0]), 1: np.array([0.0, 0, 1, 1])}
    # Differences [[1, 0, 1, 0], [1, 0, 0, 0]]: means 1/2 and 1/4 by seed, and 1, 0, 1/2, 0 by sample.
    seeds, samples = np.var([1 / 2, 1 / 4], ddof=1) / 2, np.var([1, 0, 1 / 2, 0], ddof=1) / 4
    free = (seeds + samples) ** 2 / (seeds**2 / 1 + samples**2 / 3)
    half = stats.t.ppf(0.975, free) * np.sqrt(seeds + samples)
    difference = paired_difference(one, other)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.375, 0.375 - half, 0.375 + half))


def test_variants_with_equal_predictions_differ_by_zero():
    difference = paired_difference({0: correct(0.5), 1: correct(0.6)}, {0: correct(0.5), 1: correct(0.6)})
    assert (difference.mean, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, None)


def test_the_interval_covers_the_true_difference_in_95_of_100_cases():
    """With three seeds that differ by 5 points, as trainings do."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        accuracies = rng.normal(0.7, 0.05, (2, 3, 1))
        one, other = (rng.random((2, 3, 400)) < accuracies).astype(np.float64)
        difference = paired_difference(dict(enumerate(one)), dict(enumerate(other)))
        covered += difference.low <= 0 <= difference.high
    assert 276 <= covered <= 297  # 285 expected; a bootstrap over seeds gives about 240


def test_incomparable_variants_are_refused():
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference({0: correct(0.5)}, {1: correct(0.5)})
    with pytest.raises(ValueError, match="different numbers of samples"):
        paired_difference({0: correct(0.5)}, {0: correct(0.5, 10)})


def test_the_effects_of_a_sum_are_the_variances_of_its_terms():
    """f = 3 i + j has no interaction: the effects are var(3 i) and var(j) over var(f)."""
    values = {(str(i), str(j)): 3.0 * i + j for i in range(3) for j in range(4)}
    first, second = 9 * np.var(range(3)), np.var(range(4))
    assert main_effects(values) == pytest.approx([first / (first + second), second / (first + second)])


def test_pure_interaction_has_no_main_effects():
    values = {(str(i), str(j)): float(i != j) for i in range(2) for j in range(2)}
    assert main_effects(values) == pytest.approx([0.0, 0.0])


def test_effects_ignore_the_order_of_the_grid_and_need_all_of_it():
    values = {(str(i), str(j)): float(i * j + i) for i in range(3) for j in range(2)}
    shuffled = {key: values[key] for key in sorted(values, key=lambda key: key[::-1], reverse=True)}
    assert main_effects(shuffled) == pytest.approx(main_effects(values))
    assert main_effects({("a",): 0.5, ("b",): 0.5}) == [0.0]
    del values["1", "1"]
    with pytest.raises(ValueError, match="every combination"):
        main_effects(values)


def test_values_within_one_standard_error_of_the_best_are_returned():
    """The best mean is 0.8; `error` is its standard error."""
    best = [0.7, 0.9, 0.7, 0.9]
    error = float(np.std(best, ddof=1)) / 2
    scores = [[0.8 - 1.01 * error], best, [0.8 - 0.99 * error]]
    assert within_one_standard_error(scores) == [1, 2]
    assert within_one_standard_error([[0.5], [0.7], [0.7]]) == [1, 2]


def test_a_small_p_is_not_formatted_as_zero():
    assert difference_cells(PairedDifference(0.125, -0.01, 0.26, 0.0004)) == ["+12.5", "-1.0 to +26.0", "< 0.001"]
    assert difference_cells(PairedDifference(0.125, 0.1, 0.15, 0.0314))[2] == "0.031"
    assert difference_cells(PairedDifference(0.125, 0.1, 0.15, None))[2] == "-"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_masks_are_encoded_without_loss(count: int):
    samples = correct(0.5, count).astype(bool)
    text = pack_bits(samples)
    np.testing.assert_array_equal(unpack_bits(text), samples)
    assert len(text) <= 2 * ((count + 7) // 8) + len(str(count)) + 1
