"""Digits: the embedded dataset."""

from __future__ import annotations

from snn_datasets.base.dataset import DatasetSplits, Progress
from snn_datasets.digits.options import DigitsOptions


class DigitsSpec(DigitsOptions):
    """Handwritten digits, each with a synthetic utterance of the same digit and a synthetic touch of its writing.

    Embedded: nothing is downloaded. By default audio and visual are read.
    """

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Generate the 1,797 samples, which takes a few seconds, or read them from the cache."""
        from snn_datasets.digits.build import build_digits

        return build_digits(self, progress)
