"""Cochleae in HDF5 files: N-TIDIGITS18 and the Spiking Heidelberg Digits."""

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.writers.hdf5 import some_spikes, write_ntidigits_file, write_shd_file
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.formats.hdf5 import NTidigitsReader, ShdReader, ntidigits_labels, shd_contents

LABEL = "man-ae-a-1"


@pytest.fixture
def ntidigits(tmp_path: Path) -> tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(0)
    utterances = {
        label: some_spikes(rng, 60, channels=64, seconds=0.5) for label in (LABEL, "woman-ac-b-z", "man-ae-b-o93")
    }
    write_ntidigits_file(
        tmp_path / "n.hdf5", train=utterances, test={"man-zz-a-1": some_spikes(rng, 30, channels=64, seconds=0.5)}
    )
    return tmp_path / "n.hdf5", utterances


@pytest.fixture
def shd(tmp_path: Path) -> tuple[Path, list[tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(1)
    utterances = [some_spikes(rng, count, channels=700, seconds=1.3) for count in (50, 70, 0, 20)]
    write_shd_file(tmp_path / "s.h5", utterances, labels=[1, 0, 1, 1], speakers=[4, 4, 7, 0], keys=["zero", "null"])
    return tmp_path / "s.h5", utterances


def test_spoken_digits_are_read_back(ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]]):
    path, utterances = ntidigits
    for label, (seconds, channels) in utterances.items():
        read = NTidigitsReader().read(Source(path, ("train", label)))
        micros = np.rint(seconds * 1e6).astype(int)
        np.testing.assert_array_equal(read.t, micros - micros[0])
        np.testing.assert_array_equal(read.x, channels)
        assert (read.size, read.polarities, read.duration) == ((1, 64), 1, micros[-1] - micros[0] + 1)
        assert read.y.max() == read.p.max() == 0


def test_the_labels_of_a_split_are_listed(ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]]):
    path, utterances = ntidigits
    assert ntidigits_labels(path, "train") == list(utterances)
    assert ntidigits_labels(path, "test") == ["man-zz-a-1"]


def test_heidelberg_digits_are_read_back_from_the_times_that_16_bits_hold(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]],
):
    path, utterances = shd
    every = [ShdReader().read(Source(path, (number,))) for number in range(len(utterances))]
    for read, (seconds, units) in zip(every, utterances, strict=True):
        np.testing.assert_array_equal(read.t, np.rint(seconds.astype(np.float16).astype(float) * 1e6))
        np.testing.assert_array_equal(read.x, units)
        assert (read.size, read.polarities) == ((1, 700), 1)
    assert every[-1].duration == every[-1].t[-1] + 1


def test_labels_speakers_and_classes_are_listed(shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]]):
    labels, speakers, keys = shd_contents(shd[0])
    assert (labels.tolist(), speakers.tolist(), keys) == ([1, 0, 1, 1], [4, 4, 7, 0], ["zero", "null"])


@pytest.mark.parametrize("part", [(), ("train",), ("train", "nobody"), ("val", LABEL), ("train", "")])
def test_an_utterance_that_is_not_there_is_refused(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]], part: tuple[str, ...]
):
    with pytest.raises(ReadError, match=str(ntidigits[0])):
        NTidigitsReader().read(Source(ntidigits[0], part))


@pytest.mark.parametrize("part", [(), (4,), (-1,), ("0",), (0.5,), (0, 1)])
def test_a_number_that_is_not_there_is_refused(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]], part: tuple[object, ...]
):
    with pytest.raises(ReadError, match=str(shd[0])):
        ShdReader().read(Source(shd[0], part))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("what", "values", "why"),
    [
        ("addresses", np.array([64] * 60), "a channel is outside 0 to 63"),
        ("addresses", np.array([-1] * 60), "a channel is outside 0 to 63"),
        ("addresses", np.array([1.0, np.nan] * 30), "a channel is outside 0 to 63"),
        ("addresses", np.array([0.5] * 60), "a channel is outside 0 to 63"),
        ("addresses", np.zeros(59, int), "have 60, 59"),
        ("addresses", np.zeros((60, 1), int), "one axis is expected"),
        ("addresses", np.array([b"a"] * 60), "rather than numbers"),
        ("timestamps", np.array([np.nan] * 60), "a time is NaN, inf or out of range"),
        ("timestamps", np.array([1e30] * 60), "a time is NaN, inf or out of range"),
        ("timestamps", np.linspace(0, 9000, 60), "71 minutes"),
    ],
)
def test_impossible_spikes_are_refused(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]], what: str, values: np.ndarray, why: str
):
    path, _ = ntidigits
    with h5py.File(path, "r+") as file:
        del file[f"train_{what}/{LABEL}"]
        file[f"train_{what}/{LABEL}"] = values
    with pytest.raises(ReadError, match=why) as raised:
        NTidigitsReader().read(Source(path, ("train", LABEL)))
    assert str(path) in str(raised.value)


def test_a_claim_of_more_spikes_than_any_utterance_has_is_refused_unread(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]],
):
    path, _ = ntidigits
    with h5py.File(path, "r+") as file:
        del file[f"train_addresses/{LABEL}"]
        file.create_dataset(f"train_addresses/{LABEL}", (10**12,), np.int64, chunks=(1000,))
    with pytest.raises(ReadError, match=r"shape \(1000000000000,\)"):
        NTidigitsReader().read(Source(path, ("train", LABEL)))


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("labels", np.array([0, 1]), "has 2 labels, but 4 speakers"),
        ("labels", np.array([0, 1, 2, 0]), "has a label outside 0 to 1"),
        ("extra/speaker", np.array([b"x"] * 4), "rather than numbers"),
    ],
)
def test_contents_that_do_not_agree_are_refused(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]], name: str, values: np.ndarray, why: str
):
    with h5py.File(shd[0], "r+") as file:
        del file[name]
        file[name] = values
    with pytest.raises(ReadError, match=why):
        shd_contents(shd[0])


def test_a_file_of_another_dataset_is_refused_with_what_it_lacks(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]],
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]],
):
    with pytest.raises(ReadError, match="has no 'spikes/times'"):
        ShdReader().read(Source(ntidigits[0], (0,)))
    with pytest.raises(ReadError, match="has no 'train_timestamps/"):
        NTidigitsReader().read(Source(shd[0], ("train", LABEL)))
    with pytest.raises(ReadError, match="has no 'train_labels'"):
        ntidigits_labels(shd[0], "train")


def test_files_that_are_not_hdf5_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        ShdReader().read(Source(tmp_path / "none.h5", (0,)))
    with pytest.raises(FileNotFoundError, match="no file at"):
        shd_contents(tmp_path / "none.h5")
    for content, why in ((b"", "is empty"), (b"<html>", "web page"), (bytes(5000), "cannot be read as HDF5")):
        (tmp_path / "a.h5").write_bytes(content)
        for read in (lambda path: ShdReader().read(Source(path, (0,))), shd_contents):
            with pytest.raises(ReadError, match=why):
                read(tmp_path / "a.h5")


def test_nothing_stays_open(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]],
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]],
):
    for reader, source in (
        (NTidigitsReader(), Source(ntidigits[0], ("train", LABEL))),
        (ShdReader(), Source(shd[0], (0,))),
        (ShdReader(), Source(shd[0], (99,))),
    ):
        try:
            reader.read(source)
        except ReadError:
            assert source.part == (99,)
        assert pickle.loads(pickle.dumps(reader)) == reader
    gc.collect()
    for path in (ntidigits[0], shd[0]):
        with h5py.File(path, "r+") as file:  # refused while another handle of this process reads it
            file.attrs["seen"] = 1


def test_without_h5py_the_error_says_what_to_install(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "snn-datasets\[events\]"'):
        ShdReader().read(Source(shd[0], (0,)))


def test_importing_the_readers_imports_neither_torch_nor_h5py():
    code = (
        "import sys, snn_datasets.formats.hdf5, snn_datasets.formats.aedat; "
        "print({'torch', 'h5py', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("packed", [{}, {"shuffle": True}, {"compression": 1}, {"shuffle": True, "compression": 9}])
def test_utterances_in_chunks_are_read_back(tmp_path: Path, packed: dict[str, object]):
    rng = np.random.default_rng(5)
    # The last six are never written, and of one chunk none is.
    utterances = [(np.linspace(0, 1, 9 * n), rng.integers(0, 700, 9 * n)) for n in range(44)]
    written = {number: spikes for number, spikes in enumerate(utterances) if number not in range(14, 21)}
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for column, (name, dtype) in enumerate((("times", ">f2"), ("units", "<u4"))):
            rows = file.create_dataset(
                f"spikes/{name}", (50,), h5py.vlen_dtype(np.dtype(dtype)), maxshape=(None,), chunks=(7,), **packed
            )
            for number, spikes in written.items():
                rows[number] = spikes[column].astype(dtype)
    for number in range(50):
        read = ShdReader().read(Source(tmp_path / "s.h5", (number,)))
        seconds, units = written.get(number, (np.zeros(0), np.zeros(0)))
        np.testing.assert_array_equal(read.x, units)
        np.testing.assert_array_equal(read.t, np.rint(seconds.astype(np.float16).astype(np.float64) * 1e6))


def test_texts_of_varying_length_are_read_too(tmp_path: Path):
    with h5py.File(tmp_path / "n.hdf5", "w") as file:
        file["train_labels"] = ["man-ae-a-1", "woman-müller-a-1234", ""]
        file["test_labels"] = np.arange(3)
    assert ntidigits_labels(tmp_path / "n.hdf5", "train") == ["man-ae-a-1", "woman-müller-a-1234", ""]
    with pytest.raises(ReadError, match="rather than texts"):
        ntidigits_labels(tmp_path / "n.hdf5", "test")


def test_filters_that_are_not_known_are_refused_by_number(tmp_path: Path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("times", "units"):
            file.create_dataset(f"spikes/{name}", (5,), h5py.vlen_dtype(np.float16), chunks=(5,), compression="lzf")
    with pytest.raises(ReadError, match=r"unsupported filters \[32000\]"):
        ShdReader().read(Source(tmp_path / "s.h5", (0,)))


def test_a_heap_that_would_loop_forever_in_the_library_is_skipped(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]],
):
    path, utterances = shd
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL")
    offset = heap + 16
    while bytes(data[offset : offset + 2]) != b"\0\0":  # number 0 is the gap after the last object
        offset += 16 + -(-int.from_bytes(data[offset + 8 : offset + 16], "little") // 8) * 8
    data[offset + 8 : offset + 16] = bytes(8)
    path.write_bytes(data)
    assert [len(ShdReader().read(Source(path, (number,)))) for number in range(4)] == [len(t) for t, _ in utterances]


@pytest.mark.parametrize(
    ("at", "content", "why"),
    [
        (0, b"HEAP", "there is no heap at byte"),
        (8, b"\xff" * 8, "beyond its end"),
        (16, b"\x77\x00", "has no object"),
        (24, b"\x05" + bytes(7), "more than its 5 bytes"),
    ],
)
def test_a_heap_that_is_damaged_is_refused(
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]], at: int, content: bytes, why: str
):
    path, _ = shd
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL")
    data[heap + at : heap + at + len(content)] = content
    path.write_bytes(data)
    with pytest.raises(ReadError, match=why) as raised:
        ShdReader().read(Source(path, (0,)))
    assert str(path) in str(raised.value)


# In a separate process: a crash of the HDF5 library would take the tests with it.
FUZZ = """
import random, resource, sys
from pathlib import Path
from snn_datasets.formats.hdf5 import NTidigitsReader, ShdReader, ntidigits_labels, shd_contents
from snn_datasets.base.reader import ReadError, Source
resource.setrlimit(resource.RLIMIT_AS, (5 * 2**28, 5 * 2**28))
path, kind, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
whole, rng, refused = path.read_bytes(), random.Random(int(sys.argv[4])), 0
for _ in range(rounds):
    damaged = bytearray(whole)
    for place in rng.choices(range(len(whole)), k=rng.randint(1, 40)):
        damaged[place] = rng.choice([0, 255, rng.randrange(256)])
    path.write_bytes(bytes(damaged[: rng.randrange(1, len(whole)) if rng.random() < 0.1 else None]))
    tries = (
        [lambda: ntidigits_labels(path, "train"), lambda: NTidigitsReader().read(Source(path, ("train", "man-ae-a-1")))]
        if kind == "n-tidigits"
        else [lambda: shd_contents(path), *(lambda n=n: ShdReader().read(Source(path, (n,))) for n in range(4))]
    )
    for attempt in tries:
        try:
            attempt()
        except ReadError as error:
            assert str(path) in str(error)
            refused += 1
print(refused)
"""


@pytest.mark.parametrize("kind", ["n-tidigits", "shd"])
def test_a_damaged_file_gives_events_or_an_error_with_its_name(
    ntidigits: tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]],
    shd: tuple[Path, list[tuple[np.ndarray, np.ndarray]]],
    kind: str,
):
    path = ntidigits[0] if kind == "n-tidigits" else shd[0]
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path), kind, "300", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 20
