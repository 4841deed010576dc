"""What studies compute from their numbers, against SciPy, NumPy and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scmrl.study.cells import compared
from scmrl.study.statistics import Difference, Summary, as_good_as_the_best, bits, from_bits, main_effects, paired


def test_a_summary_is_mean_and_deviation_of_a_sample():
    assert Summary.of([0.5, 0.7, 0.9]) == Summary(pytest.approx(0.7), pytest.approx(0.2), 3)  # pyright: ignore
    assert Summary.of([0.25]) == Summary(0.25, 0.0, 1)


def right(share: float, samples: int = 400, *, seed: int = 0) -> np.ndarray:
    """Which samples were right, 0 or 1."""
    return (np.random.default_rng(seed).random(samples) < share).astype(np.float64)


def test_a_paired_comparison_takes_the_seeds_that_both_have():
    one = {seed: right(0.8, seed=seed) for seed in (0, 1, 2, 3)}
    other = {seed: right(0.6, seed=10 + seed) for seed in (1, 2, 3, 4)}
    found = paired(one, other)

    differences = [one[seed].mean() - other[seed].mean() for seed in (1, 2, 3)]
    assert found.mean == pytest.approx(np.mean(differences))
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue)
    assert found.low < found.mean < found.high
    assert found.low > 0


def test_a_paired_comparison_turned_round_has_the_other_sign():
    one, other = {0: right(0.8), 1: right(0.7, seed=1)}, {0: right(0.6, seed=2), 1: right(0.5, seed=3)}
    there, back = paired(one, other), paired(other, one)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.p == pytest.approx(back.p)


def test_the_interval_of_one_seed_is_that_of_its_samples():
    one, other = right(0.7, 2000), right(0.6, 2000, seed=1)
    found = paired({0: one}, {0: other})
    by_hand = stats.ttest_1samp(one - other, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    assert found.p is None


def test_the_interval_of_seeds_that_answer_alike_on_all_samples_is_that_of_the_seeds():
    """Every sample is right with one and wrong with the other, or none is: samples add nothing."""
    always, never = np.ones(50), np.zeros(50)
    found = paired({0: always, 1: always, 2: never}, {0: never, 1: never, 2: never})
    by_hand = stats.ttest_1samp([1.0, 1.0, 0.0], 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


def test_the_interval_adds_the_chance_of_seeds_and_of_samples():
    one = {0: np.array([1.0, 1, 1, 0]), 1: np.array([1.0, 0, 1, 1])}
    other = {0: np.array([0.0, 1, 0, 0]), 1: np.array([0.0, 0, 1, 1])}
    # Differences [[1, 0, 1, 0], [1, 0, 0, 0]]: means 1/2 and 1/4 by seed, and 1, 0, 1/2, 0 by sample.
    seeds, samples = np.var([1 / 2, 1 / 4], ddof=1) / 2, np.var([1, 0, 1 / 2, 0], ddof=1) / 4
    free = (seeds + samples) ** 2 / (seeds**2 / 1 + samples**2 / 3)
    half = stats.t.ppf(0.975, free) * np.sqrt(seeds + samples)
    found = paired(one, other)
    assert (found.mean, found.low, found.high) == pytest.approx((0.375, 0.375 - half, 0.375 + half))


def test_variants_that_answer_alike_differ_by_nothing():
    found = paired({0: right(0.5), 1: right(0.6)}, {0: right(0.5), 1: right(0.6)})
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, None)


def test_the_interval_covers_no_difference_about_as_often_as_it_says():
    """Seeds that differ as much as trainings do: by 5 points, with three of them."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        shares = rng.normal(0.7, 0.05, (2, 3, 1))
        one, other = (rng.random((2, 3, 400)) < shares).astype(np.float64)
        found = paired(dict(enumerate(one)), dict(enumerate(other)))
        covered += found.low <= 0 <= found.high
    assert 276 <= covered <= 297  # 285 are expected; seeds that are drawn anew, as a bootstrap does, give some 240


def test_variants_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="no seed in common"):
        paired({0: right(0.5)}, {1: right(0.5)})
    with pytest.raises(ValueError, match="different numbers of samples"):
        paired({0: right(0.5)}, {0: right(0.5, 10)})


def test_the_effects_of_a_sum_are_the_variances_of_its_terms():
    """Of f = 3 i + j there is no interplay: the effects are var(3 i) and var(j) over var(f)."""
    values = {(str(i), str(j)): 3.0 * i + j for i in range(3) for j in range(4)}
    first, second = 9 * np.var(range(3)), np.var(range(4))
    assert main_effects(values) == pytest.approx([first / (first + second), second / (first + second)])


def test_settings_that_only_act_together_have_no_effect_by_themselves():
    values = {(str(i), str(j)): float(i != j) for i in range(2) for j in range(2)}
    assert main_effects(values) == pytest.approx([0.0, 0.0])


def test_effects_do_not_depend_on_the_order_of_the_grid_and_need_all_of_it():
    values = {(str(i), str(j)): float(i * j + i) for i in range(3) for j in range(2)}
    shuffled = {key: values[key] for key in sorted(values, key=lambda key: key[::-1], reverse=True)}
    assert main_effects(shuffled) == pytest.approx(main_effects(values))
    assert main_effects({("a",): 0.5, ("b",): 0.5}) == [0.0]
    del values["1", "1"]
    with pytest.raises(ValueError, match="every combination"):
        main_effects(values)


def test_what_lies_within_one_standard_error_is_as_good_as_the_best():
    """The best mean is 0.8, with a standard error of 0.1 / sqrt(4) = 0.05."""
    best = [0.7, 0.9, 0.7, 0.9]
    error = np.std(best, ddof=1) / 2
    scores = [[0.8 - 1.01 * error], best, [0.8 - 0.99 * error]]
    assert as_good_as_the_best(scores) == [1, 2]
    assert as_good_as_the_best([[0.5], [0.7], [0.7]]) == [1, 2]


def test_a_small_p_is_not_nought():
    assert compared(Difference(0.125, -0.01, 0.26, 0.0004)) == ["+12.5", "-1.0 to +26.0", "< 0.001"]
    assert compared(Difference(0.125, 0.1, 0.15, 0.0314))[2] == "0.031"
    assert compared(Difference(0.125, 0.1, 0.15, None))[2] == "-"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_bits_are_packed_without_loss(count: int):
    samples = right(0.5, count).astype(bool)
    text = bits(samples)
    np.testing.assert_array_equal(from_bits(text), samples)
    assert len(text) <= 2 * ((count + 7) // 8) + len(str(count)) + 1
