"""Checks of numbers that users give; NaN passes none of them, as it is neither above nor below anything."""

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
        name: of the argument, for the message.
        value: what was given.
        above: the value must be larger.
        at_least: the value must be as large.
        below: the value must be smaller.
    """
    fits = (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
    )
    if not fits:
        bounds = {"above": above, "at least": at_least, "below": below}
        range_text = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        raise ValueError(f"{name} is a finite number{' ' if range_text else ''}{range_text}, but it is {value}")
