"""Firing rates that ask for attention."""

from __future__ import annotations

SILENT, SATURATED = 0.001, 0.95
"""Firing rates below and above which a layer is named in warnings."""


def rate_warnings(rates: dict[str, float]) -> list[str]:
    """A sentence for silent layers and one for saturated ones, if there are any."""
    found: list[str] = []
    silent = [name for name, rate in rates.items() if rate < SILENT]
    full = [name for name, rate in rates.items() if rate > SATURATED]
    for names, what in ((silent, f"silent (below {SILENT:.1%})"), (full, f"saturated (above {SATURATED:.0%})")):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            found.append(f"{len(names)} of {len(rates)} neuron layers are {what}: {shown}")
    return found
