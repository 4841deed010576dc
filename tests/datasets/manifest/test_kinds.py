"""Every kind of file in a manifest, and columns that are read in another way than usual."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from snn_datasets import ManifestSpec, ModalityInfo, ReadError, RecordedDataset, Sample, Series, Source, collate
from snn_datasets.base.registries import CODINGS, READERS
from snn_datasets.manifest.spec import ColumnSpec
from snn_datasets.modalities.series import SeriesReader
from snn_datasets.stages.codings import Latency

SIZE = 16
STEPS = 3
SPLITS = ("train", "train", "val", "test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(root: Path, ending: str, write_file: Callable[[Path, int], object], *, column: str = "sensor") -> None:
    """Four files and a manifest of them; the first two are for training."""
    rows = [f"split,label,{column}"]
    for number, split in enumerate(SPLITS):
        write_file(root / f"f{number}{ending}", number)
        rows.append(f"{split},{'ab'[number % 2]},f{number}{ending}")
    (root / "manifest.csv").write_text("\n".join(rows))


def build(root: Path, **fields: Any) -> tuple[ModalityInfo, Sample]:
    """Return the info of the only column, and its test sample."""
    splits = ManifestSpec(root=root, size=SIZE, time_steps=STEPS, **fields).build()
    (info,) = splits.info.modalities.values()
    (sample,) = splits.test
    return info, sample


def value(sample: Sample) -> NDArray[np.float32]:
    (tensor,) = sample.inputs.values()
    assert tensor.dtype == torch.float32
    return tensor.numpy()


def write_series(path: Path, number: int, *, channels: int = 5, time: bool = True) -> None:
    """Six rows, a second each; channel c holds number + 10 c + row."""
    rows = [[row, *(number + 10 * c + row for c in range(channels))] for row in range(6)]
    names = ["time", *(f"c{c}" for c in range(channels))]
    path.write_text("\n".join(",".join(map(str, cells if time else cells[1:])) for cells in [names, *rows]) + "\n")


def write_video(path: Path, number: int) -> None:
    """Six frames of 32 x 48 pixels, each of one red, brighter from frame to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in range(6):
            pixels = np.zeros((32, 48, 3), np.uint8)
            pixels[..., 0] = 40 * frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


MEANS = {"sensor": {"coding": {"kind": "steps", "steps": STEPS}}}
EVENTS = {"t": [0, 40, 41, 299], "x": [0, 1, 6, 2], "y": [4, 3, 0, 2], "p": [1, 0, 1, 1]}


def write_events(path: Path, number: int) -> None:
    arrays: dict[str, Any] = {name: np.array(values) for name, values in EVENTS.items()}
    np.savez(path, **arrays)


def write_aedat2(path: Path, number: int) -> None:
    words = b"".join(
        struct.pack(">II", y << 8 | x << 1 | p, 7 + t) for t, x, y, p in zip(*EVENTS.values(), strict=True)
    )
    path.write_bytes(b"#!AER-DAT2.0\r\n# by hand\r\n" + words)


# What comes out


def test_series_become_means_of_steps(tmp_path: Path):
    write(tmp_path, ".csv", write_series)
    info, sample = build(tmp_path, columns=MEANS)
    assert (info.kind, info.shape, info.time_steps) == ("series", (5,), STEPS)
    # The last file is number 3; two rows a step, so channel c of step k is the mean of 3 + 10 c + 2 k and one more.
    assert np.array_equal(value(sample), 3 + 10 * np.arange(5) + 2 * np.arange(STEPS)[:, None] + 0.5)


def test_videos_become_frames(tmp_path: Path):
    write(tmp_path, ".mp4", write_video)
    info, sample = build(tmp_path)
    assert (info.kind, info.shape, info.time_steps) == ("video", (3, SIZE, SIZE), STEPS)
    frames = value(sample)
    assert frames.shape == (STEPS, 3, SIZE, SIZE)
    red = frames[:, 0].mean((1, 2)) * 255
    # Steps last two frames of six; the nearest to the middle of each is one of these two.
    for step in range(STEPS):
        assert 80 * step - 12 <= red[step] <= 80 * step + 52
    assert frames[:, 1:].max() < 0.1


def test_a_video_can_be_shown_in_other_steps_and_sizes(tmp_path: Path):
    write(tmp_path, ".mp4", write_video, column="film")
    columns = {"film": ColumnSpec.model_validate({"coding": {"kind": "frames", "steps": 6}, "size": 8})}
    info, sample = build(tmp_path, columns=columns)
    assert (info.shape, info.time_steps) == ((3, 8, 8), 6)
    red = value(sample)[:, 0].mean((1, 2)) * 255
    assert np.abs(red - 40 * np.arange(6)).max() < 12  # every frame once


def test_events_are_counted_by_step(tmp_path: Path):
    write(tmp_path, ".npz", write_events)
    reader = {"kind": "events", "height": 5, "width": 7}
    info, sample = build(tmp_path, columns={"sensor": {"reader": reader}})
    assert (info.kind, info.shape, info.time_steps) == ("events", (2, 5, 7), STEPS)
    expected = np.zeros((STEPS, 2, 5, 7))
    expected[0, 1, 4, 0] = expected[0, 0, 3, 1] = expected[0, 1, 0, 6] = expected[2, 1, 2, 2] = 1
    assert np.array_equal(value(sample), expected)


def test_aedat_files_tell_their_version(tmp_path: Path):
    write(tmp_path, ".aedat", write_aedat2)
    info, sample = build(tmp_path)
    assert (info.kind, info.shape, info.time_steps) == ("events", (2, 128, 128), STEPS)
    counts = value(sample)
    assert counts.sum() == 4
    assert counts[0, 0, 3, 1] == counts[2, 1, 2, 2] == 1


def test_an_aedat3_file_is_read_by_its_reader(tmp_path: Path):
    write(tmp_path, ".aedat", lambda path, _: path.write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\nrest"))
    with pytest.raises(ReadError, match=r"row 2.*the file is truncated in the header of a packet"):
        build(tmp_path)


def test_modalities_of_every_kind_make_one_batch(tmp_path: Path):
    header, rows = "split,label,photo,sound,film,gas", list[str]()
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        Image.new("RGB", (20, 10), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
        soundfile.write(tmp_path / f"{number}.wav", np.sin(np.arange(900) * (number + 1) / 9), 8000)
        write_video(tmp_path / f"{number}.mp4", number)
        write_series(tmp_path / f"{number}.csv", number)
        film = f"{number}.mp4" if number != 1 else ""
        rows.append(f"{split},{'ab'[number % 2]},{number}.png,{number}.wav,{film},{number}.csv")
    (tmp_path / "manifest.csv").write_text("\n".join([header, *rows]))
    splits = ManifestSpec(root=tmp_path, size=SIZE, time_steps=STEPS, mel_bands=20).build()
    batch = collate(list(splits.train))
    shapes = {name: tuple(tensor.shape) for name, tensor in batch["inputs"].items()}
    assert shapes == {
        "photo": (3, 3, SIZE, SIZE),
        "sound": (3, 1, SIZE, SIZE),
        "film": (STEPS, 3, 3, SIZE, SIZE),
        "gas": (STEPS, 3, 5),
    }
    assert batch["present"]["film"].tolist() == [True, False, True]
    assert not batch["inputs"]["film"][:, 1].any()


# Columns that are read in another way


def test_a_reader_can_be_named_whatever_the_ending(tmp_path: Path):
    write(tmp_path, ".dat", lambda path, number: write_series(path, number, time=False), column="gas")
    with pytest.raises(ValueError, match=r"unknown extension '\.dat'.*columns\.gas\.reader"):
        build(tmp_path)
    columns = {"gas": {"reader": {"kind": "series", "rate": 1.0, "columns": ["c3", "c1"]}}}
    columns["gas"]["coding"] = {"kind": "steps", "steps": STEPS}
    info, sample = build(tmp_path, columns=columns)
    assert info.shape == (2,)
    assert np.array_equal(value(sample)[0], [3 + 30 + 0.5, 3 + 10 + 0.5])


def test_a_coding_can_be_named(tmp_path: Path):
    write(tmp_path, ".csv", write_series)
    info, sample = build(
        tmp_path, columns={"sensor": {"coding": {"kind": "send-on-delta", "steps": 2, "threshold": 1}}}
    )
    assert (info.shape, info.time_steps, info.unit) == ((10,), 2, "")
    # Every channel rises by one a row: 2 events in rows 1 and 2, 3 in rows 3 to 5, none down.
    assert value(sample).tolist() == [[2] * 5 + [0] * 5, [3] * 5 + [0] * 5]


def test_a_image_can_become_spikes(tmp_path: Path):
    write(tmp_path, ".png", lambda path, number: Image.new("L", (20, 10), 80 * number).save(path))
    info, sample = build(tmp_path, columns={"sensor": {"coding": {"kind": "latency", "steps": 5}}})
    assert (info.shape, info.time_steps) == ((1, SIZE, SIZE), 5)
    # 240 / 255 is above 4 / 5, so every pixel spikes at the first step.
    assert value(sample).mean((1, 2, 3)).tolist() == [1, 0, 0, 0, 0]


def test_sound_can_become_spikes(tmp_path: Path):
    write(tmp_path, ".wav", lambda path, number: soundfile.write(path, np.sin(np.arange(2000) * number / 9), 8000))
    info, sample = build(tmp_path, mel_bands=20, columns={"sensor": {"coding": {"kind": "bernoulli", "steps": 50}}})
    assert (info.shape, info.time_steps) == ((1, SIZE, SIZE), 50)
    rates = value(sample).mean(0)
    assert set(np.unique(value(sample))) == {0, 1}
    assert rates.max() > 0.8
    assert rates.min() == 0


def test_the_size_of_an_event_sensor_comes_from_the_training_files(tmp_path: Path):
    write(tmp_path, ".npz", write_events, column="dvs")
    splits = ManifestSpec(root=tmp_path, time_steps=STEPS).build()
    assert splits.info.modalities["dvs"].shape == (2, 5, 7)
    assert splits.info.notes == ("dvs: sensor of 5 x 7 pixels (height x width), 2 polarities, from 2 training files",)


def test_records_of_events_in_npy_files_are_events(tmp_path: Path):
    def write_records(path: Path, number: int) -> None:
        records = np.zeros(4, [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")])
        for name, values in EVENTS.items():
            records[name] = values
        np.save(path, records)

    write(tmp_path, ".npy", write_records, column="dvs")
    info, sample = build(tmp_path)
    assert (info.kind, info.shape, info.time_steps) == ("events", (2, 5, 7), STEPS)
    assert value(sample).sum() == 4


def test_a_common_sensor_is_recognized_and_a_large_one_scaled(tmp_path: Path):
    def write_large(path: Path, number: int) -> None:
        rng = np.random.default_rng(number)
        np.savez(
            path, t=np.arange(5000), x=rng.integers(0, 345, 5000), y=rng.integers(0, 258, 5000), p=np.arange(5000) % 2
        )

    write(tmp_path, ".npz", write_large, column="dvs")
    splits = ManifestSpec(root=tmp_path, time_steps=STEPS).build()
    assert splits.info.modalities["dvs"].shape == (2, 48, 64)
    assert "sensor of 260 x 346 pixels" in splits.info.notes[0]
    assert "events of 260 x 346 pixels are scaled to 48 x 64; set columns.dvs.size" in splits.info.notes[1]
    assert sum(sample.inputs["dvs"].sum() for sample in splits.test) == 5000
    assert build(tmp_path, columns={"dvs": {"size": 32}})[0].shape == (2, 32, 32)


def test_events_in_seconds_and_of_an_absolute_clock_are_settled_and_noted(tmp_path: Path):
    write(
        tmp_path,
        ".npz",
        lambda path, number: np.savez(
            path, t=1e5 + np.arange(1000) / 1000, x=np.arange(1000) % 8, p=np.arange(1000) % 2
        ),
        column="ear",
    )
    splits = ManifestSpec(root=tmp_path, time_steps=2).build()
    assert splits.info.modalities["ear"].shape == (2, 1, 8)
    (sample,) = splits.test
    assert sample.inputs["ear"].sum((1, 2, 3)).tolist() == [500, 500]
    notes = "\n".join(splits.info.notes)
    assert "times are fractions, so they are read as seconds (the longest recording lasts 0.999 s)" in notes
    assert "start at their first event" in notes


def test_a_missing_reader_option_is_reported(tmp_path: Path):
    write(tmp_path, ".npz", lambda path, _: np.savez(path, x=[1], y=[2]), column="dvs")
    with pytest.raises(ReadError, match=r"f0\.npz has no t column, only x, y"):
        build(tmp_path)


def test_a_series_without_times_is_evenly_spaced_and_noted(tmp_path: Path):
    write(tmp_path, ".csv", lambda path, number: write_series(path, number, time=False), column="gas")
    splits = ManifestSpec(root=tmp_path, time_steps=STEPS).build()
    assert splits.info.notes[0].startswith(
        "gas: no column holds time, so rows are assumed evenly spaced; set columns.gas.reader"
    )
    assert build(tmp_path, columns={"gas": {"reader": {"kind": "series", "rate": 1}}})[0].shape == (5,)
    with pytest.raises(ReadError, match=r"row 2, gas .*columns\.<\w+>\.reader\.rate"):
        build(tmp_path, columns={"gas": {"reader": {"kind": "series"}}})


def write_vibration(path: Path, number: int, *, rows: int = 200, rate: float = 100.0) -> None:
    """A fast vibration on top of gravity, and a channel of tiny numbers."""
    t = np.arange(rows) / rate
    z = 9.81 + np.sin(2 * np.pi * rate / 8 * t + number)
    lines = ["t,z,small", *(f"{a:.4f},{b:.6f},{c:.9f}" for a, b, c in zip(t, z, 1e-6 * np.cos(t), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def test_the_rows_of_a_series_reach_the_model_as_a_window(tmp_path: Path):
    write(tmp_path, ".csv", write_vibration, column="imu")
    splits = ManifestSpec(root=tmp_path, time_steps=4).build()
    info = splits.info.modalities["imu"]
    assert (info.shape, info.time_steps) == ((2, 200), None)
    assert splits.info.notes == ("imu: 200 rows at 100 Hz become a window of 200 values",)
    values = np.concatenate([sample.inputs["imu"].numpy() for part in (splits.train, splits.test) for sample in part])
    # Both channels have a standard deviation of about 1, whatever their unit, and the vibration is all there.
    assert np.abs(values.std(1) - 1).max() < 0.1
    assert np.abs(np.fft.rfft(values[0])).argmax() == 25


def test_long_short_and_uneven_series_become_bounded_windows(tmp_path: Path):
    write(tmp_path, ".csv", lambda path, number: write_vibration(path, number, rows=30_000), column="imu")
    info = ManifestSpec(root=tmp_path).build().info
    assert info.modalities["imu"].shape == (2, 3750)
    assert "30,000 rows at 100 Hz become a window of 3,750 values, 8 rows are averaged into one" in info.notes[0]
    write(tmp_path, ".csv", lambda path, number: write_vibration(path, number, rows=5), column="imu")
    info = ManifestSpec(root=tmp_path).build().info
    assert (info.modalities["imu"].shape, info.modalities["imu"].time_steps) == ((2,), 4)
    assert info.notes == ("imu: 5 rows become 4 steps, 1 or 2 rows are averaged into one",)
    write(tmp_path, ".csv", lambda path, number: write_vibration(path, number, rows=100 + 50 * number), column="imu")
    splits = ManifestSpec(root=tmp_path).build()
    assert splits.info.modalities["imu"].shape == (2, 150)
    assert "shorter recordings (from 1 s) hold their last value" in splits.info.notes[0]
    # The same vibration keeps its pace, however long it lasts: 12.5 Hz, in the first second.
    for part in (splits.train, splits.test):
        for sample in part:
            assert np.abs(np.fft.rfft(sample.inputs["imu"][0, :96].numpy())).argmax() == 12


def test_a_file_of_another_length_keeps_its_rate_and_an_outlier_does_not_count(tmp_path: Path):
    write(
        tmp_path,
        ".csv",
        lambda path, number: write_vibration(path, number, rows=200 if number < 3 else 999),
        column="imu",
    )
    (sample,) = ManifestSpec(root=tmp_path).build().test
    assert sample.inputs["imu"].shape == (2, 200)
    assert np.abs(np.fft.rfft(sample.inputs["imu"][0].numpy())).argmax() == 25
    rows = ["split,label,imu"]
    for number in range(6):
        write_vibration(tmp_path / f"g{number}.csv", number, rows=2000 if number == 0 else 100)
        rows.append(f"{'train' if number < 5 else 'test'},{'ab'[number % 2]},g{number}.csv")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    info = ManifestSpec(root=tmp_path).build().info
    assert info.modalities["imu"].shape == (2, 200)
    assert "shorter recordings (from 1 s) hold their last value; longer ones (up to 20 s) are cut off" in info.notes[0]


def test_requested_averaging_is_reported(tmp_path: Path):
    write(tmp_path, ".csv", write_vibration, column="imu")
    columns = {"imu": ColumnSpec.model_validate({"coding": {"kind": "steps", "steps": 4}})}
    info = ManifestSpec(root=tmp_path, columns=columns).build().info
    assert info.notes == ("imu: 200 rows become 4 steps, 50 rows are averaged into one",)


def test_windows_can_be_requested(tmp_path: Path):
    write(tmp_path, ".csv", write_vibration, column="imu")
    columns = {"imu": {"coding": {"kind": "window", "steps": 4, "length": 50}}}
    info, sample = build(tmp_path, columns=columns)
    assert (info.shape, info.time_steps) == ((2, 50), 4)
    assert value(sample).shape == (4, 2, 50)


def test_a_coding_of_another_kind_is_refused_by_position(tmp_path: Path):
    write(tmp_path, ".csv", write_series)
    with pytest.raises(ValueError, match=r"row 2, sensor '.*f0\.csv': Pixels takes Image, not Series"):
        build(tmp_path, columns={"sensor": {"coding": {"kind": "pixels"}}})


def test_a_description_of_an_unknown_column_is_refused(tmp_path: Path):
    write(tmp_path, ".csv", write_series)
    with pytest.raises(ValueError, match=r"no modality column 'gsa'.*columns\.gsa.*'sensor'"):
        build(tmp_path, columns={"gsa": {}})


def test_files_with_other_channels_than_the_first_are_refused_by_position(tmp_path: Path):
    write(tmp_path, ".csv", lambda path, number: write_series(path, number, channels=4 if number == 2 else 5))
    with pytest.raises(ReadError, match=r"row 4, sensor .*f2\.csv has the channels 'c0', .*, 'c3', but .* 'c4'; use"):
        build(tmp_path)
    splits = ManifestSpec(root=tmp_path, on_error="missing").build()
    assert len(splits.val) == 0
    assert "1 of 4 samples have no sensor and are skipped" in splits.info.notes


def test_files_without_names_are_distinguished_by_their_number_of_channels(tmp_path: Path):
    write(tmp_path, ".npy", lambda path, number: np.save(path, np.ones((6, 4 if number == 2 else 5))))
    with pytest.raises(ReadError, match=r"row 4, sensor .*channels are 4, but 5 in the first training file"):
        build(tmp_path, columns={"sensor": {"reader": {"kind": "series", "rate": 1}}})


# Names of channels


def write_named(path: Path, *names: str) -> None:
    """A row a second; the letter a is 1, b is 2, and so on."""
    values = [ord(name) - ord("a") + 1 for name in names]
    path.write_text("\n".join(",".join(map(str, row)) for row in [["time", *names], [0, *values], [1, *values]]) + "\n")


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_channels_are_found_by_the_names_of_the_first_training_file(tmp_path: Path, cache: Literal["auto", "off"]):
    orders = ["cab", "abc", "bca", "bac"]
    write(tmp_path, ".csv", lambda path, number: write_named(path, *orders[number]))
    columns = {"sensor": ColumnSpec.model_validate(MEANS["sensor"])}
    splits = ManifestSpec(root=tmp_path, columns=columns, cache=cache).build()
    for part in (splits.train, splits.val, splits.test):
        for sample in part:
            assert sample.inputs["sensor"].tolist() == [[3, 1, 2]] * STEPS


def test_a_new_order_in_the_first_file_misses_the_cache(tmp_path: Path):
    write(tmp_path, ".csv", lambda path, _: write_named(path, "a", "b"))
    assert value(build(tmp_path, columns=MEANS)[1])[0].tolist() == [1, 2]
    write_named(tmp_path / "f0.csv", "b", "a")
    assert value(build(tmp_path, columns=MEANS)[1])[0].tolist() == [2, 1]


def test_a_stored_reader_holds_the_channel_names(tmp_path: Path):
    write(tmp_path, ".csv", lambda path, _: write_named(path, "a", "b"))
    test = ManifestSpec(root=tmp_path).build().test
    assert isinstance(test, RecordedDataset)
    reader = test.modalities["sensor"].reader
    again = type(reader).model_validate_json(reader.model_dump_json())
    write_named(tmp_path / "new.csv", "b", "a")
    assert cast(Series, again.read(Source(tmp_path / "new.csv"))).values[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        ("ab", "ac", r"has the channels 'a', 'c', but the first training file of its column has the channels 'a', 'b'"),
        ("ab", "abc", "has the channels 'a', 'b', 'c', but .* 'a', 'b'; use the same names"),
        ("aba", "aab", "has the channels 'a', 'a', 'b', but"),
        ("ab", "", "has no channel names, but .* has the channels 'a', 'b'"),
        ("", "ab", "has the channels 'a', 'b', but .* has no channel names"),
    ],
)
def test_files_whose_channels_have_other_names_are_refused(tmp_path: Path, first: str, other: str, message: str):
    def write_file(path: Path, number: int) -> None:
        names = other if number == 3 else first
        if names:
            write_named(path, *names)
        else:
            path.write_text("0,1,9\n1,1,9\n")

    write(tmp_path, ".csv", write_file)
    reader: dict[str, Any] = {"kind": "series", "time_column": 0}
    with pytest.raises(ReadError, match=rf"row 5, sensor .*f3\.csv {message}"):
        build(tmp_path, columns={"sensor": {"reader": reader}})
    # Explicit columns apply to all files.
    assert build(tmp_path, columns={"sensor": {"reader": reader | {"columns": [1, 2]}}})[0].shape == (2,)


# Specifications


def test_a_description_survives_json():
    spec = ManifestSpec(
        root=Path("here"),
        columns={
            "gas": ColumnSpec(reader=SeriesReader(rate=2.0)),
            "photo": ColumnSpec(coding=Latency(steps=3), size=8),
        },
    )
    again = ManifestSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert isinstance(again.columns["gas"].reader, SeriesReader)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"reader": {"kind": "serie"}}, "unknown reader kind 'serie'; did you mean series"),
        ({"reader": {"kind": "series", "rate": -1}}, "greater than 0"),
        ({"coding": {"kind": "latency"}}, "Field required"),
        ({"coding": {"kind": "image"}}, "unknown coding kind 'image'"),
        ({"encoder": {}}, "Extra inputs"),
    ],
)
def test_a_faulty_description_is_refused(column: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ManifestSpec.model_validate({"root": ".", "columns": {"gas": column}})


@pytest.mark.parametrize("registry", [READERS, CODINGS], ids=["reader", "coding"])
def test_everything_registered_has_its_name(registry: Any):
    assert len(registry) >= 9
    for kind, model in registry.specs().items():
        assert model.model_fields["kind"].default == kind
