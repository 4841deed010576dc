"""MNIST-DVS and N-TIDIGITS18 in their published layout, and their pairs."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.ids import ids_of
from datasets.writers.hdf5 import Spikes
from datasets.writers.mnistdvs_ntidigits import (
    TESTING,
    TRAINING,
    write_mnist_dvs,
    write_mnistdvs_ntidigits,
    write_ntidigits,
)
from snn_datasets.base.dataset import SPLITS, DatasetSplits
from snn_datasets.base.reader import ReadError
from snn_datasets.base.sample import collate
from snn_datasets.datasets.mnistdvs_ntidigits import MnistDvsNTidigitsSpec, spoken_digits, symbols
from snn_datasets.loading.order import EpochOrder
from snn_datasets.loading.recorded import RecordedDataset, Row

STEPS, SIZE = 3, 16
Written = tuple[dict[str, np.ndarray], dict[str, Spikes]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def written(root: Path) -> Written:
    return write_mnistdvs_ntidigits(root / "data")


def spec(root: Path, **fields: object) -> MnistDvsNTidigitsSpec:
    options = {
        "root": root / "data",
        "cache": "off",
        "time_steps": STEPS,
        "size": SIZE,
        "val_fraction": 0.3,
        "test_fraction": 0.3,
    }
    return MnistDvsNTidigitsSpec.model_validate(options | fields)


def rows(splits: DatasetSplits, split: str) -> tuple[Row, ...]:
    dataset = getattr(splits, split)
    assert isinstance(dataset, RecordedDataset)
    return dataset.rows


def names(row: Row) -> tuple[str, str]:
    """The file of the written digit and the label of the spoken one."""
    seen, audio = row.sources["visual"], row.sources["audio"]
    assert seen is not None
    assert audio is not None
    return seen.path.stem, "/".join(map(str, audio.part))


def seen_counts(events: np.ndarray, *, size: int = SIZE) -> np.ndarray:
    """Counts [T, 2, size, size] event by event."""
    frames = np.zeros((STEPS, 2, size, size), np.float32)
    for t, x, y, p in events.tolist():
        frames[t * STEPS // (events[-1, 0] + 1), p, y * size // 128, x * size // 128] += 1
    return frames


def heard_counts(spikes: Spikes) -> np.ndarray:
    """Counts [T, 64] spike by spike."""
    micros = np.rint(spikes[0] * 1e6).astype(int)
    micros -= micros[0]
    frames = np.zeros((STEPS, 64), np.float32)
    for t, channel in zip(micros, spikes[1], strict=True):
        frames[t * STEPS // (micros[-1] + 1), channel] += 1
    return frames


def test_every_pair_is_read_back_and_of_one_class(root: Path, written: Written):
    splits = spec(root).build()
    assert splits.info.shapes == {"visual": (2, SIZE, SIZE), "audio": (64,)}
    assert any("not recorded together" in note for note in splits.info.notes)
    for split in ("val", "test"):
        dataset = getattr(splits, split)
        for row, sample in zip(rows(splits, split), dataset, strict=True):
            visual, audio = names(row)
            np.testing.assert_array_equal(sample.inputs["visual"].numpy(), seen_counts(written[0][visual]))
            np.testing.assert_array_equal(sample.inputs["audio"].numpy(), heard_counts(written[1][audio]))
            assert visual.split("_")[1] == str(sample.label)
            assert audio.split("-")[-1] == ("z" if sample.label == 0 else str(sample.label))


def test_written_digits_are_shifted_in_training_alone(root: Path, written: Written):
    splits = spec(root, shift=3).build()
    still = spec(root, shift=0).build()
    moved = 0
    for index, row in enumerate(rows(splits, "train")[:40]):
        plain = torch.from_numpy(seen_counts(written[0][names(row)[0]]))
        assert torch.equal(still.train[index].inputs["visual"], plain)
        padded = torch.nn.functional.pad(plain, (3, 3, 3, 3))
        shifted = splits.train[1, index].inputs["visual"]
        crops = [padded[..., y : y + SIZE, x : x + SIZE] for y in range(7) for x in range(7)]
        assert any(torch.equal(shifted, crop) for crop in crops)
        moved += not torch.equal(shifted, plain)
    assert moved > 30


def test_no_symbol_and_no_speaker_is_in_two_splits(root: Path, written: Written):
    dealt: set[tuple[tuple[str, ...], ...]] = set()
    for seed in range(4):
        splits = spec(root, scales=(4, 8), seed=seed).build()
        of_split = [[names(row) for row in rows(splits, split)] for split in SPLITS]
        symbol_sets = [{(name.split("_")[1], name.split("_")[3]) for name, _ in pairs} for pairs in of_split]
        voices = [{label.split("/")[1].rsplit("-", 2)[0] for _, label in pairs} for pairs in of_split]
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not symbol_sets[first] & symbol_sets[second]
            assert not voices[first] & voices[second]
        assert set.union(*symbol_sets) == {(str(digit), f"{n:04d}") for digit in range(10) for n in range(1, 21)}
        assert voices[0] | voices[1] == set(TRAINING)
        assert voices[2] == set(TESTING)
        dealt.add(tuple(tuple(sorted(voice)) for voice in voices))
    assert len(dealt) > 1


def test_every_recording_is_used(root: Path, written: Written):
    splits = spec(root, scales=(4, 8)).build()
    used = [names(row) for split in SPLITS for row in rows(splits, split)]
    assert {visual for visual, _ in used} == set(written[0])
    singles = {label for label in written[1] if len(label.rsplit("-", 1)[1]) == 1 and not label.endswith("o")}
    assert {audio for _, audio in used} == singles


def test_pairs_depend_on_the_seed_and_not_on_the_other_modality(root: Path, written: Written):
    code = (
        "import sys; from pathlib import Path\n"
        "from snn_datasets.datasets.mnistdvs_ntidigits import spoken_digits, symbols\n"
        "from snn_datasets.loading.pairing import pair_by_label\n"
        "root = Path(sys.argv[1])\n"
        "pools = {'visual': symbols(root, val=0.3, test=0.3)['train']}\n"
        "pools['audio'] = spoken_digits(root, val=0.3)['train']\n"
        "print([(seen.id, heard.id) for seen, heard in pair_by_label(pools, per_class=9)])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root / "data")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pairs = [names(row) for row in rows(spec(root, train_per_class=9).build(), "train")]
    assert done.stdout.strip() == str(pairs)
    assert pairs != [names(row) for row in rows(spec(root, train_per_class=9, seed=5).build(), "train")]
    alone = rows(spec(root, train_per_class=9, modalities="audio").build(), "train")
    assert [row.sources["audio"] for row in alone] == [
        row.sources["audio"] for row in rows(spec(root, train_per_class=9).build(), "train")
    ]


def test_the_published_protocol(root: Path, written: Written):
    splits = spec(root, protocol="published", size=None, test_per_class=7, train_per_class=3, val_per_class=2).build()
    assert splits.info.shapes == {"visual": (2, 28, 28), "audio": (1, 28, 28)}
    assert [len(getattr(splits, split)) for split in SPLITS] == [30, 20, 70]
    for row, sample in zip(rows(splits, "test"), splits.test, strict=True):
        visual, audio = names(row)
        normalized = (seen_counts(written[0][visual], size=28) - 0.1307) / 0.3081
        np.testing.assert_allclose(sample.inputs["visual"].numpy(), normalized, rtol=1e-5)
        picture = heard_counts(written[1][audio]).reshape(STEPS, 8, 8)
        at = (np.arange(28) + 0.5) * 8 / 28 - 0.5
        across = np.stack([[np.interp(at, range(8), line) for line in rows_] for rows_ in picture])
        both = np.stack([np.stack([np.interp(at, range(8), line) for line in step.T]).T for step in across])
        np.testing.assert_allclose(sample.inputs["audio"][:, 0].numpy(), both, atol=1e-5)


def test_the_published_numbers_of_pairs(root: Path, written: Written):
    splits = spec(root, protocol="published").build()
    for split, each in (("train", 500), ("val", 100), ("test", 500)):
        assert Counter(row.label for row in rows(splits, split)) == dict.fromkeys(range(10), each)


def test_oh_is_left_out_or_a_zero(root: Path, written: Written):
    left_out, with_o = (
        {item.id for items in spoken_digits(root / "data", spoken_o=what, val=0.3).values() for item in items}
        for what in ("leave_out", "zero")
    )
    assert with_o - left_out == {label for label in written[1] if label.endswith("-o")}
    assert {label.rsplit("-", 1)[1] for label in left_out} == set("123456789z")


def test_one_modality_does_not_need_the_other_on_disk(tmp_path: Path):
    write_ntidigits(tmp_path / "data")
    audio = spec(tmp_path, modalities="audio").build()
    assert set(audio.train[0].inputs) == {"audio"}
    with pytest.raises(FileNotFoundError, match=r"no grabbed_data.*scale 4 under .*IMSE-CNM"):
        spec(tmp_path).build()
    (tmp_path / "data" / "n-tidigits.hdf5").unlink()
    write_mnist_dvs(tmp_path / "data", scales=(4,))
    assert set(spec(tmp_path, modalities="visual").build().train[0].inputs) == {"visual"}
    with pytest.raises(FileNotFoundError, match=r"no n-tidigits\.hdf5 under .*Zurich"):
        spec(tmp_path).build()
    with pytest.raises(FileNotFoundError, match="scale 16"):
        spec(tmp_path, scales=(4, 16)).build()


def test_batches_have_time_first(root: Path, written: Written):
    train = spec(root).build().train
    loader = DataLoader(train, batch_size=7, sampler=EpochOrder(len(train), seed=2), collate_fn=collate)
    ids: list[str] = []
    for batch in loader:
        count = len(batch["ids"])
        assert batch["inputs"]["visual"].shape == (STEPS, count, 2, SIZE, SIZE)
        assert batch["inputs"]["audio"].shape == (STEPS, count, 64)
        assert batch["labels"].tolist() == [int(id_.split("-")[1]) for id_ in batch["ids"]]
        ids += batch["ids"]
    assert sorted(ids) == sorted(ids_of(train))
    assert ids != list(ids_of(train))


def test_a_symbol_stays_in_its_split_when_others_are_added(root: Path, written: Written):
    few = symbols(root / "data", scales=(4,), val=0.3, test=0.3)
    more = symbols(root / "data", scales=(8, 4), val=0.3, test=0.3)
    for split in SPLITS:
        assert {item.id for item in few[split]} <= {item.id for item in more[split]}


def test_a_class_without_recordings_in_a_split_is_refused(root: Path, written: Written):
    with pytest.raises(ValueError, match="'visual' has no recording of class"):
        spec(root, val_fraction=0.02).build()


def labels_of(file: h5py.File, name: str) -> list[bytes]:
    labels = file[name]
    assert isinstance(labels, h5py.Dataset)
    return labels[()].tolist()


def test_other_labels_than_documented_are_refused(tmp_path: Path):
    write_ntidigits(tmp_path)
    with h5py.File(tmp_path / "n-tidigits.hdf5", "r+") as file:
        labels = [*labels_of(file, "train_labels"), b"man-ae-1"]
        del file["train_labels"]
        file["train_labels"] = labels
    with pytest.raises(ReadError, match="'man-ae-1' is not gender-speaker-take-digits"):
        spoken_digits(tmp_path, val=0.3)


def test_a_speaker_in_both_parts_is_refused(tmp_path: Path):
    write_ntidigits(tmp_path)
    with h5py.File(tmp_path / "n-tidigits.hdf5", "r+") as file:
        labels = [*labels_of(file, "test_labels"), b"woman-ac-a-3"]
        del file["test_labels"]
        file["test_labels"] = labels
    with pytest.raises(ValueError, match="speaker woman-ac is in training and in test"):
        spoken_digits(tmp_path, val=0.3)
