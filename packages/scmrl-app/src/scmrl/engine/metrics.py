"""Classification metrics as functions of arrays: confusion matrix, scores, calibration, bootstrap intervals.

Labels and predictions are int [N], indices of K classes; confidences are float [N], the probability of the predicted
class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Float64Array = NDArray[np.float64]

BINS = 15
"""Equal-width confidence bins of the calibration error, as in Guo et al. 2017 (arXiv:1706.04599)."""
LEVEL = 0.95
"""Confidence level of the bootstrap intervals."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted and true classes of N samples."""

    labels: Ints
    """True classes [N]."""
    predicted: Ints
    """Most probable classes [N]."""
    confidence: Float64Array
    """Their probabilities [N]."""

    @classmethod
    def of(cls, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Predictions:
        """From labels [N] and class probabilities [N, K]; ties go to the first class."""
        predicted = probabilities.argmax(1)
        confidence = probabilities.max(1) if probabilities.size else np.zeros(0)
        return cls(labels.astype(np.int64), predicted.astype(np.int64), confidence.astype(np.float64))

    def select(self, indices: Ints) -> Predictions:
        """Select samples by index, with repetitions."""
        return Predictions(self.labels[indices], self.predicted[indices], self.confidence[indices])


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; 0 / 0 counts as 0."""

    precision: float
    """TP / (TP + FP)."""
    recall: float
    """TP / (TP + FN)."""
    f1: float
    """Harmonic mean of precision and recall."""
    support: int
    """Number of samples of the class."""


def confusion(predictions: Predictions, classes: int) -> Ints:
    """Counts [K, K] by true class (rows) and predicted class (columns)."""
    return np.bincount(predictions.labels * classes + predictions.predicted, minlength=classes**2).reshape(
        classes, classes
    )


@dataclass(frozen=True)
class ConfusedPair:
    """A class that was predicted as another one."""

    true: int
    """Index of the true class."""
    predicted: int
    """Index of the predicted class."""
    count: int
    support: int
    """Number of samples of the true class."""


def confused_pairs(counts: Sequence[Sequence[int]] | Ints, *, limit: int) -> list[ConfusedPair]:
    """The largest off-diagonal entries of a confusion matrix [K, K], largest first, ties in order of the classes."""
    matrix = np.array(counts, dtype=np.int64)
    support = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(index), len(matrix)) for index in order]
    return [ConfusedPair(t, p, int(matrix[t, p]), int(support[t])) for t, p in pairs if matrix[t, p]]


def accuracy(predictions: Predictions) -> float:
    """Accuracy, 0 to 1."""
    return np.count_nonzero(predictions.labels == predictions.predicted) / len(predictions.labels)


def class_scores(counts: Ints) -> list[ClassScore]:
    """Precision, recall and F1 of every class, from a confusion matrix [K, K]."""
    correct, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    precision, recall, f1 = (
        _ratio(correct, predicted), _ratio(correct, true), _ratio(2 * correct, true + predicted)
    )  # fmt: skip
    return [
        ClassScore(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(precision, recall, f1, true, strict=True)
    ]


def macro_f1(predictions: Predictions) -> float:
    """Mean F1 over the classes that occur among labels or predictions."""
    # Without the confusion matrix: the bootstrap calls this 1,000 times, and 1,000 classes have a million pairs.
    classes = int(max(predictions.labels.max(), predictions.predicted.max())) + 1
    correct = np.bincount(predictions.labels[predictions.labels == predictions.predicted], minlength=classes)
    either = np.bincount(predictions.labels, minlength=classes) + np.bincount(predictions.predicted, minlength=classes)
    return float(np.mean(_ratio(2 * correct, either)[either > 0]))


def calibration_error(predictions: Predictions) -> float:
    """Expected calibration error, 0 to 1: mean difference between confidence and accuracy over `BINS` bins.

    Bins of equal width are weighted by their number of samples (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599).
    """
    # Bins are open below and closed above, so that a confidence of 1 is in the last one.
    bins = np.clip(np.ceil(predictions.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = np.bincount(bins, predictions.confidence - (predictions.labels == predictions.predicted), minlength=BINS)
    return float(np.abs(gap).sum() / len(bins))


def intervals(
    predictions: Predictions, scores: dict[str, Callable[[Predictions], float]], *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of each score at `LEVEL` (Efron 1979, doi:10.1214/aos/1176344552).

    Samples are drawn with replacement, `resamples` times, the same draws for all scores. Variation between trainings is
    not included.

    Raises:
        ValueError: fewer than 1 resample.
    """
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: a bootstrap needs at least 1")
    rng, N = np.random.default_rng(seed), len(predictions.labels)
    values: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(resamples):
        resample = predictions.select(rng.integers(N, size=N))
        for name, score in scores.items():
            values[name].append(score(resample))
    quantiles = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    bounds = {name: np.quantile(np.array(column), quantiles) for name, column in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _ratio(numerator: Ints, denominator: Ints) -> Float64Array:
    """Numerator / denominator, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
