"""Match similar names of columns, splits and classes in a manifest. Does not import torch."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from snn_datasets.base.listing import join_names

ALIASES = {
    "split": ("set", "subset", "partition", "phase", "usage", "fold"),
    "label": ("class", "labels", "category", "target", "class_name", "classname", "y", "tag"),
}
"""Common alternative names of these columns."""
MAX_GROUPS = 5
"""Groups of similar names that are reported individually."""


def normalize_unicode(text: str) -> str:
    """Return text in Unicode's composed form, in which an é is always one character."""
    return unicodedata.normalize("NFC", text)


def canonical_header(header: Sequence[str], reserved: Sequence[str]) -> list[str]:
    """Rename columns such as Split or "sample id" to the reserved name that they match, unless it occurs itself."""
    names = [normalize_unicode(name) for name in header]
    present = set(names)
    missing = {name for name in reserved if name not in present}
    for number, name in enumerate(names):
        plain = re.sub(r"[ _-]+", "_", name.lower())
        if plain in missing:
            names[number] = plain
            missing.discard(plain)
    return names


def suggestion(name: str, names: Sequence[str]) -> str | None:
    """Return the existing name that was probably meant by an unknown one."""
    lower = {name.lower(): name for name in reversed(names)}
    for alias in ALIASES.get(name, ()):
        if alias in lower:
            return lower[alias]
    near = get_close_matches(name, list(lower), n=1, cutoff=0.75)
    return lower[near[0]] if near else None


def similar_labels(labels: Iterable[str]) -> list[str]:
    """Report class names that may be the same class, such as Cat and cat, 1 and 01, or "air con" and air_con."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[_key(label)].append(label)
    near = [names for names in groups.values() if len(names) > 1]
    sentences = [
        f"the classes {join_names(names)} are separate, but differ only in "
        f"{'number format' if _is_decimal(names[0]) else 'case, spaces or punctuation'}; give them one spelling if "
        "they are the same"
        for names in near[:MAX_GROUPS]
    ]
    if len(near) > MAX_GROUPS:
        sentences.append(f"{len(near) - MAX_GROUPS:,} more groups of classes differ only in spelling")
    return sentences


def _key(label: str) -> str:
    if _is_decimal(label):
        return repr(float(label))
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", label).casefold()).strip() or label


def _is_decimal(label: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", label, re.ASCII) is not None
