"""How well predictions fit labels, as plain functions of arrays: counts, scores, calibration and their uncertainty.

Labels and predictions are int [N], indices of K classes; confidences are float [N], the probability of the predicted
class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 15
"""Equal spans of confidence that calibration compares, as Guo et al. 2017 (arXiv:1706.04599) do."""
LEVEL = 0.95
"""Share of the bootstrap's resamples that an interval holds."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of N samples, and what is true."""

    labels: Ints
    """True classes [N]."""
    predicted: Ints
    """Most probable classes [N]."""
    confidence: Floats
    """Their probabilities [N]."""

    @classmethod
    def of(cls, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Predictions:
        """From labels [N] and the probabilities of all classes [N, K]; of equal ones the first class counts."""
        predicted = probabilities.argmax(1)
        confidence = probabilities.max(1) if probabilities.size else np.zeros(0)
        return cls(labels.astype(np.int64), predicted.astype(np.int64), confidence.astype(np.float64))

    def rows(self, chosen: Ints) -> Predictions:
        """Some of the samples, in the order given; one may come several times."""
        return Predictions(self.labels[chosen], self.predicted[chosen], self.confidence[chosen])


@dataclass(frozen=True)
class ClassScore:
    """How one class fares; what would be 0 / 0 is 0."""

    precision: float
    """Of the samples taken for the class, the share that is of it."""
    recall: float
    """Of the samples of the class, the share that is taken for it."""
    f1: float
    """Harmonic mean of the two."""
    support: int
    """Samples of the class."""


def confusion(said: Predictions, classes: int) -> Ints:
    """Counts [K, K] by true class (rows) and predicted class (columns)."""
    return np.bincount(said.labels * classes + said.predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class ConfusedPair:
    """A class that was taken for another."""

    true: int
    """Index of the true class."""
    predicted: int
    """Index of the predicted class."""
    count: int
    support: int
    """Samples of the true class."""


def confused_pairs(counts: Sequence[Sequence[int]] | Ints, *, limit: int) -> list[ConfusedPair]:
    """The most frequent mistakes of a confusion matrix [K, K], most frequent first, then in order of the classes."""
    matrix = np.array(counts, dtype=np.int64)
    of = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(at), len(matrix)) for at in order]
    return [ConfusedPair(t, a, int(matrix[t, a]), int(of[t])) for t, a in pairs if matrix[t, a]]


def accuracy(said: Predictions) -> float:
    """Share of samples whose predicted class is theirs, 0 to 1."""
    return np.count_nonzero(said.labels == said.predicted) / len(said.labels)


def class_scores(counts: Ints) -> list[ClassScore]:
    """Precision, recall and F1 of every class, from a confusion matrix [K, K]."""
    right, true, taken = counts.diagonal(), counts.sum(1), counts.sum(0)
    precision, recall, f1 = (_share(right, taken), _share(right, true), _share(2 * right, true + taken))
    return [
        ClassScore(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(precision, recall, f1, true, strict=True)
    ]


def macro_f1(said: Predictions) -> float:
    """Mean F1 over the classes that occur, among labels or predictions."""
    # Without the matrix of all pairs: a bootstrap asks a thousand times, and a thousand classes have a million pairs.
    classes = int(max(said.labels.max(), said.predicted.max())) + 1
    right = np.bincount(said.labels[said.labels == said.predicted], minlength=classes)
    either = np.bincount(said.labels, minlength=classes) + np.bincount(said.predicted, minlength=classes)
    return float(np.mean(_share(2 * right, either)[either > 0]))


def calibration_error(said: Predictions) -> float:
    """Expected calibration error, 0 to 1: how far confidence is from the share that is right.

    Samples are put into `BINS` equal spans of confidence; the differences between a span's mean confidence and its
    accuracy are averaged, each span counting by its samples (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599).
    """
    # Spans are open below and closed above, so that a confidence of 1 is in the last one.
    place = np.clip(np.ceil(said.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = np.bincount(place, said.confidence - (said.labels == said.predicted), minlength=BINS)
    return float(np.abs(gap).sum() / len(place))


def intervals(
    said: Predictions, scores: dict[str, Callable[[Predictions], float]], *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Where each score would lie on other samples of the same kind: the bootstrap's percentile intervals.

    As many samples as there are are drawn with replacement, `resamples` times, the same draws for all scores; between
    the two bounds lies the middle `LEVEL` of what the score then is (Efron 1979, doi:10.1214/aos/1176344552). How the
    training turned out by chance is no part of it.

    Raises:
        ValueError: fewer than 1 resample.
    """
    if resamples < 1:
        raise ValueError(f"a bootstrap draws at least once, but it is to draw {resamples} times")
    draw, N = np.random.default_rng(seed), len(said.labels)
    found: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(resamples):
        drawn = said.rows(draw.integers(N, size=N))
        for name, score in scores.items():
            found[name].append(score(drawn))
    bounds = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return {name: (float(low), float(high)) for name, values in found.items() for low, high in [_at(values, bounds)]}


def _at(values: list[float], shares: tuple[float, float]) -> Floats:
    return np.quantile(np.array(values), shares)


def _share(part: Ints, whole: Ints) -> Floats:
    """Part / whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
