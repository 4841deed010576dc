"""Events in NumPy files, and the stages on events."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from datasets.writers.aedat import later, some_events
from datasets.writers.events_npy import write_events
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.recordings import Events
from snn_datasets.base.stage import Draw
from snn_datasets.formats.event_arrays import LARGEST_UNPACKED
from snn_datasets.modalities.events import (
    EventsReader,
    FitDuration,
    FlattenFrames,
    Fold,
    ScalePlane,
    Shift,
    StretchFrames,
)
from snn_datasets.stages.codings import EventFrames

DRAW = Draw(seed=0, sample="a", modality="visual", epoch=0)
SIZE = (30, 40)


def outcome(reader: EventsReader, path: Path) -> Events | ReadError:
    try:
        return reader.read(Source(path))
    except ReadError as error:
        return error


def matrix(events: Events) -> np.ndarray:
    return np.stack([events.t, events.x, events.y, events.p], axis=1)


def reader(**fields: Any) -> EventsReader:
    return EventsReader.model_validate({"height": SIZE[0], "width": SIZE[1]} | fields)


@pytest.fixture
def events() -> np.ndarray:
    return some_events(np.random.default_rng(0), 200, duration=50_000, height=SIZE[0], width=SIZE[1])


def as_events(matrix: np.ndarray, *, size: tuple[int, int] = SIZE, duration: int | None = None) -> Events:
    t, x, y, p = matrix.T
    return Events.of(t=t, x=x, y=y, p=p, size=size, duration=duration)


@pytest.mark.parametrize("columns", ["txyp", "xytp", "ptyx"])
@pytest.mark.parametrize("how", ["columns", "structured", "arrays"])
def test_events_are_read_back_however_they_were_saved(tmp_path: Path, events: np.ndarray, how: Any, columns: str):
    path = tmp_path / ("e.npz" if how == "arrays" else "e.npy")
    write_events(path, events, how=how, columns=columns)
    read = reader(columns=columns).read(Source(path))
    np.testing.assert_array_equal(matrix(read), events)
    assert (read.size, read.polarities, read.duration) == (SIZE, 2, events[-1, 0] + 1)


def test_a_single_array_in_an_npz_file_is_read_as_in_an_npy_file(tmp_path: Path, events: np.ndarray):
    np.savez(tmp_path / "e.npz", recording=events[:, [1, 2, 0, 3]])
    np.testing.assert_array_equal(matrix(reader(columns="xytp").read(Source(tmp_path / "e.npz"))), events)


def test_fortran_order_is_understood(tmp_path: Path, events: np.ndarray):
    np.save(tmp_path / "e.npy", np.asfortranarray(events))
    np.testing.assert_array_equal(matrix(reader().read(Source(tmp_path / "e.npy"))), events)


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1000), ("us", 1_000_000)])
def test_floating_point_times_become_microseconds(tmp_path: Path, events: np.ndarray, unit: str, per_second: int):
    saved = events.astype(np.float64)
    saved[:, 0] *= per_second / 1e6
    np.save(tmp_path / "e.npy", saved)
    np.testing.assert_array_equal(matrix(reader(time_unit=unit).read(Source(tmp_path / "e.npy"))), events)


def test_whole_milliseconds_become_microseconds(tmp_path: Path):
    np.save(tmp_path / "e.npy", np.array([[3, 1, 2, 1], [3000, 4, 5, 0]]))
    assert reader(time_unit="ms").read(Source(tmp_path / "e.npy")).t.tolist() == [3000, 3_000_000]


def test_polarities_may_be_signs(tmp_path: Path, events: np.ndarray):
    signed = events.copy()
    signed[:, 3] = 2 * signed[:, 3] - 1
    np.save(tmp_path / "e.npy", signed)
    np.testing.assert_array_equal(matrix(reader().read(Source(tmp_path / "e.npy"))), events)


def test_one_polarity_ignores_the_polarities_of_the_file(tmp_path: Path, events: np.ndarray):
    np.save(tmp_path / "e.npy", events)
    read = reader(polarities=1).read(Source(tmp_path / "e.npy"))
    assert read.p.max() == 0
    assert read.polarities == 1


def test_channels_need_no_rows(tmp_path: Path, events: np.ndarray):
    np.savez(tmp_path / "e.npz", timestamp=events[:, 0], addr=events[:, 1])
    read = reader(height=1, polarities=1).read(Source(tmp_path / "e.npz"))
    np.testing.assert_array_equal(read.x, events[:, 1])
    assert read.y.max() == 0


def test_a_recording_may_begin_with_its_first_event(tmp_path: Path, events: np.ndarray):
    np.save(tmp_path / "e.npy", later(events, 10**15))
    read = reader(start="first").read(Source(tmp_path / "e.npy"))
    np.testing.assert_array_equal(read.t, events[:, 0] - events[0, 0])
    with pytest.raises(ReadError, match="71 minutes"):
        reader().read(Source(tmp_path / "e.npy"))


def test_a_part_is_a_window_of_the_files_clock(tmp_path: Path, events: np.ndarray):
    np.save(tmp_path / "e.npy", events)
    start, end = int(events[50, 0]), int(events[120, 0])
    read = reader().read(Source(tmp_path / "e.npy", (start, end)))
    inside = events[(events[:, 0] >= start) & (events[:, 0] < end)]
    np.testing.assert_array_equal(matrix(read), later(inside, -start))
    assert read.duration == end - start
    assert len(reader().read(Source(tmp_path / "e.npy", (60_000, 70_000)))) == 0
    for part in ((5, 5), (1,), ("a", "b")):
        with pytest.raises(ReadError, match="the part"):
            reader().read(Source(tmp_path / "e.npy", part))


def test_a_recording_may_hold_no_events(tmp_path: Path):
    np.save(tmp_path / "e.npy", np.zeros((0, 4)))
    assert len(reader().read(Source(tmp_path / "e.npy"))) == 0
    assert len(reader(start="first", time_unit="s").read(Source(tmp_path / "e.npy"))) == 0


def test_events_out_of_order_are_put_in_order(tmp_path: Path, events: np.ndarray):
    shuffled = np.random.default_rng(1).permutation(events)
    np.save(tmp_path / "e.npy", shuffled)
    expected = shuffled[np.argsort(shuffled[:, 0], kind="stable")]
    np.testing.assert_array_equal(matrix(reader().read(Source(tmp_path / "e.npy"))), expected)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([[0, 40, 0, 0]]), "x = 40, outside 0 to 39"),
        (np.array([[0, 0, -1, 0]]), "y = -1"),
        (np.array([[0, 0, 0, 2]]), r"polarities are not 0 and 1, nor -1 and 1, but \[2.0\]"),
        (np.array([[0, 0, 0, 0], [1, 0, 0, -1]]), "polarities"),
        (np.array([[-5, 0, 0, 0]]), "at -5 us"),
        (np.array([[0.0, 1.5, 0, 0]]), "x of an event is 1.5, but coordinates are integers"),
        (np.array([[np.nan, 1, 0, 0]]), "a time is nan us"),
        (np.array([[1e300, 1, 0, 0]]), "a time is 1e"),
        (np.array([[0, np.inf, 0, 0]]), "x of an event is inf"),
        (np.array([[2**63, 0, 0, 0]], np.uint64), "a time is 9.2"),
        (np.zeros((5, 3)), r"holds an array \(5, 3\)"),
        (np.zeros(7), r"holds an array \(7,\)"),
        (np.array(["events"]), "holds an array"),
        (np.zeros(3, [("t", "i8"), ("x", "i2"), ("y", "i2")]), "has no p column, only t, x, y"),
        (np.zeros(3, [("a", "i8"), ("b", "i2")]), "has no t column, only unnamed ones"),
        (np.zeros(3, [("t", "i8"), ("ts", "i8")]), "has both 't' and 'ts'"),
        (np.zeros(3, [("t", "U5"), ("x", "i2"), ("y", "i2"), ("p", "i1")]), "column t has shape"),
        (np.array([{"t": 1}], dtype=object), "Python objects"),
    ],
)
def test_files_that_are_not_events_are_refused_with_the_reason(tmp_path: Path, array: np.ndarray, why: str):
    np.save(tmp_path / "e.npy", array)
    with pytest.raises(ReadError, match=why) as raised:
        reader().read(Source(tmp_path / "e.npy"))
    assert str(tmp_path / "e.npy") in str(raised.value)


def test_a_header_that_claims_more_than_the_file_has_is_not_believed(tmp_path: Path, events: np.ndarray):
    np.save(tmp_path / "e.npy", events)
    data = (tmp_path / "e.npy").read_bytes()
    (tmp_path / "e.npy").write_bytes(data.replace(b"(200, 4), }       ", b"(99999999999, 4), }"[:18], 1))
    with pytest.raises(ReadError, match="is not a NumPy file"):
        reader().read(Source(tmp_path / "e.npy"))
    (tmp_path / "e.npy").write_bytes(data[:-3])
    with pytest.raises(ReadError, match="does not match"):
        reader().read(Source(tmp_path / "e.npy"))


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "e.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("t.npy", "w") as file:
        for _ in range(LARGEST_UNPACKED // 2**22 + 1):
            file.write(bytes(2**22))
    with pytest.raises(ReadError, match="too large for a recording"):
        reader().read(Source(tmp_path / "e.npz"))


@pytest.mark.parametrize("how", ["columns", "structured", "arrays"])
def test_a_damaged_file_gives_events_or_an_error_with_its_name(tmp_path: Path, how: Any):
    events = some_events(np.random.default_rng(1), 20, duration=900, height=SIZE[0], width=SIZE[1])
    path = tmp_path / ("e.npz" if how == "arrays" else "e.npy")
    write_events(path, events, how=how)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(2), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for index in rng.integers(0, min(len(whole), 300), rng.integers(1, 6)):
            damaged[index] = rng.integers(256)
        path.write_bytes(bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else damaged))
        got = outcome(reader(), path)
        assert isinstance(got, Events) or str(path) in str(got)
        refused += isinstance(got, ReadError)
    assert refused > 100


def test_files_that_are_not_recordings_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        reader().read(Source(tmp_path / "none.npy"))
    for content in (b"", b"<html>", b"PK", b"PK\x03\x04" + bytes(100), b"\x93NUMPY", bytes(100)):
        (tmp_path / "e.npy").write_bytes(content)
        with pytest.raises(ReadError, match=r"e\.npy"):
            reader().read(Source(tmp_path / "e.npy"))


@pytest.mark.parametrize("columns", ["txypp", "xyp", "txyq", ""])
def test_columns_that_cannot_be_are_refused(columns: str):
    with pytest.raises(ValidationError, match="must be t, x and"):
        reader(columns=columns)


# Stages


def on_channels(channels: list[int], count: int) -> Events:
    """An event a microsecond."""
    none = np.zeros(len(channels), int)
    return Events.of(t=np.arange(len(channels)), x=np.array(channels), y=none, p=none, size=(1, count), polarities=1)


def test_scaling_the_plane_keeps_every_event_and_sums_merged_pixels(events: np.ndarray):
    scaled = ScalePlane(height=7, width=9)(as_events(events), DRAW)
    expected = events.copy()
    expected[:, 1] = expected[:, 1] * 9 // 40
    expected[:, 2] = expected[:, 2] * 7 // 30
    np.testing.assert_array_equal(matrix(scaled), expected)
    assert scaled.size == (7, 9)
    assert scaled.x.dtype == scaled.y.dtype == np.uint16


def test_scaling_does_not_overflow_on_the_largest_sensor():
    largest = Events.of(
        t=np.arange(2), x=np.array([65535, 32768]), y=np.array([0, 65535]), p=np.zeros(2, int), size=(2**16, 2**16)
    )
    scaled = ScalePlane(height=256, width=2**16)(largest, DRAW)
    assert (scaled.x.tolist(), scaled.y.tolist()) == ([65535, 32768], [0, 255])


def test_merging_units_that_lie_in_a_row():
    units = on_channels([0, 4, 5, 699], 700)
    assert ScalePlane(height=1, width=140)(units, DRAW).x.tolist() == [0, 0, 1, 139]


def test_folding_lays_channels_out_row_by_row():
    channels = on_channels([0, 7, 8, 23], 24)
    folded = Fold(height=3, width=8)(channels, DRAW)
    assert (folded.y.tolist(), folded.x.tolist(), folded.size) == ([0, 0, 1, 2], [0, 7, 0, 7], (3, 8))
    frames = EventFrames(steps=1)(channels, DRAW).view(3, 8)
    assert torch.equal(EventFrames(steps=1)(folded, DRAW)[0, 0], frames)
    with pytest.raises(ValueError, match="takes 25 channels, but the events have size 1 x 24"):
        Fold(height=5, width=5)(channels, DRAW)


def test_shifting_is_cropping_padded_frames(events: np.ndarray):
    recording = as_events(events)
    frames = EventFrames(steps=3)(recording, DRAW)
    padded = torch.nn.functional.pad(frames, (5, 5, 5, 5))
    offsets: set[tuple[int, int]] = set()
    for epoch in range(40):
        draw = Draw(seed=0, sample="a", modality="visual", epoch=epoch)
        moved = EventFrames(steps=3)(Shift(pixels=5)(recording, draw), draw)
        matches = [
            (top, left)
            for top in range(11)
            for left in range(11)
            if torch.equal(moved, padded[..., top : top + 30, left : left + 40])
        ]
        assert len(matches) == 1
        offsets.update(matches)
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(11))


def test_the_same_draw_shifts_by_the_same_distance(events: np.ndarray):
    first, second = (matrix(Shift(pixels=9)(as_events(events), DRAW)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_fixed_duration_cuts_off_or_waits(events: np.ndarray):
    short = FitDuration(seconds=0.02)(as_events(events), DRAW)
    np.testing.assert_array_equal(matrix(short), events[events[:, 0] < 20_000])
    long = FitDuration(seconds=0.1)(as_events(events), DRAW)
    np.testing.assert_array_equal(matrix(long), events)
    assert (short.duration, long.duration) == (20_000, 100_000)
    assert EventFrames(steps=2)(long, DRAW)[1].count_nonzero() == 0


def test_flat_frames_keep_polarity_row_and_column_in_order():
    frames = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    flat = FlattenFrames()(frames, DRAW)
    assert flat.shape == (2, 60)
    assert flat[1, 2 * 20 + 3 * 5 + 4] == frames[1, 2, 3, 4]


def test_stretched_frames_run_straight_between_the_values():
    rows = torch.arange(8.0)[:, None] * 10 + torch.arange(8.0)
    stretched = StretchFrames(height=16, width=32)(rows.expand(2, 1, 8, 8), DRAW)
    assert stretched.shape == (2, 1, 16, 32)
    at = (np.arange(32) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(stretched[1, 0, 4].numpy(), np.interp(at, range(8), 17.5 + np.arange(8)), rtol=1e-6)


def columns_of(t: np.ndarray, *, p: np.ndarray | None = None, x: np.ndarray | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    count = len(t)
    return {
        "t": t,
        "x": rng.integers(0, SIZE[1], count) if x is None else x,
        "y": rng.integers(0, SIZE[0], count),
        "p": rng.integers(0, 2, count) if p is None else p,
    }


def test_fractional_microseconds_are_refused_as_wrong_units(tmp_path: Path):
    np.savez(tmp_path / "e.npz", **columns_of(np.arange(1000) / 1000))
    with pytest.raises(
        ReadError, match=r"times such as 0\.001 are fractions, but microseconds are integers; .* time_unit"
    ):
        reader().read(Source(tmp_path / "e.npz"))
    assert reader(time_unit="s").read(Source(tmp_path / "e.npz")).duration == 999_001
    np.savez(tmp_path / "e.npz", **columns_of(np.arange(1000).astype(np.float64)))
    assert reader().read(Source(tmp_path / "e.npz")).duration == 1000


@pytest.mark.parametrize(("unit", "start"), [("us", 1e9), ("s", 1.7e3), ("ms", 2e6)])
def test_times_beyond_the_resolution_of_float32_are_refused(tmp_path: Path, unit: str, start: float):
    factor = {"us": 1e6, "ms": 1e3, "s": 1}[unit]
    t = (
        np.floor(start + np.linspace(0, 0.01, 500) * factor)
        if unit == "us"
        else start + np.linspace(0, 0.01, 500) * factor
    )
    np.savez(tmp_path / "e.npz", **columns_of(t.astype(np.float32)))
    with pytest.raises(ReadError, match=r"its times are float32, whose resolution at .* is only"):
        reader(time_unit=unit, start="first").read(Source(tmp_path / "e.npz"))
    np.savez(tmp_path / "e.npz", **columns_of((t - start).astype(np.float32)))
    assert len(reader(time_unit=unit).read(Source(tmp_path / "e.npz"))) == 500


def test_a_clock_that_was_set_back_is_refused_with_its_place(tmp_path: Path):
    first, second = 5_000_000 + np.arange(0, 1_000_000, 1000), np.arange(0, 1_000_000, 1000)
    np.savez(tmp_path / "e.npz", **columns_of(np.concatenate([first, second])))
    with pytest.raises(ReadError, match=r"event 1001 is at 0 s, after one at 5\.999 s: the clock was reset"):
        reader().read(Source(tmp_path / "e.npz"))
    # Where the later part lies within the first, too.
    np.savez(tmp_path / "e.npz", **columns_of(np.concatenate([second, second[:300]])))
    with pytest.raises(ReadError, match="the clock was reset"):
        reader().read(Source(tmp_path / "e.npz"))


def test_events_out_of_order_for_other_reasons_are_put_in_order(tmp_path: Path):
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 1_000_000, 3000))
    jittered = t + rng.integers(-300, 300, 3000).clip(-t, None)
    swapped = t.copy()
    swapped[[1000, 1001]] = swapped[[1001, 1000]]
    by_polarity = np.concatenate([t[::2], t[1::2]])
    polarity = np.repeat([1, 0], 1500)
    by_channel = np.concatenate([t[number::5] for number in range(5)])
    for case in (
        columns_of(jittered),
        columns_of(swapped),
        columns_of(t[rng.permutation(3000)]),
        columns_of(t[::-1]),
        columns_of(by_polarity, p=polarity),
        columns_of(by_channel, x=np.repeat(np.arange(5), 600)),
        columns_of(np.array([9, 2, 5, 1, 7])),
    ):
        np.savez(tmp_path / "e.npz", **case)
        assert np.array_equal(reader().read(Source(tmp_path / "e.npz")).t, np.sort(case["t"]))


def test_minus_one_in_bytes_without_sign_is_named(tmp_path: Path):
    p = np.array([1, -1, 1, -1], np.int8).astype(np.uint8)
    np.savez(tmp_path / "e.npz", **columns_of(np.arange(4), p=p))
    with pytest.raises(ReadError, match=r"polarities are 1 and 255, which is -1 as uint8 stores it; save them as int8"):
        reader().read(Source(tmp_path / "e.npz"))


def test_names_of_fields_count_in_any_case(tmp_path: Path):
    np.savez(tmp_path / "e.npz", **{name.upper(): values for name, values in columns_of(np.arange(4)).items()})
    assert len(reader().read(Source(tmp_path / "e.npz"))) == 4
