"""DVS128 Gesture in its published layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.ids import ids_of
from datasets.writers.dvs128_gesture import LIGHTS, TESTING, TRAINING, write_dvs128_gesture
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import ReadError
from snn_datasets.base.sample import collate
from snn_datasets.datasets.dvs128_gesture import Dvs128GestureSpec
from snn_datasets.formats.aedat import _polarity_events
from snn_datasets.loading.order import EpochOrder

STEPS, SIZE = 3, 20
FIRST = "user01_fluorescent"


def opened(root: Path, **fields: object) -> DatasetSplits:
    options = {
        "root": root,
        "cache_folder": root.parent / "cache",
        "time_steps": STEPS,
        "size": SIZE,
        "val_fraction": 0.3,
    }
    return Dvs128GestureSpec.model_validate(options | fields).build()


def counts(events: np.ndarray, duration: int, *, size: int = SIZE) -> np.ndarray:
    """Counts [T, 2, size, size] event by event."""
    frames = np.zeros((STEPS, 2, size, size), np.float32)
    for t, x, y, p in events.tolist():
        frames[t * STEPS // duration, p, y * size // 128, x * size // 128] += 1
    return frames


def users(splits: DatasetSplits) -> dict[str, set[int]]:
    return {name: {int(id_[4:6]) for id_ in getattr(splits, name).ids} for name in ("train", "val", "test")}


@pytest.mark.parametrize("size", [20, 128])
def test_every_gesture_is_read_back_once(tmp_path: Path, size: int):
    written = write_dvs128_gesture(tmp_path)
    splits = opened(tmp_path, size=size)
    seen: list[str] = []
    for dataset in (splits.train, splits.val, splits.test):
        for sample in dataset:
            long = sample.id == "user02_led/02"
            expected = counts(written[sample.id], 310_000 if long else 200_000, size=size)
            np.testing.assert_array_equal(sample.inputs["visual"].numpy(), expected, err_msg=sample.id)
            assert sample.label == 5 * int(sample.id[-2:])
            seen.append(sample.id)
    assert sorted(seen) == sorted(written)
    assert splits.info.shapes == {"visual": (2, size, size)}
    assert splits.info.classes[10] == "other gestures"


def test_steps_may_hold_equally_many_events(tmp_path: Path):
    written = write_dvs128_gesture(tmp_path, events=160)
    for sample in opened(tmp_path, bins="count").test:
        count = len(written[sample.id])
        expected = np.diff([step * count // STEPS for step in range(STEPS + 1)])
        np.testing.assert_array_equal(sample.inputs["visual"].sum((1, 2, 3)).numpy(), expected)


def test_no_user_is_in_two_splits(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    chosen: set[frozenset[int]] = set()
    for seed in range(5):
        who = users(opened(tmp_path, seed=seed))
        assert who["train"] | who["val"] == set(TRAINING)
        assert who["test"] == set(TESTING)
        assert who["val"]
        assert not who["train"] & who["val"]
        chosen.add(frozenset(who["val"]))
    assert len(chosen) > 1
    assert users(opened(tmp_path, seed=3)) == users(opened(tmp_path, seed=3, cache="off"))


def test_a_recording_is_decoded_once_for_all_its_gestures(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    splits = opened(tmp_path, cache="off")
    _polarity_events.cache_clear()
    for dataset in (splits.train, splits.val, splits.test):
        for _ in dataset:
            pass
    assert _polarity_events.cache_info().misses == len(LIGHTS) * (len(TRAINING) + len(TESTING))


def test_batches_have_time_first_and_shifts_change_with_the_epoch(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    splits = opened(tmp_path, shift=4)

    def epoch(number: int) -> dict[str, torch.Tensor]:
        order = EpochOrder(len(splits.train), seed=2, epoch=number)
        loader = DataLoader(splits.train, batch_size=5, sampler=order, collate_fn=collate)
        samples: dict[str, torch.Tensor] = {}
        for batch in loader:
            values = batch["inputs"]["visual"]
            assert values.shape == (STEPS, len(batch["ids"]), 2, SIZE, SIZE)
            samples |= {id_: values[:, column] for column, id_ in enumerate(batch["ids"])}
        return samples

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert set(first) == set(ids_of(splits.train))
    assert all(torch.equal(first[id_], again[id_]) for id_ in first)
    assert sum(not torch.equal(first[id_], second[id_]) for id_ in first) > len(first) / 2
    plain = {sample.id: sample.inputs["visual"] for sample in opened(tmp_path).test}
    assert all(torch.equal(sample.inputs["visual"], plain[sample.id]) for sample in splits.test)


def test_missing_files_are_named_with_their_layout(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"(?s)no trials_to_train\.txt under .*IBM Research.*\n.*user\*\.aedat"):
        opened(tmp_path)
    write_dvs128_gesture(tmp_path)
    (tmp_path / f"{FIRST}_labels.csv").rename(tmp_path / "away.csv")
    with pytest.raises(FileNotFoundError, match=f"{FIRST}_labels.csv; it holds the times"):
        opened(tmp_path)
    (tmp_path / "away.csv").rename(tmp_path / f"{FIRST}_labels.csv")
    (tmp_path / f"{FIRST}.aedat").unlink()
    with pytest.raises(FileNotFoundError, match=f"{FIRST}.aedat"):
        opened(tmp_path)
    splits = opened(tmp_path, on_error="missing")
    assert not any(FIRST in id_ for id_ in (*ids_of(splits.train), *ids_of(splits.val)))
    assert splits.info.notes == ("3 of 42 samples have no visual and are skipped",)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("12,5,6", "line 5 has class 12"),
        ("0,5,6", "line 5 has class 0"),
        ("1,6,6", "line 5 has class 1 from 6 to 6 us"),
        ("1,2", "line 5 is not class,start,end"),
        ("a,2,3", "line 5 is not class,start,end"),
    ],
)
def test_labels_that_cannot_be_are_refused(tmp_path: Path, line: str, why: str):
    write_dvs128_gesture(tmp_path)
    with (tmp_path / f"{FIRST}_labels.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ReadError, match=why):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"user01.txt\n", "lists 'user01.txt', which is not"),
        (b"\n", "lists no recording"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_lists_that_cannot_be_are_refused(tmp_path: Path, content: bytes, why: str):
    write_dvs128_gesture(tmp_path)
    (tmp_path / "trials_to_test.txt").write_bytes(content)
    with pytest.raises(ReadError, match=why):
        opened(tmp_path)


def test_a_user_in_both_lists_is_refused(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    with (tmp_path / "trials_to_test.txt").open("a") as file:
        file.write("user03_led.aedat\n")
    with pytest.raises(ValueError, match="user03 is in both"):
        opened(tmp_path)


def test_labels_without_a_header_keep_the_first_gesture(tmp_path: Path):
    written = write_dvs128_gesture(tmp_path)
    named = {sample.id: sample.inputs["visual"] for sample in opened(tmp_path, cache="off").test}
    for path in tmp_path.glob("*_labels.csv"):
        path.write_text(path.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    splits = opened(tmp_path, cache="off")
    assert sorted([*ids_of(splits.train), *ids_of(splits.val), *ids_of(splits.test)]) == sorted(written)
    assert all(torch.equal(sample.inputs["visual"], named[sample.id]) for sample in splits.test)


def test_labels_of_no_gesture_are_refused(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    for content in ("class,startTime_usec,endTime_usec\n", "", "\n"):
        (tmp_path / f"{FIRST}_labels.csv").write_text(content, encoding="utf-8")
        with pytest.raises(ReadError, match=rf"{FIRST}_labels\.csv (lists no gesture|is empty)"):
            opened(tmp_path)


def test_a_first_line_that_is_neither_names_nor_a_gesture_is_refused(tmp_path: Path):
    write_dvs128_gesture(tmp_path)
    (tmp_path / f"{FIRST}_labels.csv").write_text("1;5;6\n1,5,6\n", encoding="utf-8")
    with pytest.raises(ReadError, match=r"line 1 is not class,start,end"):
        opened(tmp_path)


@pytest.mark.parametrize("bounds", [(90_000_000, 91_000_000), (2_000_000, 91_000_000)])
def test_a_gesture_past_the_end_of_its_recording_is_refused(tmp_path: Path, bounds: tuple[int, int]):
    write_dvs128_gesture(tmp_path)
    with (tmp_path / f"{FIRST}_labels.csv").open("a") as file:
        file.write(f"3,{bounds[0]},{bounds[1]}\n")
    expected = rf"{FIRST}\.aedat \[{bounds[0]}, {bounds[1]}\] is past the end of the file: its last event is at"
    with pytest.raises(ReadError, match=expected):
        opened(tmp_path)
    splits = opened(tmp_path, on_error="missing")
    assert sorted(id_ for id_ in (*ids_of(splits.train), *ids_of(splits.val)) if FIRST in id_) == [
        f"{FIRST}/{number:02d}" for number in range(3)
    ]
    assert splits.info.notes == ("1 of 43 samples have no visual and are skipped",)
