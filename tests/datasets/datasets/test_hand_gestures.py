"""Hand gestures in their published layout."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from datasets.writers.hand_gestures import GESTURES, Session, write_hand_gestures
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.sample import collate
from snn_datasets.datasets.hand_gestures import HandGesturesSpec
from snn_datasets.formats.hand_gesture_arrays import (
    GestureEventsReader,
    GestureFramesReader,
    convert_davis,
    repetitions,
)
from snn_datasets.loading.order import EpochOrder
from snn_datasets.loading.recorded import RecordedDataset, Row


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Session]]:
    root = tmp_path_factory.mktemp("hands")
    return root, write_hand_gestures(root)


def opened(root: Path, **fields: object) -> DatasetSplits:
    known = {"root": root, "cache": "off", "time_steps": 5, "modalities": "emg,dvs"}
    return HandGesturesSpec.model_validate(known | fields).build()


def rows(splits: DatasetSplits) -> dict[str, tuple[Row, ...]]:
    rows_of = {}
    for name in ("train", "val", "test"):
        dataset = getattr(splits, name)
        assert isinstance(dataset, RecordedDataset)
        rows_of[name] = dataset.rows
    return rows_of


def test_windows_lie_in_one_repetition_of_one_gesture_in_one_split(copy: tuple[Path, dict[str, Session]]):
    root, written = copy
    split_of: dict[str, str] = {}
    for split, of_split in rows(opened(root, stride_ms=50)).items():
        for row in of_split:
            source = row.sources["emg"]
            assert source is not None
            first, end = (round(float(bound) * 200) for bound in source.part)
            stem = source.path.name.removesuffix("_emg.npy")
            assert end - first == 40
            assert set(written[stem].ann[first:end]) == {GESTURES[row.label]}
            assert row.id == f"{stem}/{first:06d}"
            assert split_of.setdefault(stem, split) == split
            assert row.sources["dvs"] == Source(root / f"{stem}_dvs.npy", source.part)
    assert {
        split: {stem[-1] for stem in split_of if split_of[stem] == split} for split in ("train", "val", "test")
    } == {
        "train": {"1"},
        "val": {"2"},
        "test": {"3"},
    }


def test_every_window_that_fits_is_there(copy: tuple[Path, dict[str, Session]]):
    root, written = copy
    rows_of = {row.id for of_split in rows(opened(root, window_ms=100, stride_ms=60)).values() for row in of_split}
    expected = set()
    for stem, session in written.items():
        first = 0
        for end in range(1, len(session.ann) + 1):
            if end == len(session.ann) or session.ann[end] != session.ann[first]:
                if session.ann[first] != "none":
                    expected |= {f"{stem}/{start:06d}" for start in range(first, end - 20 + 1, 12)}
                first = end
    assert rows_of == expected


def test_subject_splits_share_no_subject(copy: tuple[Path, dict[str, Session]], tmp_path: Path):
    write_hand_gestures(tmp_path, subjects=(1, 7, 8, 9, 10), sessions=(1,), repetitions=1, convert=False)
    by_split = {name: {row.id[:9] for row in of} for name, of in rows(opened(tmp_path, split="subject")).items()}
    assert by_split == {
        "train": {"subject01", "subject07"},
        "val": {"subject08"},
        "test": {"subject09", "subject10"},
    }
    other = rows(opened(tmp_path, split="subject", val_groups=(1,), test_groups=(7,)))
    assert {row.id[:9] for row in other["train"]} == {"subject08", "subject09", "subject10"}
    with pytest.raises(ValueError, match="subject 1 is in val_groups and in test_groups"):
        opened(tmp_path, split="subject", val_groups=(1,), test_groups=(7, 1))
    with pytest.raises(ValueError, match="the split 'val' has no samples"):
        opened(copy[0], split="subject")


def test_muscles_are_mean_absolute_values_on_the_scale_of_training(copy: tuple[Path, dict[str, Session]]):
    root, written = copy
    splits = opened(root, modalities="emg")
    training = np.concatenate([written[row.id[:19]].emg[int(row.id[20:]) :][:40] for row in rows(splits)["train"]])
    mean, std = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
    for dataset in (splits.train, splits.test):
        sample = dataset[3]
        first = int(sample.id[20:])
        window = (written[sample.id[:19]].emg[first : first + 40] - mean) / std
        np.testing.assert_allclose(
            sample.inputs["emg"].numpy(), np.abs(window).reshape(5, 8, 8).mean(1), rtol=1e-4, atol=1e-5
        )
    spikes = opened(root, modalities="emg", emg_coding="send-on-delta")
    assert spikes.info.shapes == {"emg": (16,)}
    assert spikes.train[0].inputs["emg"].shape == (5, 16)
    assert spikes.train[0].inputs["emg"].sum() > 0


@pytest.mark.parametrize("pool", [1, 4])
def test_events_of_a_window_are_counted_by_square_and_step(copy: tuple[Path, dict[str, Session]], pool: int):
    root, written = copy
    splits = opened(root, modalities="dvs", pool=pool)
    for index in (0, 7):
        sample = splits.val[index]
        first = int(sample.id[20:])
        expected = np.zeros((5, 2, 128 // pool, 128 // pool), np.float32)
        for x, y, seconds, polarity in written[sample.id[:19]].events.T:
            if first / 200 <= seconds < (first + 40) / 200:
                step = int((seconds - first / 200) * 1e6) // 40_000
                expected[step, int(polarity), int(y) // pool, int(x) // pool] += 1
        np.testing.assert_array_equal(sample.inputs["dvs"].numpy(), expected)
        assert expected.sum() > 50


def test_events_may_lie_row_by_row_and_out_of_order(copy: tuple[Path, dict[str, Session]], tmp_path: Path):
    root, written = copy
    events = written["subject01_session01"].events
    part = (0.3, 0.55)
    expected = GestureEventsReader().read(Source(root / "subject01_session01_dvs.npy", part))
    mixed = events[:, np.random.default_rng(1).permutation(events.shape[1])]
    for name, array in (("rows", events.T), ("mixed", mixed), ("fortran", np.asfortranarray(events))):
        np.save(tmp_path / f"{name}.npy", array)
        read = GestureEventsReader().read(Source(tmp_path / f"{name}.npy", part))
        for field in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(read, field), getattr(expected, field))
        assert read.duration == expected.duration == 250_000


def test_frames_of_a_window_are_shown_at_their_times(copy: tuple[Path, dict[str, Session]]):
    root, written = copy
    session = written["subject02_session03"]
    video = GestureFramesReader().read(Source(root / "subject02_session03_davis_frames.npy", (0.5, 0.9)))
    inside = [n for n, time in enumerate(session.times[:-1]) if 0.5 <= time < 0.9]
    assert len(inside) == 5
    np.testing.assert_allclose(video.times, session.times[inside] - 0.5)
    # The brightest pixel of the recording has 2000.
    expected = np.stack([np.rint(session.frames[n] * (255 / 2000)) for n in inside])
    np.testing.assert_array_equal(video.frames[:, 0], expected)
    splits = opened(root, modalities="davis,emg")
    sample = splits.train[0]
    assert sample.inputs["davis"].shape == (5, 1, 45, 60)
    assert 0 < sample.inputs["davis"].min() <= sample.inputs["davis"].max() <= 1


def test_frames_are_unpickled_only_if_allowed(copy: tuple[Path, dict[str, Session]], tmp_path: Path):
    write_hand_gestures(tmp_path, subjects=(1,), repetitions=1, convert=False)
    with pytest.raises(ValueError, match="runs any code in the file"):
        convert_davis(tmp_path / "subject01_session01_davis.npz")
    with pytest.raises(FileNotFoundError, match=r"create it with snn_datasets\.convert_davis"):
        opened(tmp_path, modalities="davis").train[0]
    (tmp_path / "bad_davis.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ReadError, match="cannot be read as frames"):
        convert_davis(tmp_path / "bad_davis.npz", allow_pickle=True)
    (out,) = convert_davis(tmp_path / "subject01_session02_davis.npz", allow_pickle=True)
    assert out.name == "subject01_session02_davis_frames.npy"
    assert np.load(out, allow_pickle=False).dtype == np.uint8
    (tmp_path / "bad_davis.npz").unlink()
    before = out.stat().st_mtime_ns
    assert len(convert_davis(tmp_path, allow_pickle=True)) == 3
    assert out.stat().st_mtime_ns == before
    assert not list(tmp_path.glob("*.part"))


def test_batches_have_time_first_for_every_modality(copy: tuple[Path, dict[str, Session]], tmp_path: Path):
    splits = opened(copy[0], modalities="emg,dvs,davis", cache="auto", cache_folder=tmp_path)
    order = EpochOrder(len(splits.train), epoch=2)
    batch = next(iter(DataLoader(splits.train, batch_size=6, sampler=order, collate_fn=collate)))
    assert {name: tuple(value.shape) for name, value in batch["inputs"].items()} == {
        "emg": (5, 6, 8),
        "dvs": (5, 6, 2, 32, 32),
        "davis": (5, 6, 1, 45, 60),
    }
    assert all(present.all() for present in batch["present"].values())
    assert {name: m.kind for name, m in splits.info.modalities.items()} == {
        "emg": "series",
        "dvs": "events",
        "davis": "video",
    }


def test_a_missing_folder_says_what_to_fetch_and_its_layout(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        opened(tmp_path / "nowhere")
    assert "Zenodo, record 3663616" in str(caught.value)
    assert "subject*_session*_emg.npy" in str(caught.value)


def test_an_absent_modality_is_zeros_if_allowed(tmp_path: Path):
    write_hand_gestures(tmp_path, subjects=(1,), repetitions=1, convert=False)
    (tmp_path / "subject01_session03_dvs.npy").unlink()
    splits = opened(tmp_path, on_error="missing")
    assert all(sample.absent == {"dvs"} and not sample.inputs["dvs"].any() for sample in splits.test)
    assert not any(sample.absent for sample in splits.train)


def test_invalid_annotations_are_refused(tmp_path: Path):
    path = tmp_path / "a_ann.npy"
    np.save(path, np.array(["none", "fist"]))
    with pytest.raises(ReadError, match="has the unknown gesture 'fist'; known are pinky"):
        repetitions(path)
    np.save(path, np.array([b"none", b"elle", b"elle", b"yo"]))
    assert repetitions(path) == [(1, 1, 3), (2, 3, 4)]
    np.save(path, np.array([0, 1]))
    with pytest.raises(ReadError, match="type int64"):
        repetitions(path)


def test_damaged_files_raise_only_read_errors(copy: tuple[Path, dict[str, Session]], tmp_path: Path):
    root, _ = copy
    draw, refused = random.Random(0), 0
    for reader, name in (
        (GestureEventsReader(), "subject01_session01_dvs.npy"),
        (GestureFramesReader(), "subject01_session01_davis_frames_time.npy"),
    ):
        good = (root / name).read_bytes()
        path = tmp_path / name
        frames = tmp_path / "subject01_session01_davis_frames.npy"
        if not frames.exists():
            frames.write_bytes((root / frames.name).read_bytes())
        for number in range(120):
            data = bytearray(good[: draw.choice([len(good), draw.randrange(1, len(good))])])
            for _ in range(draw.randrange(1, 5)):
                data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
            path.write_bytes(data + bytes(number))
            try:
                reader.read(Source(frames if "davis" in name else path, (0.1, 0.4)))
            except ReadError:
                refused += 1
    assert refused > 60


def test_windows_past_the_end_of_a_recording_are_left_out_and_counted(tmp_path: Path):
    written = write_hand_gestures(tmp_path, convert=False)
    options = {"root": tmp_path, "cache": "off", "modalities": "dvs"}
    whole = HandGesturesSpec.model_validate(options).build()
    assert not any("left out" in note for note in whole.info.notes)
    stem, session = next(iter(written.items()))
    seconds = session.events[2]
    remaining = session.events[:, seconds < seconds.max() / 2]
    np.save(tmp_path / f"{stem}_dvs.npy", remaining)
    splits = HandGesturesSpec.model_validate(options).build()
    fewer = sum(len(getattr(whole, name)) - len(getattr(splits, name)) for name in ("train", "val", "test"))
    assert fewer > 4
    assert f"{fewer} windows of the annotations are left out, because a recording of dvs ends" in " ".join(
        splits.info.notes
    )
    for dataset in (splits.train, splits.val, splits.test):
        assert all(sample.inputs["dvs"].any() for sample in dataset if not sample.id.startswith(stem))
