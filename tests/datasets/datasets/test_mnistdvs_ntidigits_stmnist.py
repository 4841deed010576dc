"""Digits in vision, audio and touch in their published layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from datasets.writers.st_mnist import write_mnistdvs_ntidigits_stmnist
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import Source
from snn_datasets.base.sample import collate
from snn_datasets.datasets.mnistdvs_ntidigits_stmnist import MnistDvsNTidigitsStMnistSpec
from snn_datasets.formats.mat5 import StMnistReader
from snn_datasets.loading.order import EpochOrder
from snn_datasets.loading.recorded import RecordedDataset, Row

MODALITIES = ("visual", "audio", "touch")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_mnistdvs_ntidigits_stmnist(folder)
    return folder


def opened(root: Path, **fields: object) -> DatasetSplits:
    known = {"root": root, "cache": "off", "time_steps": 3, "size": 16, "val_fraction": 0.25, "test_fraction": 0.25}
    return MnistDvsNTidigitsStMnistSpec.model_validate(known | fields).build()


def rows(splits: DatasetSplits) -> dict[str, tuple[Row, ...]]:
    rows_of = {}
    for name in ("train", "val", "test"):
        dataset = getattr(splits, name)
        assert isinstance(dataset, RecordedDataset)
        rows_of[name] = dataset.rows
    return rows_of


def sources(of_split: tuple[Row, ...], modality: str) -> set[Source]:
    rows_of = {row.sources[modality] for row in of_split}
    return {source for source in rows_of if source is not None}


def digit(modality: str, source: Source) -> int:
    """The digit that a file or key says."""
    if modality == "visual":
        return int(source.path.name.split("_")[1])
    if modality == "touch":
        return int(source.path.parent.name)
    digit_name = str(source.part[1])[-1]
    return 0 if digit_name == "z" else int(digit_name)


def test_all_modalities_of_a_sample_are_the_same_digit(root: Path):
    for of_split in rows(opened(root)).values():
        assert {row.label for row in of_split} == set(range(10))
        for row in of_split:
            for modality in MODALITIES:
                source = row.sources[modality]
                assert source is not None
                assert digit(modality, source) == row.label


def test_no_source_of_any_modality_is_in_two_splits(root: Path):
    rows_of = rows(opened(root))

    def groups(modality: str, split: str) -> set[object]:
        of_split = sources(rows_of[split], modality)
        if modality == "audio":
            return {str(source.part[1]).rsplit("-", 2)[0] for source in of_split}
        return {source.path for source in of_split}

    for modality in MODALITIES:
        train, val, test = (groups(modality, split) for split in ("train", "val", "test"))
        assert train
        assert val
        assert test
        assert not train & val | train & test | val & test


def test_the_largest_modality_is_used_once_unless_a_number_is_given(root: Path):
    train = rows(opened(root))["train"]
    for label in range(10):
        of_class = tuple(row for row in train if row.label == label)
        assert len(of_class) == max(len(sources(of_class, modality)) for modality in MODALITIES)
    assert len(rows(opened(root, test_per_class=2))["test"]) == 20


def test_touches_are_read_back(root: Path):
    splits = opened(root, modalities="touch")
    for index in range(0, len(splits.test), 5):
        sample = splits.test[index]
        source = rows(splits)["test"][index].sources["touch"]
        assert source is not None
        assert sample.inputs["touch"].sum() == len(StMnistReader().read(source)) > 0


def test_batches_have_time_first_for_every_modality(root: Path, tmp_path: Path):
    splits = opened(root, cache="auto", cache_folder=tmp_path)
    order = EpochOrder(len(splits.train), epoch=1)
    batch = next(iter(DataLoader(splits.train, batch_size=4, sampler=order, collate_fn=collate)))
    assert {name: tuple(value.shape) for name, value in batch["inputs"].items()} == {
        "visual": (3, 4, 2, 16, 16),
        "audio": (3, 4, 64),
        "touch": (3, 4, 2, 10, 10),
    }
    assert all(present.all() for present in batch["present"].values())


def test_writers_of_touches_may_be_named(root: Path, tmp_path: Path):
    assert any("writer" in note for note in opened(root).info.notes)
    files = sorted((root / "ST-MNIST").glob("[0-9]/*.mat"))
    writer_of = {path.relative_to(root / "ST-MNIST").as_posix(): path.stem[-1] for path in files}
    table = tmp_path / "writers.csv"
    table.write_text("name,group\n" + "".join(f"{name},{writer}\n" for name, writer in writer_of.items()))
    splits = opened(root, touch_groups=table)
    assert not any("writer" in note for note in splits.info.notes)
    writers = [
        {writer_of[source.path.relative_to(root / "ST-MNIST").as_posix()] for source in sources(of_split, "touch")}
        for of_split in rows(splits).values()
    ]
    assert sum(map(len, writers)) == len(set.union(*writers))


def test_a_missing_folder_says_what_to_fetch(tmp_path: Path):
    for modality, digit_name in (("visual", "MNIST-DVS"), ("audio", "N-TIDIGITS18"), ("touch", "NUS ScholarBank")):
        with pytest.raises(FileNotFoundError, match=digit_name):
            opened(tmp_path, modalities=modality)
