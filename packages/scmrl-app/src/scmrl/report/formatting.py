"""Format numbers and names for the HTML report."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from scmrl.console.printable import printable
from scmrl.results.run import Score


def percent(fraction: float) -> str:
    """Format a fraction in [0, 1] with two decimals; a value near 0 or 1 is never rounded to it."""
    return "< 0.01%" if 0 < fraction < 5e-5 else "> 99.99%" if 1 - 5e-5 <= fraction < 1 else f"{fraction:.2%}"


def points(difference: float) -> str:
    """Format a difference of two fractions in percentage points with its sign; 0.00 has none."""
    text = f"{100 * difference:+.2f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else "0.00"


def interval(score: Score) -> str:
    """Format the interval of a score."""
    return f"{percent(score.low)} to {percent(score.high)}"


def count(number: float) -> str:
    """Format a count with thousands separators, rounded to an integer."""
    return f"{math.floor(number + 0.5):,}"


def breakable(name: str) -> Markup:
    """Let a dotted name wrap after each dot."""
    return Markup(".<wbr>").join(map(escape, name.split(".")))


def escape_unprintable(value: object) -> object:
    """Replace unprintable characters, which names from files may hold, by their codes."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value, keep="\n\t")
