"""Names that are meant to be the same, or may be: columns, splits and classes of a manifest. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from snn_datasets.listing import join_names

ALIASES = {
    "split": ("set", "subset", "partition", "phase", "usage", "fold"),
    "label": ("class", "labels", "category", "target", "class_name", "classname", "y", "tag"),
}
"""Other names that people give to these columns."""
MOST_GROUPS = 5
"""Groups of names that are alike, which are told one by one."""


def normalize_unicode(text: str) -> str:
    """Text in Unicode's composed form: an é of one character and an é of two are the same."""
    return unicodedata.normalize("NFC", text)


def canonical_header(header: Sequence[str], reserved: Sequence[str]) -> list[str]:
    """The names of columns, where Split or "sample id" is taken for a reserved name that does not occur itself."""
    names = [normalize_unicode(name) for name in header]
    present = set(names)
    missing = {name for name in reserved if name not in present}
    for number, name in enumerate(names):
        plain = re.sub(r"[ _-]+", "_", name.lower())
        if plain in missing:
            names[number] = plain
            missing.discard(plain)
    return names


def suggestion(wanted: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant by a missing one."""
    lower = {name.lower(): name for name in reversed(names)}
    for alias in ALIASES.get(wanted, ()):
        if alias in lower:
            return lower[alias]
    near = get_close_matches(wanted, list(lower), n=1, cutoff=0.75)
    return lower[near[0]] if near else None


def similar_labels(labels: Iterable[str]) -> list[str]:
    """A sentence for each group of class names that may be one class: Cat and cat, 1 and 01, "air con" and air_con."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[_key(label)].append(label)
    near = [names for names in groups.values() if len(names) > 1]
    sentences = [
        f"the classes {join_names(names)} are told apart, though they differ only in "
        f"{'how the number is written' if _is_number(names[0]) else 'case, spaces or signs'}; write them alike if "
        "they are one"
        for names in near[:MOST_GROUPS]
    ]
    if len(near) > MOST_GROUPS:
        sentences.append(f"{len(near) - MOST_GROUPS:,} more groups of classes differ only in how they are written")
    return sentences


def _key(label: str) -> str:
    if _is_number(label):
        return repr(float(label))
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", label).casefold()).strip() or label


def _is_number(label: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", label, re.ASCII) is not None
