"""Format a dataset card for a terminal."""

from __future__ import annotations

import textwrap

from snn_datasets.base.card import DatasetCard, FileSet
from snn_datasets.base.listing import join_names

LABEL = 11
"""Width of the label column in characters."""
MAX_CLASSES = 50
"""Class names to list; more are only counted."""
FROM_FILES = "determined by the files"


def card_text(card: DatasetCard, *, width: int = 100) -> str:
    """Return the card as text, wrapped at `width` characters where words allow it."""
    sections: list[tuple[str, list[str]]] = [
        ("license", [" ".join(filter(None, [card.license, card.license_note]))]),
        ("cite", [card.citation]),
        ("from", list(card.sources)),
        ("modalities", [_modality(card, name) for name in card.modalities] or [FROM_FILES]),
        (
            "classes",
            [
                f"{len(card.classes):,}: {join_names(card.classes, most=MAX_CLASSES, quoted=False)}"
                if card.classes
                else FROM_FILES
            ],
        ),
        ("splits", [card.splits]),
        ("synthetic", [card.synthetic]),
        ("notes", list(card.notes)),
        ("on disk", [_files(files) for files in card.files] or ["nothing: the data is embedded, or you describe it"]),
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


def _modality(card: DatasetCard, name: str) -> str:
    modality = card.modalities[name]
    synthetic = ", computed rather than recorded" if modality.synthetic else ""
    return f"{name} ({modality.kind}): {modality.shape}, {modality.unit}{synthetic}"


def _files(files: FileSet) -> str:
    facts = [
        f"{files.count:,} files" if files.count is not None else "",
        "" if files.required else "not required",
        f"for {', '.join(files.modalities)}" if files.modalities else "",
    ]
    return f"{files.pattern}: {'; '.join(filter(None, [files.what, *facts]))}"
