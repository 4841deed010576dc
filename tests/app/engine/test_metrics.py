"""Metrics against scikit-learn, and against counts by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from scmrl.engine import metrics
from scmrl.engine.metrics import Predictions

N, K = 200, 5


@pytest.fixture
def said() -> Predictions:
    draw = np.random.default_rng(0)
    labels = draw.integers(K - 1, size=N)  # no sample is of the last class
    logits = draw.normal(size=(N, K)) + 1.5 * np.eye(K)[labels]
    logits[:, 2] = -9  # nothing is taken for the third
    exponents = np.exp(logits)
    return Predictions.of(labels, exponents / exponents.sum(1, keepdims=True))


def test_scores_are_those_of_scikit_learn(said):
    counts = metrics.confusion(said, K)
    assert (counts == confusion_matrix(said.labels, said.predicted, labels=range(K))).all()
    assert metrics.accuracy(said) == pytest.approx(accuracy_score(said.labels, said.predicted))
    assert metrics.macro_f1(said) == pytest.approx(f1_score(said.labels, said.predicted, average="macro"))
    expected = precision_recall_fscore_support(said.labels, said.predicted, labels=range(K), zero_division=0)
    found = [(s.precision, s.recall, s.f1, s.support) for s in metrics.class_scores(counts)]
    np.testing.assert_allclose(np.array(found).T, np.array(expected))
    assert counts[:, 2].sum() == 0
    assert counts[4].sum() == 0


def test_rows_are_true_and_columns_predicted():
    said = Predictions.of(np.array([0, 0, 1]), np.array([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.9]]))
    assert metrics.confusion(said, 3).tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_calibration_error_by_hand():
    # Of 15 spans, (0.6, 0.667] holds two samples, one of them right; (0.933, 1] one, wrong; (0.4, 0.467] one, right.
    said = Predictions(np.array([0, 0, 0, 0]), np.array([0, 1, 1, 0]), np.array([0.61, 0.65, 1.0, 0.45]))
    assert metrics.calibration_error(said) == pytest.approx((2 * abs(0.63 - 0.5) + 1.0 + 0.55) / 4)


def test_perfect_and_honest_confidence_is_calibrated():
    sure = Predictions(np.arange(4), np.arange(4), np.ones(4))
    assert metrics.calibration_error(sure) == 0
    half = Predictions(np.zeros(10, np.int64), np.arange(10) % 2, np.full(10, 0.5))
    assert metrics.calibration_error(half) == pytest.approx(0)


def test_intervals_agree_with_the_normal_approximation(said):
    scores = {"accuracy": metrics.accuracy, "f1": metrics.macro_f1}
    found = metrics.intervals(said, scores, resamples=2000, seed=3)
    p = metrics.accuracy(said)
    half = 1.96 * np.sqrt(p * (1 - p) / N)
    np.testing.assert_allclose(found["accuracy"], (p - half, p + half), atol=0.01)
    assert found["f1"][0] < metrics.macro_f1(said) < found["f1"][1]
    assert found == metrics.intervals(said, scores, resamples=2000, seed=3)
    assert found != metrics.intervals(said, scores, resamples=2000, seed=4)
    assert metrics.intervals(said, {"f1": metrics.macro_f1}, resamples=2000, seed=3)["f1"] == found["f1"]


def test_no_resamples_is_a_mistake(said):
    with pytest.raises(ValueError, match="0 resamples: a bootstrap needs at least 1"):
        metrics.intervals(said, {}, resamples=0, seed=0)
