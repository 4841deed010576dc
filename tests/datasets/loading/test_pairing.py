"""Pairs of separate recordings."""

from collections import Counter
from pathlib import Path

import pytest

from snn_datasets.base.reader import Source
from snn_datasets.loading.pairing import Item, pair_by_label


def pool(name: str, **counts: int) -> list[Item]:
    """So many items of each class, such as c2=5."""
    return [
        Item(f"{name}{label}-{number}", int(label[1:]), Source(Path(name)), f"{name}{number}")
        for label, count in counts.items()
        for number in range(count)
    ]


def test_partners_have_the_same_label_and_come_in_the_order_of_the_modalities():
    pairs = pair_by_label(
        {"eye": pool("eye", c0=3, c2=5), "ear": pool("ear", c0=4, c2=2), "skin": pool("s", c0=1, c2=1)}
    )
    assert Counter(eye.label for eye, _, _ in pairs) == {0: 4, 2: 5}
    for eye, ear, skin in pairs:
        assert eye.label == ear.label == skin.label
        assert (str(eye.source.path), str(ear.source.path), str(skin.source.path)) == ("eye", "ear", "s")


def test_every_recording_is_used_before_any_is_used_again():
    eye, ear = pool("eye", c1=7), pool("ear", c1=3)
    pairs = pair_by_label({"eye": eye, "ear": ear})
    assert Counter(item.id for item, _ in pairs) == {item.id: 1 for item in eye}
    assert sorted(Counter(item.id for _, item in pairs).values()) == [2, 2, 3]
    for first in (0, 3):
        assert {item.id for _, item in pairs[first : first + 3]} == {item.id for item in ear}


def test_repeated_recordings_meet_other_partners():
    pairs = pair_by_label({"eye": pool("eye", c0=20), "ear": pool("ear", c0=20)}, per_class=40)
    assert len({(eye.id, ear.id) for eye, ear in pairs}) > 35


def test_neither_order_nor_the_other_modalities_matter_but_the_seed_does():
    eye, ear = pool("eye", c0=9, c1=9), pool("ear", c0=4, c1=5)
    pairs = pair_by_label({"eye": eye, "ear": ear}, seed=3)
    assert pair_by_label({"eye": eye[::-1], "ear": ear[::-1]}, seed=3) == pairs
    assert pair_by_label({"eye": eye}, seed=3) == [(item,) for item, _ in pairs]
    assert pair_by_label({"ear": ear, "eye": eye}, seed=3) == [(second, first) for first, second in pairs]
    assert pair_by_label({"eye": eye, "ear": ear}, seed=4) != pairs


def test_the_number_of_samples_can_be_requested():
    pools = {"eye": pool("eye", c0=4, c1=6), "ear": pool("ear", c0=5, c1=3)}
    assert Counter(eye.label for eye, _ in pair_by_label(pools, per_class=8)) == {0: 8, 1: 8}


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="'ear' has no recording of class 1"):
        pair_by_label({"eye": pool("eye", c0=2, c1=2), "ear": pool("ear", c0=2)})
    with pytest.raises(ValueError, match="two recordings of 'eye' have the same id"):
        pair_by_label({"eye": pool("eye", c0=2) * 2})
    with pytest.raises(ValueError, match="per_class is 0"):
        pair_by_label({"eye": pool("eye", c0=2)}, per_class=0)
    with pytest.raises(ValueError, match="0 modalities"):
        pair_by_label({})
