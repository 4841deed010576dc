"""The Spiking Heidelberg Digits in their published layout."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.ids import ids_of
from datasets.writers.hdf5 import Spikes, write_shd_file
from datasets.writers.shd import KEYS, write_shd
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import ReadError
from snn_datasets.base.sample import collate
from snn_datasets.datasets.shd import CLASSES, ShdSpec
from snn_datasets.loading.order import EpochOrder

STEPS, SECONDS = 6, 0.9


def opened(root: Path, **fields: object) -> DatasetSplits:
    options = {
        "root": root,
        "cache_folder": root.parent / "cache",
        "time_steps": STEPS,
        "seconds": SECONDS,
        "val_fraction": 0.3,
    }
    return ShdSpec.model_validate(options | fields).build()


def counts(spikes: Spikes, *, units: int = 700) -> np.ndarray:
    """Counts [T, units] spike by spike; what is later than SECONDS is left out."""
    frames = np.zeros((STEPS, units), np.float32)
    for second, unit in zip(*spikes, strict=True):
        micros = round(float(second) * 1e6)
        if micros < SECONDS * 1e6:
            frames[micros * STEPS // round(SECONDS * 1e6), int(unit) * units // 700] += 1
    return frames


def speakers(splits: DatasetSplits) -> dict[str, set[str]]:
    return {name: {id_.split("/")[1] for id_ in getattr(splits, name).ids} for name in ("train", "val", "test")}


@pytest.mark.parametrize("units", [700, 140, 99])
def test_every_utterance_is_read_back_once(tmp_path: Path, units: int):
    written = write_shd(tmp_path)
    splits = opened(tmp_path, units=units)
    seen: Counter[str] = Counter()
    for dataset in (splits.train, splits.val, splits.test):
        for sample in dataset:
            part, _, number = sample.id.split("/")
            np.testing.assert_array_equal(
                sample.inputs["audio"].numpy(), counts(written[part][int(number)], units=units), err_msg=sample.id
            )
            seen[f"{part}{int(number)}"] += 1
    assert seen == {f"{part}{n}": 1 for part, utterances in written.items() for n in range(len(utterances))}
    assert splits.info.shapes == {"audio": (units,)}
    assert splits.info.modalities["audio"].time_steps == STEPS


def test_labels_are_those_of_the_file(tmp_path: Path):
    spikes = (np.array([0.1]), np.array([5]))
    for part in ("train", "test"):
        path = tmp_path / f"shd_{part}.h5"
        write_shd_file(path, [spikes] * 6, labels=[3, 19] * 3, speakers=[0, 0, 1, 1, 2, 2], keys=KEYS)
    splits = opened(tmp_path)
    for dataset in (splits.train, splits.val, splits.test):
        assert {sample.label for sample in dataset} == {3, 19}
        assert all(sample.label == (3, 19)[int(sample.id[-4:]) % 2] for sample in dataset)
    assert CLASSES == KEYS


def test_validation_shares_no_speaker_with_training_and_test_is_as_published(tmp_path: Path):
    write_shd(tmp_path)
    for seed in range(4):
        splits = opened(tmp_path, seed=seed)
        who = speakers(splits)
        assert not who["train"] & who["val"]
        assert len(who["train"] | who["val"]) == 6
        assert who["val"]
        assert len(splits.test) == 40
        assert any("not disjoint by speaker" in note for note in splits.info.notes)


def test_the_seed_alone_decides_who_validates(tmp_path: Path):
    write_shd(tmp_path)
    assert ids_of(opened(tmp_path, seed=1).val) == ids_of(opened(tmp_path, seed=1, cache="off").val)
    assert len({frozenset(speakers(opened(tmp_path, seed=seed, cache="off"))["val"]) for seed in range(6)}) > 1


def test_batches_have_time_first(tmp_path: Path):
    written = write_shd(tmp_path)
    train = opened(tmp_path).train
    loader = DataLoader(train, batch_size=4, sampler=EpochOrder(len(train), seed=2), collate_fn=collate)
    ids: list[str] = []
    for batch in loader:
        values = batch["inputs"]["audio"]
        assert values.shape == (STEPS, len(batch["ids"]), 700)
        assert values.dtype == torch.float32
        part, _, number = batch["ids"][0].split("/")
        np.testing.assert_array_equal(values[:, 0].numpy(), counts(written[part][int(number)]))
        ids += batch["ids"]
    assert ids != list(ids_of(train))
    assert sorted(ids) == sorted(ids_of(train))


def test_missing_files_are_named_with_their_layout(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"(?s)no shd_train\.h5 under .*Zenke lab.*\n.*shd_test\.h5"):
        opened(tmp_path)
    write_shd(tmp_path)
    (tmp_path / "shd_test.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"no shd_test\.h5"):
        opened(tmp_path)


def test_a_file_with_other_classes_is_refused(tmp_path: Path):
    write_shd(tmp_path)
    spikes = (np.array([0.1]), np.array([5]))
    write_shd_file(tmp_path / "shd_test.h5", [spikes], labels=[0], speakers=[0], keys=KEYS[:10])
    with pytest.raises(ReadError, match="has 10 classes rather than 20"):
        opened(tmp_path)
