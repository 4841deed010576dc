"""Numbers as a page shows them."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from scmrl.report.stored import Score


def percent(share: float) -> str:
    """A share of 1, with two decimals; what is not quite zero, or not quite all, must not look like it."""
    return "< 0.01%" if 0 < share < 5e-5 else "> 99.99%" if 1 - 5e-5 <= share < 1 else f"{share:.2%}"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points, with its sign; what rounds to nothing has none."""
    text = f"{100 * difference:+.2f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else "0.00"


def interval(score: Score) -> str:
    """Between what bounds a score lies."""
    return f"{percent(score.low)} to {percent(score.high)}"


def count(number: float) -> str:
    """A number of things, its thousands apart; the fraction of a mean is left out."""
    return f"{math.floor(number + 0.5):,}"


def breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line after a dot."""
    return Markup(".<wbr>").join(map(escape, name.split(".")))


def visible(value: object) -> object:
    """A value as a page shows it: signs that no reader sees, which names from files may hold, as their codes."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in value)
