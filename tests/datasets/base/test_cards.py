"""What every card promises, and how it reads."""

import re
from pathlib import PurePosixPath

import pytest

from datasets.writers.made_up import CARD
from snn_datasets import DATASETS
from snn_datasets.base.card import DatasetCard, FileSet
from snn_datasets.base.card_text import card_text
from snn_datasets.loading.packaged import published_table
from snn_datasets.manifest.near_names import similar_labels

SPDX = re.compile(r"(LicenseRef-)?[A-Za-z0-9.+-]+( (AND|OR|WITH) (LicenseRef-)?[A-Za-z0-9.+-]+)*")


@pytest.fixture(params=list(DATASETS))
def card(request: pytest.FixtureRequest) -> DatasetCard:
    return DATASETS[request.param].card


@pytest.mark.parametrize("kind", list(DATASETS))
def test_a_card_belongs_to_its_kind(kind: str):
    assert DATASETS[kind].card.kind == kind


def test_a_card_says_where_the_data_are_from_and_on_what_terms(card: DatasetCard):
    assert SPDX.fullmatch(card.license), card.license
    assert card.sources
    assert all(card.sources)
    assert card.splits
    assert card.citation or card.kind == "manifest"


def test_classes_and_synthetic_modalities_are_stated_consistently(card: DatasetCard):
    assert len(set(card.classes)) == len(card.classes)
    assert bool(card.synthetic) == any(modality.synthetic for modality in card.modalities.values())


def test_files_are_named_relative_to_the_root(card: DatasetCard):
    for files in card.files:
        pattern = PurePosixPath(files.pattern)
        assert not pattern.is_absolute()
        assert ".." not in pattern.parts
        assert "\\" not in files.pattern
        assert "{" not in files.pattern, "a glob knows no alternatives in braces"
        assert files.what
        assert files.count is None or files.count > 0
        assert set(files.modalities) <= set(card.modalities)


def test_checksums_are_well_formed(card: DatasetCard):
    for files in card.files:
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in files.sha256.values())
        assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in files.md5.values())
        if files.checksums is not None:
            table = published_table(files.checksums)
            some = [name for name in table if PurePosixPath(name).match(files.pattern)]
            assert files.count is None or len(some) == files.count
            assert all(re.fullmatch("[0-9a-f]{64}", table[name].sha256) and table[name].bytes > 0 for name in some)


@pytest.mark.parametrize("width", [60, 100])
def test_a_card_reads_in_a_terminal(card: DatasetCard, width: int):
    text = card_text(card, width=width)
    assert text.startswith(f"{card.kind}: ")
    # Longer lines are those of one word that nobody would want broken.
    assert [line for line in text.splitlines() if len(line) > width and len(line.split()) > 2] == []
    words = " ".join(text.split())
    for text in (card.title, card.license, card.citation, card.splits, card.synthetic, *card.notes, *card.sources):
        assert " ".join(text.split()) in words
    for modality in card.modalities:
        assert f"{modality} (" in words
    for files in card.files:
        assert files.pattern in words


def test_a_card_as_text():
    notes = CARD.model_copy(update={"notes": ("Storms are rare.", "Nobody looked twice."), "synthetic": ""})
    assert card_text(notes, width=60) == (
        "made-up: Images and traces of weather, version 2\n"
        "license    CC0-1.0\n"
        "cite       nobody\n"
        "from       a drawer\n"
        "modalities image (image): [1, 3, 4], brightness, 0 to 1\n"
        "           trace (series): [T, 2], of the sensors\n"
        "classes    2: calm, storm\n"
        "splits     as the names of the files say\n"
        "notes      Storms are rare.\n"
        "           Nobody looked twice.\n"
        "on disk    images/*.raw: gray images; 12 files; for image\n"
        "           traces/*.txt: pressure and wind; 12 files; for\n"
        "           trace\n"
        "           diary.md: what was seen; not required"
    )


def test_a_card_without_modalities_or_classes_refers_to_the_files():
    bare = CARD.model_copy(update={"classes": (), "modalities": {}, "files": (FileSet(pattern="*.csv", what="it"),)})
    text = card_text(bare)
    assert "modalities determined by the files" in text
    assert "classes    determined by the files" in text


def test_a_card_of_many_classes_names_the_first_and_counts_the_rest():
    card = DATASETS["shd"].card.model_copy(update={"classes": tuple(f"class{number}" for number in range(5_000))})
    text = card_text(card)
    assert "5,000: class0, class1" in text
    assert "class49 and 4,950 more" in " ".join(text.split())
    assert len(text) < 4_000


def test_many_classes_with_similar_names_are_a_few_notes():
    labels = [spelling for number in range(900) for spelling in (f"Class {number}", f"class_{number}")]
    notes = similar_labels(labels)
    assert len(notes) == 6
    assert notes[-1] == "895 more groups of classes differ only in spelling"
