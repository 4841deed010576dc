"""AEDAT 2.0 and 3.1."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from datasets.writers.aedat import (
    CAER_HEADER,
    JAER_HEADER,
    POLARITY,
    later,
    packet,
    some_events,
    write_aedat2,
    write_aedat3,
)
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events
from snn_datasets.formats.aedat import Aedat2Reader, Aedat3Reader


def outcome(reader: Reader, path: Path) -> Events | ReadError:
    try:
        read = reader.read(Source(path))
    except ReadError as error:
        return error
    assert isinstance(read, Events)
    return read


def matrix(events: Events) -> np.ndarray:
    return np.stack([events.t, events.x, events.y, events.p], axis=1)


@pytest.fixture
def events() -> np.ndarray:
    """Events whose first is at time 0, at the corners among others."""
    events = some_events(np.random.default_rng(0), 333, duration=70_000)
    events[0] = (0, 127, 0, 1)
    events[-1] = (70_000, 0, 127, 0)
    return events


# AEDAT 2.0


def test_jaer_files_are_read_back(tmp_path: Path, events: np.ndarray):
    write_aedat2(tmp_path / "a.aedat", events, first_stamp=123_456)
    read = Aedat2Reader().read(Source(tmp_path / "a.aedat"))
    np.testing.assert_array_equal(matrix(read), events)
    assert (read.size, read.polarities, read.duration) == ((128, 128), 2, 70_001)


def test_an_address_is_parsed_bit_by_bit(tmp_path: Path):
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + struct.pack(">IIII", 0b0_1000010_0010001_1, 5, 0b0_0000001_1000000_0, 9))
    assert matrix(Aedat2Reader().read(Source(path))).tolist() == [[0, 17, 66, 1], [4, 64, 1, 0]]


@pytest.mark.parametrize("first_stamp", [2**32 - 30_000, 2**31 - 30_000])
def test_a_clock_overflow_is_unwrapped(tmp_path: Path, events: np.ndarray, first_stamp: int):
    write_aedat2(tmp_path / "a.aedat", events, first_stamp=first_stamp)
    np.testing.assert_array_equal(matrix(Aedat2Reader().read(Source(tmp_path / "a.aedat"))), events)


def test_stamps_that_go_back_are_put_in_order(tmp_path: Path, events: np.ndarray):
    swapped = events.copy()
    swapped[[0, 40, 41, 200]] = swapped[[5, 41, 40, 190]]
    write_aedat2(tmp_path / "a.aedat", swapped, first_stamp=2**32 - 20_000)
    expected = swapped[np.argsort(swapped[:, 0], kind="stable")]
    expected[:, 0] -= expected[0, 0]
    np.testing.assert_array_equal(matrix(Aedat2Reader().read(Source(tmp_path / "a.aedat"))), expected)


def test_marks_from_outside_are_left_out(tmp_path: Path, events: np.ndarray):
    write_aedat2(tmp_path / "a.aedat", events)
    with (tmp_path / "a.aedat").open("ab") as file:
        file.write(struct.pack(">II", 0x8000 | 77, 80_000) + struct.pack(">iI", -32768, 90_000))
    np.testing.assert_array_equal(matrix(Aedat2Reader().read(Source(tmp_path / "a.aedat"))), events)


def test_a_part_of_a_jaer_file_counts_from_its_first_event(tmp_path: Path, events: np.ndarray):
    write_aedat2(tmp_path / "a.aedat", events, first_stamp=999)
    read = Aedat2Reader().read(Source(tmp_path / "a.aedat", (10_000, 30_000)))
    inside = events[(events[:, 0] >= 10_000) & (events[:, 0] < 30_000)]
    np.testing.assert_array_equal(matrix(read), later(inside, -10_000))
    assert read.duration == 20_000


def test_a_jaer_file_may_hold_no_events(tmp_path: Path):
    (tmp_path / "a.aedat").write_bytes(JAER_HEADER)
    assert len(Aedat2Reader().read(Source(tmp_path / "a.aedat"))) == 0


@pytest.mark.parametrize("extra", [1, 4, 7])
def test_a_truncated_jaer_file_is_refused(tmp_path: Path, events: np.ndarray, extra: int):
    write_aedat2(tmp_path / "a.aedat", events)
    data = (tmp_path / "a.aedat").read_bytes()
    (tmp_path / "a.aedat").write_bytes(data[: len(data) - 8 + extra])
    with pytest.raises(ReadError, match=f"truncated: its last event has {extra} of 8 bytes"):
        Aedat2Reader().read(Source(tmp_path / "a.aedat"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x00\x01" * 20, "does not begin with the line #!AER-DAT2.0"),
        (CAER_HEADER, "is AEDAT 3.1, but AEDAT 2.0 is expected; set its reader to aedat3"),
        (
            b"#!AER-DAT4.0\r\n\x00\xff",
            r"is AEDAT 4.0, .* 2.0 and 3.1 are supported: convert it to an .npz file of arrays x, y, t ",
        ),
        (b"#" * 2_000_000, "header does not end"),
        (b"#no end", "header does not end"),
        (b"#!AER-DAT2.0\r\n" + struct.pack(">II", 0x10000, 1), "0x10000, but those of a DVS128 have 15 bits"),
        (b"#!AER-DAT2.0\r\n" + struct.pack(">8I", 2, 0, 2, 2**31 - 1, 2, 2**32 - 2, 2, 9), "71 minutes"),
    ],
)
def test_files_that_are_not_jaer_are_refused(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "a.aedat").write_bytes(content)
    with pytest.raises(ReadError, match=why) as raised:
        Aedat2Reader().read(Source(tmp_path / "a.aedat"))
    assert str(tmp_path / "a.aedat") in str(raised.value)


# AEDAT 3.1


def test_caer_files_are_read_back(tmp_path: Path, events: np.ndarray):
    write_aedat3(tmp_path / "a.aedat", later(events, 5_000), per_packet=50)
    read = Aedat3Reader().read(Source(tmp_path / "a.aedat"))
    np.testing.assert_array_equal(matrix(read), events)
    assert (read.size, read.duration) == ((128, 128), 70_001)


def test_a_word_is_parsed_bit_by_bit(tmp_path: Path):
    word = 0b000000000010001_000000001000010_1_1
    (tmp_path / "a.aedat").write_bytes(CAER_HEADER + packet(POLARITY, [(word, 9), (word ^ 2, 10)]))
    assert matrix(Aedat3Reader().read(Source(tmp_path / "a.aedat"))).tolist() == [[0, 17, 66, 1], [1, 17, 66, 0]]


def test_a_part_of_a_caer_file_is_a_window_of_its_clock(tmp_path: Path, events: np.ndarray):
    write_aedat3(tmp_path / "a.aedat", later(events, 5_000))
    for start, end in ((15_000, 35_000), (30_000, 40_000)):
        read = Aedat3Reader().read(Source(tmp_path / "a.aedat", (start, end)))
        inside = events[(events[:, 0] >= start - 5_000) & (events[:, 0] < end - 5_000)]
        np.testing.assert_array_equal(matrix(read), later(inside, 5_000 - start))
        assert read.duration == end - start


def test_times_go_on_when_they_overflow(tmp_path: Path, events: np.ndarray):
    write_aedat3(tmp_path / "a.aedat", later(events, 3 * 2**31 - 20_000))
    np.testing.assert_array_equal(matrix(Aedat3Reader().read(Source(tmp_path / "a.aedat"))), events)


def test_events_that_are_not_valid_are_left_out(tmp_path: Path):
    events = [(3 << 17 | 1, 10), (4 << 17, 11), (5 << 17 | 1, 12)]
    (tmp_path / "a.aedat").write_bytes(CAER_HEADER + packet(POLARITY, events))
    assert Aedat3Reader().read(Source(tmp_path / "a.aedat")).x.tolist() == [3, 5]


def test_unused_capacity_of_a_packet_is_skipped(tmp_path: Path):
    full = bytearray(packet(POLARITY, [(3 << 17 | 1, 10), (4 << 17 | 1, 11), (5 << 17 | 1, 12)]))
    full[20:24] = struct.pack("<i", 2)
    (tmp_path / "a.aedat").write_bytes(CAER_HEADER + full + packet(POLARITY, [(6 << 17 | 1, 20)]))
    assert Aedat3Reader().read(Source(tmp_path / "a.aedat")).x.tolist() == [3, 4, 6]


def test_packets_of_other_events_are_skipped_whatever_their_size(tmp_path: Path):
    frames = struct.pack("<hhiiiiii", 2, 1, 36, 12, 0, 2, 2, 2) + b"\xff" * 72
    (tmp_path / "a.aedat").write_bytes(CAER_HEADER + frames + packet(POLARITY, [(6 << 17 | 1, 20)]))
    assert Aedat3Reader().read(Source(tmp_path / "a.aedat")).x.tolist() == [6]


def test_another_sensor_may_be_larger(tmp_path: Path):
    (tmp_path / "a.aedat").write_bytes(CAER_HEADER + packet(POLARITY, [(345 << 17 | 259 << 2 | 1, 20)]))
    read = Aedat3Reader(height=260, width=346).read(Source(tmp_path / "a.aedat"))
    assert (read.x.tolist(), read.y.tolist(), read.size) == ([345], [259], (260, 346))
    with pytest.raises(ReadError, match="x = 345, outside 0 to 127"):
        Aedat3Reader().read(Source(tmp_path / "a.aedat"))


def test_a_changed_file_is_read_again(tmp_path: Path, events: np.ndarray):
    path = tmp_path / "a.aedat"
    write_aedat3(path, events)
    np.testing.assert_array_equal(matrix(Aedat3Reader().read(Source(path))), events)
    changed = events * (1, 1, 1, 0)
    write_aedat3(path, changed)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(matrix(Aedat3Reader().read(Source(path))), changed)


def test_modifying_a_recording_does_not_change_the_next_read(tmp_path: Path, events: np.ndarray):
    write_aedat3(tmp_path / "a.aedat", events)
    for _ in range(2):
        read = Aedat3Reader().read(Source(tmp_path / "a.aedat"))
        np.testing.assert_array_equal(matrix(read), events)
        for column in (read.t, read.x, read.y, read.p):
            column[:] = 0


def test_a_reader_that_read_is_as_small_as_one_that_did_not(tmp_path: Path, events: np.ndarray):
    reader = Aedat3Reader()
    before = pickle.dumps(reader)
    write_aedat3(tmp_path / "a.aedat", events)
    reader.read(Source(tmp_path / "a.aedat"))
    assert pickle.dumps(reader) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x01\x00" * 20, "does not begin with the line #!AER-DAT3.1"),
        (JAER_HEADER, "is AEDAT 2.0, but AEDAT 3.1 is expected; set its reader to aedat2"),
        (b"#!AER-DAT3.0\r\n", r"is AEDAT 3.0, .*convert it to an .npz file"),
        (CAER_HEADER.replace(b"RAW", b"Serial-TS"), "compressed packets .Format: Serial-TS"),
        (CAER_HEADER + bytes(20), "truncated in the header of a packet"),
        (CAER_HEADER + packet(POLARITY, [(1, 2)])[:-1], "claims 1 events of 8 bytes, more than is left of the file"),
        (CAER_HEADER + struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 2**31 - 1, 1, 1), "claims 2147483647 events"),
        (CAER_HEADER + struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 1, 2, 1) + bytes(8), "claims 2 events, a capacity of 1"),
        (CAER_HEADER + struct.pack("<hhiiiiii", 1, 0, -8, 4, 0, 1, 1, 1) + bytes(8), "x -8 bytes"),
        (CAER_HEADER + struct.pack("<hhiiiiii", 1, 0, 8, 4, -1, 1, 1, 1) + bytes(8), "overflow -1"),
        (CAER_HEADER + struct.pack("<hhiiiiii", 1, 0, 12, 8, 0, 1, 1, 1) + bytes(12), "events have 12 bytes"),
        (CAER_HEADER + packet(POLARITY, [(1, -5)]), "negative time"),
    ],
)
def test_files_that_are_not_caer_are_refused(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "a.aedat").write_bytes(content)
    with pytest.raises(ReadError, match=why) as raised:
        Aedat3Reader().read(Source(tmp_path / "a.aedat"))
    assert str(tmp_path / "a.aedat") in str(raised.value)


@pytest.mark.parametrize("reader", [Aedat2Reader(), Aedat3Reader()])
def test_a_damaged_file_gives_events_or_an_error_with_its_name(tmp_path: Path, reader: Reader):
    path = tmp_path / "damaged.aedat"
    write = write_aedat2 if isinstance(reader, Aedat2Reader) else write_aedat3
    write(path, some_events(np.random.default_rng(1), 20, duration=900))
    whole, rng, refused = path.read_bytes(), np.random.default_rng(2), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for index in rng.integers(0, len(whole), rng.integers(1, 6)):
            damaged[index] = rng.integers(256)
        path.write_bytes(bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else damaged))
        got = outcome(reader, path)
        assert isinstance(got, Events) or str(path) in str(got)
        refused += isinstance(got, ReadError)
    assert refused > 100


@pytest.mark.parametrize("reader", [Aedat2Reader(), Aedat3Reader()])
def test_files_that_are_not_recordings_are_refused(tmp_path: Path, reader: Reader):
    with pytest.raises(FileNotFoundError, match="no file at"):
        reader.read(Source(tmp_path / "none.aedat"))
    (tmp_path / "a.aedat").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ReadError, match="Git-LFS"):
        reader.read(Source(tmp_path / "a.aedat"))


@pytest.mark.slow  # SpikingJelly's datasets take ten seconds to import
def test_another_reader_of_caer_files_agrees(tmp_path: Path, events: np.ndarray):
    from spikingjelly.datasets.utils import load_aedat_v3

    write_aedat3(tmp_path / "a.aedat", later(events, 2**31 - 30_000), per_packet=50)
    theirs = load_aedat_v3(tmp_path / "a.aedat")
    ours = Aedat3Reader().read(Source(tmp_path / "a.aedat", (2**31 - 30_000, 2**31 + 50_000)))
    expected = np.stack([theirs[name] for name in "txyp"], axis=1) - (2**31 - 30_000, 0, 0, 0)
    np.testing.assert_array_equal(matrix(ours), expected)


def test_another_format_in_an_aedat_file_is_named_with_a_converter(tmp_path: Path):
    path = tmp_path / "x.aedat"
    path.write_bytes(b"% date 2020-01-01 10:00:00\n% evt 3.0\n% end\n" + bytes(64))
    for reader in (Aedat2Reader(), Aedat3Reader()):
        with pytest.raises(ReadError, match=r"is a Prophesee event file, not AEDAT .*metavision_file_to_csv"):
            reader.read(Source(path))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(ReadError, match="is an HDF5 file, not AEDAT"):
        Aedat2Reader().read(Source(path))
