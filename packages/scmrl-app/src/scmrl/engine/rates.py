"""Warnings about silent and saturated layers."""

from __future__ import annotations

SILENT, SATURATED = 0.001, 0.95
"""Firing rates below and above which a layer is named in warnings."""


def rate_warnings(rates: dict[str, float]) -> list[str]:
    """Return one sentence about silent layers and one about saturated layers, if there are any."""
    warnings: list[str] = []
    silent = [name for name, rate in rates.items() if rate < SILENT]
    saturated = [name for name, rate in rates.items() if rate > SATURATED]
    for names, state in ((silent, f"silent (below {SILENT:.1%})"), (saturated, f"saturated (above {SATURATED:.0%})")):
        if names:
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.append(f"{len(names)} of {len(rates)} neuron layers are {state}: {listed}")
    return warnings
