"""Metrics agree with scikit-learn and with calculations by hand."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from scmrl.engine import metrics
from scmrl.engine.metrics import Predictions

N, K = 200, 5


@pytest.fixture
def predictions() -> Predictions:
    draw = np.random.default_rng(0)
    labels = draw.integers(K - 1, size=N)  # no sample is of the last class
    logits = draw.normal(size=(N, K)) + 1.5 * np.eye(K)[labels]
    logits[:, 2] = -9  # nothing is taken for the third
    exponents = np.exp(logits)
    return Predictions.of(labels, exponents / exponents.sum(1, keepdims=True))


def test_scores_equal_those_of_scikit_learn(predictions: Predictions):
    counts = metrics.confusion(predictions, K)
    assert (counts == confusion_matrix(predictions.labels, predictions.predicted, labels=range(K))).all()
    assert metrics.accuracy(predictions) == pytest.approx(accuracy_score(predictions.labels, predictions.predicted))
    assert metrics.macro_f1(predictions) == pytest.approx(
        f1_score(predictions.labels, predictions.predicted, average="macro")
    )
    without_predictions: Any = 0
    expected = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=range(K), zero_division=without_predictions
    )
    result = [(s.precision, s.recall, s.f1, s.support) for s in metrics.class_scores(counts)]
    np.testing.assert_allclose(np.array(result).T, np.array(expected))
    assert counts[:, 2].sum() == 0
    assert counts[4].sum() == 0


def test_rows_are_true_and_columns_predicted():
    predictions = Predictions.of(np.array([0, 0, 1]), np.array([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.9]]))
    assert metrics.confusion(predictions, 3).tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_calibration_error_equals_a_calculation_by_hand():
    # Of 15 spans, (0.6, 0.667] holds two samples, one of them right; (0.933, 1] one, wrong; (0.4, 0.467] one, right.
    predictions = Predictions(np.array([0, 0, 0, 0]), np.array([0, 1, 1, 0]), np.array([0.61, 0.65, 1.0, 0.45]))
    assert metrics.calibration_error(predictions) == pytest.approx((2 * abs(0.63 - 0.5) + 1.0 + 0.55) / 4)


def test_perfect_and_honest_confidence_is_calibrated():
    sure = Predictions(np.arange(4), np.arange(4), np.ones(4))
    assert metrics.calibration_error(sure) == 0
    half = Predictions(np.zeros(10, np.int64), np.arange(10) % 2, np.full(10, 0.5))
    assert metrics.calibration_error(half) == pytest.approx(0)


def test_intervals_agree_with_the_normal_approximation(predictions: Predictions):
    scores = {"accuracy": metrics.accuracy, "f1": metrics.macro_f1}
    result = metrics.intervals(predictions, scores, resamples=2000, seed=3)
    p = metrics.accuracy(predictions)
    half = 1.96 * np.sqrt(p * (1 - p) / N)
    np.testing.assert_allclose(result["accuracy"], (p - half, p + half), atol=0.01)
    assert result["f1"][0] < metrics.macro_f1(predictions) < result["f1"][1]
    assert result == metrics.intervals(predictions, scores, resamples=2000, seed=3)
    assert result != metrics.intervals(predictions, scores, resamples=2000, seed=4)
    assert metrics.intervals(predictions, {"f1": metrics.macro_f1}, resamples=2000, seed=3)["f1"] == result["f1"]


def test_zero_resamples_are_refused(predictions: Predictions):
    with pytest.raises(ValueError, match="0 resamples: a bootstrap needs at least 1"):
        metrics.intervals(predictions, {}, resamples=0, seed=0)
