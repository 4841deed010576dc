"""A card as text to read in a terminal."""

from __future__ import annotations

import textwrap

from snn_datasets.card import DatasetCard, FileSet
from snn_datasets.listing import join_names

LABEL = 11
"""Characters of the column of labels."""
MOST_CLASSES = 50
"""Classes that are named; of more the first ones, and how many more there are."""
AS_FILES = "as the files say"


def describe(card: DatasetCard, *, width: int = 100) -> str:
    """What the card says, in lines of at most `width` characters where words allow it."""
    sections: list[tuple[str, list[str]]] = [
        ("license", [" ".join(filter(None, [card.license, card.license_note]))]),
        ("cite", [card.citation]),
        ("from", list(card.sources)),
        ("senses", [_sense(card, name) for name in card.modalities] or [AS_FILES]),
        (
            "classes",
            [
                f"{len(card.classes):,}: {join_names(card.classes, most=MOST_CLASSES, quoted=False)}"
                if card.classes
                else AS_FILES
            ],
        ),
        ("splits", [card.splits]),
        ("synthetic", [card.synthetic]),
        ("notes", list(card.notes)),
        ("on disk", [_files(files) for files in card.files] or ["nothing: it is embedded or described by yourself"]),
    ]
    lines = textwrap.wrap(f"{card.kind}: {card.title}, version {card.version}", width)
    for label, entries in sections:
        for number, entry in enumerate(filter(None, entries)):
            first = label.ljust(LABEL) if number == 0 else " " * LABEL
            lines += textwrap.wrap(
                entry,
                width,
                initial_indent=first,
                subsequent_indent=" " * LABEL,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _sense(card: DatasetCard, name: str) -> str:
    sense = card.modalities[name]
    made = ", computed rather than recorded" if sense.synthetic else ""
    return f"{name} ({sense.kind}): {sense.shape}, {sense.unit}{made}"


def _files(files: FileSet) -> str:
    facts = [
        f"{files.count:,} files" if files.count is not None else "",
        "" if files.required else "not required",
        f"for {', '.join(files.modalities)}" if files.modalities else "",
    ]
    return f"{files.pattern}: {'; '.join(filter(None, [files.what, *facts]))}"
