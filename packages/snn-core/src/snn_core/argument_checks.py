"""Checks of numeric arguments. NaN fails all of them."""

from __future__ import annotations

import math


def check_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> None:
    """Raise `ValueError` unless the value is finite and within the bounds.

    Args:
        name: name of the argument, for the message.
        value: the argument.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
    """
    in_range = (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
    )
    if not in_range:
        bounds = {"above": above, "at least": at_least, "below": below}
        range_text = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        raise ValueError(f"{name} must be a finite number{' ' if range_text else ''}{range_text}, but it is {value}")
