"""The reader of ST-MNIST."""

import pickle
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from datasets.writers.mat import write_mat
from datasets.writers.st_mnist import spike_trains
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.formats.mat5 import StMnistReader, read_mat5


def read(path: Path):
    return StMnistReader().read(Source(path))


@pytest.mark.parametrize("compressed", [True, False])
def test_events_are_those_of_the_matrix(tmp_path: Path, compressed: bool):
    trains = spike_trains(np.random.default_rng(3), columns=60)
    write_mat(tmp_path / "a.mat", {"other": np.ones((2, 3)), "spiketrain": trains}, compressed=compressed)
    events = read(tmp_path / "a.mat")
    expected = [
        (round(trains[100, column] * 1e6), taxel % 10, taxel // 10, int(trains[taxel, column] > 0))
        for column in range(60)
        for taxel in range(100)
        if trains[taxel, column]
    ]
    assert (
        list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)) == expected
    )
    assert len(expected) > 20
    assert (events.size, events.polarities) == ((10, 10), 2)
    assert events.duration == round(trains[100].max() * 1e6) + 1


def test_a_taxel_lies_at_its_tens_and_units(tmp_path: Path):
    trains = np.zeros((101, 3))
    trains[37, 1] = -1
    trains[100] = [0, 0.5, 1.25]
    write_mat(tmp_path / "a.mat", {"spiketrain": trains})
    events = read(tmp_path / "a.mat")
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist(), events.t.tolist()) == ([7], [3], [0], [500_000])
    assert events.duration == 1_250_001


def test_a_recording_without_events_is_one(tmp_path: Path):
    trains = np.zeros((101, 4))
    trains[100] = [0, 1, 2, 3]
    write_mat(tmp_path / "a.mat", {"spiketrain": trains})
    assert len(read(tmp_path / "a.mat")) == 0


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
def test_arrays_are_read_as_scipy_reads_them(tmp_path: Path, dtype: str):
    array = np.random.default_rng(4).integers(0, 100, size=(3, 5, 2)).astype(dtype)
    write_mat(tmp_path / "a.mat", {"a": array, "b": array[:1, :1, 0]})
    for name in ("a", "b"):
        np.testing.assert_array_equal(read_mat5(tmp_path / "a.mat", name), loadmat(tmp_path / "a.mat")[name])


def test_impossible_recordings_are_refused(tmp_path: Path):
    path = tmp_path / "a.mat"
    good = spike_trains(np.random.default_rng(5))

    def changed(row: int, value: float) -> np.ndarray:
        trains = good.copy()
        trains[row, 7] = value
        return trains

    for arrays, message in (
        ({"LUT": np.ones(3)}, "no array 'spiketrain', only 'LUT'"),
        ({"spiketrain": good[:-1]}, "shape (100, 40)"),
        ({"spiketrain": good[:, :0]}, "shape (101, 0)"),
        ({"spiketrain": changed(3, 2)}, "a taxel value of spiketrain is not -1, 0 or 1"),
        ({"spiketrain": changed(3, np.nan)}, "a taxel value of spiketrain is not -1, 0 or 1"),
        ({"spiketrain": changed(100, -0.5)}, "negative"),
        ({"spiketrain": changed(100, np.inf)}, "negative, NaN or inf"),
        ({"spiketrain": changed(100, 1e6)}, "must be in seconds"),
        ({"spiketrain": good + 1j}, "complex"),
    ):
        write_mat(path, arrays)
        with pytest.raises(ReadError) as caught:
            read(path)
        assert message in str(caught.value)


def test_a_newer_matlab_file_is_refused_with_what_to_do(tmp_path: Path):
    import h5py

    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["spiketrain"] = np.zeros((4, 101))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ReadError, match="save it again with -v7"):
        read(path)


def test_sizes_that_a_file_only_claims_take_no_memory(tmp_path: Path):
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    bomb = zlib.compress(bytes(80 * 2**20))
    for body in (
        struct.pack("<II", 14, 2**32 - 8),
        struct.pack("<II", 15, len(bomb)) + bomb,
        struct.pack("<II", 14, 0x01000004) + bytes(64),
    ):
        (tmp_path / "a.mat").write_bytes(head + body)
        with pytest.raises(ReadError, match="damaged"):
            read(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_files_raise_only_read_errors(tmp_path: Path, compressed: bool):
    write_mat(tmp_path / "good.mat", {"spiketrain": spike_trains(np.random.default_rng(6))}, compressed=compressed)
    good = (tmp_path / "good.mat").read_bytes()
    draw, refused = random.Random(0), 0
    for _ in range(600):
        data = bytearray(good[: draw.choice([len(good), draw.randrange(1, len(good))])])
        for _ in range(draw.randrange(1, 5)):
            data[draw.randrange(min(len(data), 260))] = draw.randrange(256)
        (tmp_path / "bad.mat").write_bytes(data)
        try:
            events = read(tmp_path / "bad.mat")
        except ReadError:
            refused += 1
        else:
            assert (events.t < events.duration).all()
    assert refused > 200


def test_the_reader_travels_to_other_processes(tmp_path: Path):
    assert pickle.loads(pickle.dumps(StMnistReader())) == StMnistReader()
    with pytest.raises(FileNotFoundError, match="no file at"):
        read(tmp_path / "none.mat")
