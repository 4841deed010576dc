"""Labels in figures: layers, classes and percentages."""

from __future__ import annotations

from scmrl.console.tables import one_line

PARTS = {"spike": "coincidences", "temporal": "temporal attention", "spatial": "spatial attention"}
"""Readable names of the parts of a fusion method."""
MAX_NAME = 30
"""Characters of a class name; longer names are cut."""
CONTAINERS = ("fusion", "readers", "mlps")
"""Container modules, whose names are dropped."""


def layer_name(name: str) -> str:
    """Return `audio reads image: temporal attention, query` for `fusion.readers.audio_reads_image.temporal.query`.

    Unknown parts keep their names, with spaces for underscores, so that no two layers share a name.
    """
    parts = name.split(".")
    if parts[0] == "encoders" and len(parts) > 2:
        return f"{parts[1]} encoder: {_words(parts[2:])}"
    if parts[0] == "readout":
        inner = [part for part in parts[1:] if part not in CONTAINERS]
        return f"readout: {_words(inner)}" if inner else "readout"
    inner = [part for part in parts if part not in CONTAINERS]
    if not inner:
        return name
    prefix, rest = inner[0].replace("_reads_", " reads "), inner[1:]
    return f"{prefix}: {_words(rest)}" if rest else prefix


def _words(parts: list[str]) -> str:
    words: list[str] = []
    for part in parts:
        if part.isdecimal() and words:
            words[-1] = f"{words[-1].removesuffix('s')} {int(part) + 1}"
        else:
            words.append(PARTS.get(part, part.replace("_", " ")))
    return ", ".join(words)


def short_name(name: str) -> str:
    """Return a class name on one line, cut if it is long."""
    name = one_line(name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def format_percent(value: float) -> str:
    """Format a percentage with about two digits; a value near 0 is never rounded to it."""
    if 0 < value < 0.01:
        return "< 0.01 %"
    return f"{value:.{0 if value >= 10 or value == 0 else 1 if value >= 1 else 2}f} %"
