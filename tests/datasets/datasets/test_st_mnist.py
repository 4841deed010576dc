"""ST-MNIST in its published layout."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from datasets.ids import ids_of
from datasets.writers.st_mnist import write_st_mnist
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import ReadError
from snn_datasets.base.sample import collate
from snn_datasets.datasets.st_mnist import StMnistSpec
from snn_datasets.loading.order import EpochOrder


def opened(root: Path, **fields: object) -> tuple[DatasetSplits, StMnistSpec]:
    spec = StMnistSpec.model_validate({"root": root, "cache_folder": root.parent / "cache", "time_steps": 5} | fields)
    return spec.build(), spec


def frames(trains: np.ndarray, steps: int) -> np.ndarray:
    """Counts [T, 2, 10, 10] by hand."""
    counts = np.zeros((steps, 2, 10, 10), np.float32)
    micros = np.rint(trains[100] * 1e6).astype(int)
    length = micros.max() + 1
    for taxel in range(100):
        for column in range(trains.shape[1]):
            if trains[taxel, column]:
                step = micros[column] * steps // length
                counts[step, int(trains[taxel, column] > 0), taxel // 10, taxel % 10] += 1
    return counts


def ids(splits: DatasetSplits) -> Mapping[str, set[str]]:
    return {name: set(getattr(splits, name).ids) for name in ("train", "val", "test")}


def test_every_recording_is_read_back_once(tmp_path: Path):
    written = write_st_mnist(tmp_path / "st")
    splits, _ = opened(tmp_path / "st")
    seen: list[str] = []
    for dataset in (splits.train, splits.val, splits.test):
        for sample in dataset:
            np.testing.assert_array_equal(sample.inputs["touch"].numpy(), frames(written[sample.id], 5))
            assert sample.label == int(sample.id[0])
            seen.append(sample.id)
    assert sorted(seen) == sorted(written)
    assert splits.info.shapes == {"touch": (2, 10, 10)}
    assert any("writer" in note for note in splits.info.notes)


def test_the_seed_alone_decides_who_is_in_which_split(tmp_path: Path):
    write_st_mnist(tmp_path / "st")
    first, again, other = (ids(opened(tmp_path / "st", seed=seed)[0]) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert not first["train"] & first["test"] | first["train"] & first["val"] | first["val"] & first["test"]
    added = tmp_path / "st" / "3" / "new.mat"
    added.write_bytes((tmp_path / "st" / "3" / "3_0000.mat").read_bytes())
    more = ids(opened(tmp_path / "st")[0])
    assert all(first[split] <= more[split] for split in first)


def test_no_named_writer_is_in_two_splits(tmp_path: Path):
    written = write_st_mnist(tmp_path / "st")
    writer_of = {id_: f"w{number % 9}" for number, id_ in enumerate(written)}
    lines = ["name,group", *(f"{id_}.mat,{writer}" for id_, writer in writer_of.items())]
    (tmp_path / "st" / "writers.csv").write_text("\n".join(lines), encoding="utf-8")
    splits, _ = opened(tmp_path / "st", groups="writers.csv", val_fraction=0.3, test_fraction=0.3)
    writers = {split: {writer_of[id_] for id_ in of_split} for split, of_split in ids(splits).items()}
    assert set.union(*writers.values()) == set(writer_of.values())
    assert sum(map(len, writers.values())) == 9
    assert splits.info.notes == ()
    (tmp_path / "st" / "writers.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no group for 9/9_0003\.mat"):
        opened(tmp_path / "st", groups="writers.csv")


def test_batches_have_time_first(tmp_path: Path):
    write_st_mnist(tmp_path / "st")
    splits, spec = opened(tmp_path / "st")
    order = EpochOrder(len(splits.train), seed=spec.seed, epoch=1)
    batch = next(iter(DataLoader(splits.train, batch_size=7, sampler=order, collate_fn=collate)))
    assert batch["inputs"]["touch"].shape == (5, 7, 2, 10, 10)
    assert batch["labels"].tolist() == [int(id_[0]) for id_ in batch["ids"]]
    assert batch["present"]["touch"].all()


def test_a_missing_folder_says_what_to_fetch_and_its_layout(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        opened(tmp_path / "nowhere")
    assert "NUS ScholarBank" in str(caught.value)
    assert "[0-9]/*.mat" in str(caught.value)


def test_a_damaged_file_stops_or_is_left_out(tmp_path: Path):
    write_st_mnist(tmp_path / "st")
    (tmp_path / "st" / "4" / "4_0001.mat").write_bytes(b"not a mat file")
    with pytest.raises(ReadError, match=r"sample '4/4_0001'"):
        opened(tmp_path / "st")
    splits, _ = opened(tmp_path / "st", on_error="missing")
    ids = [id_ for dataset in (splits.train, splits.val, splits.test) for id_ in ids_of(dataset)]
    assert "4/4_0001" not in ids
    assert f"1 of {len(ids) + 1} samples have no touch and are skipped" in splits.info.notes


def test_a_split_that_stays_empty_is_refused(tmp_path: Path):
    write_st_mnist(tmp_path / "st", digits="12", per_digit=1)
    with pytest.raises(ValueError, match="has no samples"):
        opened(tmp_path / "st")


def test_the_specification_is_read_without_torch():
    modules = ("st_mnist", "mnistdvs_ntidigits_stmnist", "hand_gestures", "gas")
    heavy = {"torch", "torchaudio", "torchvision", "av", "h5py", "scipy", "soundfile", "PIL"}
    imports = "".join(f"import snn_datasets.datasets.{module}\n" for module in modules)
    code = f"import sys\n{imports}print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
