"""Why validation looks worse than training in the first epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EARLY = 5
"""Epochs in which batch norm's running averages may be behind the weights."""
BEHIND = 0.2
"""Accuracy that validation is behind training by, from which on it is worth a line."""

NOTE = (
    "validation is behind training while batch normalization's running averages catch up with weights that change "
    "fast; it recovers within a few epochs"
)


def lag_note(history: Sequence[Mapping[str, float]]) -> str:
    """What to say of the gap after the last epoch of a history; empty if nothing, or if it was said before.

    On the embedded digits after one epoch the model is right in 11 % of the validation samples, and in 57 % with the
    statistics of the batch or with averages taken anew, so the weights are not to blame.
    """
    behind = [
        record["train_accuracy"] - record["val_accuracy"] > BEHIND and record["epoch"] <= EARLY for record in history
    ]
    return NOTE if behind and behind[-1] and not any(behind[:-1]) else ""
