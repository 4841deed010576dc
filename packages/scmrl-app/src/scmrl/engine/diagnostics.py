"""What training warns about: silent and saturated layers, and validation that lags in the first epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SILENT, SATURATED = 0.001, 0.95
"""Firing rates below and above which a layer is named in warnings."""
EARLY_EPOCHS = 5
"""Epochs in which batch norm's running averages may lag behind the weights."""
MIN_GAP = 0.2
"""Smallest gap in accuracy that is worth a note."""

LAG_NOTE = (
    "validation is behind training while batch normalization's running averages catch up with weights that change "
    "fast; it recovers within a few epochs"
)


def silent_layers(rates: Mapping[str, float]) -> list[str]:
    """Return the layers with a firing rate below `SILENT`."""
    return [name for name, rate in rates.items() if rate < SILENT]


def saturated_layers(rates: Mapping[str, float]) -> list[str]:
    """Return the layers with a firing rate above `SATURATED`."""
    return [name for name, rate in rates.items() if rate > SATURATED]


def rate_warnings(rates: dict[str, float]) -> list[str]:
    """Return one sentence about silent layers and one about saturated layers, if there are any."""
    warnings: list[str] = []
    for names, state in (
        (silent_layers(rates), f"silent (below {SILENT:.1%})"),
        (saturated_layers(rates), f"saturated (above {SATURATED:.0%})"),
    ):
        if names:
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.append(f"{len(names)} of {len(rates)} neuron layers are {state}: {listed}")
    return warnings


def lag_note(history: Sequence[Mapping[str, float]]) -> str:
    """Return the note for the last epoch of a history; empty if the gap is small or was noted before.

    On the embedded digits the validation accuracy after one epoch is 11 %, but 57 % with batch statistics or recomputed
    averages, so the weights are not the cause.
    """
    lagging = [
        record["train_accuracy"] - record["val_accuracy"] > MIN_GAP and record["epoch"] <= EARLY_EPOCHS
        for record in history
    ]
    return LAG_NOTE if lagging and lagging[-1] and not any(lagging[:-1]) else ""
