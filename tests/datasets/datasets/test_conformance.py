"""Conformance of every registered dataset, tested on a small copy in its real layout."""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.utils.data import DataLoader

from datasets.writers.catalog import CATALOG, Entry
from datasets.writers.made_up import MadeUpSpec
from snn_datasets import (
    DATASETS,
    AnyDataSpec,
    Batch,
    DatasetSplits,
    DataSpec,
    EpochOrder,
    FileDataSpec,
    FileSet,
    Reader,
    RecordedDataset,
    Sample,
    SampleDataset,
    Source,
    collate,
)
from snn_datasets.base.card_text import card_text
from snn_datasets.base.dataset import SPLITS
from snn_datasets.check import Finding, check
from snn_datasets.loading.packaged import PublishedFile

ON_DISK = [kind for kind, entry in CATALOG.items() if entry.is_on_disk]
PER_SPLIT = 4
"""Number of samples per split to compare; digits has a thousand."""


@dataclass(frozen=True)
class Copy:
    """A small copy of a dataset, opened."""

    entry: Entry
    root: Path
    cache: Path
    spec: DataSpec
    splits: DatasetSplits

    def again(self, **more: Any) -> DatasetSplits:
        """Open it once more."""
        return self.entry.spec(self.root, **{"cache_folder": self.cache, **more}).build()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Entry], Path]:
    """The root of the copy of each, written when it is first asked for; it stays as it is."""

    @cache
    def write(kind: str) -> Path:
        root = tmp_path_factory.mktemp(kind) / "root"
        root.mkdir()
        CATALOG[kind].write(root)
        return root

    return lambda entry: write(entry.kind)


@pytest.fixture(scope="module", params=list(CATALOG))
def copy(request: pytest.FixtureRequest, written: Callable[[Entry], Path]) -> Copy:
    entry = CATALOG[request.param]
    root = written(entry)
    spec = entry.spec(root, cache_folder=root.parent / "cache")
    return Copy(entry, root, root.parent / "cache", spec, spec.build())


@pytest.fixture(autouse=True)
def _made_up_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._models, "made-up", MadeUpSpec)


def datasets(splits: DatasetSplits) -> Iterator[SampleDataset]:
    return (getattr(splits, split) for split in SPLITS)


def some(dataset: SampleDataset) -> range:
    """Indices of a few samples, spread over all."""
    return range(0, len(dataset), len(dataset) // PER_SPLIT + 1)


def assert_same(first: Sample, second: Sample) -> None:
    assert (first.id, first.label, first.absent, first.timed) == (second.id, second.label, second.absent, second.timed)
    assert list(first.inputs) == list(second.inputs)
    for name, value in first.inputs.items():
        assert torch.equal(value, second.inputs[name]), (first.id, name)


def assert_same_splits(first: DatasetSplits, second: DatasetSplits) -> None:
    """The same samples, in the first epoch and in a later one."""
    assert first.info == second.info
    for one, other in zip(datasets(first), datasets(second), strict=True):
        assert len(one) == len(other)
        for index in some(one):
            assert_same(one[index], other[index])
            assert_same(one[3, index], other[3, index])


def test_every_registered_dataset_is_in_the_catalog():
    assert set(DATASETS) - set(CATALOG) == set()


def test_the_card_agrees_with_what_is_built(copy: Copy):
    card, info = copy.spec.card, copy.splits.info
    assert card.kind == copy.entry.kind
    assert card.title in " ".join(card_text(card).split())
    if card.classes:
        assert info.classes == card.classes
    for name in info.modalities if card.modalities else ():
        stated, built = card.modalities[name], info.modalities[name]
        assert (stated.kind, stated.synthetic) == (built.kind, built.synthetic)
        axes = re.findall(r"[^\[\], ]+", stated.shape.partition("]")[0])
        assert (axes[0] == "T") == (built.time_steps is not None), "a card begins timed shapes with T"
        assert len(axes) == len(built.shape) + (built.time_steps is not None)
    if not copy.spec.modalities and card.modalities:
        assert list(info.modalities) == list(card.modalities)


def test_ids_are_unique_and_every_split_has_samples_of_known_classes(copy: Copy):
    ids = [sample.id for dataset in datasets(copy.splits) for sample in dataset]
    labels = [sample.label for dataset in datasets(copy.splits) for sample in dataset]
    assert len(set(ids)) == len(ids)
    assert all(len(dataset) > 0 for dataset in datasets(copy.splits))
    assert set(labels) <= set(range(len(copy.splits.info.classes)))
    assert len({sample.label for sample in copy.splits.train}) > 1


def test_samples_match_the_description(copy: Copy):
    info = copy.splits.info
    for dataset in datasets(copy.splits):
        for sample in (dataset[index] for index in some(dataset)):
            assert list(sample.inputs) == list(info.modalities)
            assert sample.timed == {name for name, m in info.modalities.items() if m.time_steps is not None}
            assert sample.absent <= set(info.modalities)
            for name, modality in info.modalities.items():
                steps = () if modality.time_steps is None else (modality.time_steps,)
                value = sample.inputs[name]
                assert value.shape == (*steps, *modality.shape)
                assert value.dtype == torch.float32
                assert value.isfinite().all()
                assert (name in sample.absent) <= (value.count_nonzero() == 0)


def test_recordings_are_not_blank_and_differ(copy: Copy):
    train = copy.splits.train
    for name in copy.splits.info.modalities:
        values = [train[index].inputs[name] for index in some(train) if name not in train[index].absent]
        assert any(value.count_nonzero() > 0 for value in values), name
        assert any(not torch.equal(value, values[0]) for value in values), name


def test_a_second_build_is_the_same_and_reads_the_cache(copy: Copy, monkeypatch: pytest.MonkeyPatch):
    read: list[Source] = []
    for reader in readers(copy.splits):
        monkeypatch.setattr(type(reader), "read", watched(type(reader).read, read))
    assert_same_splits(copy.splits, copy.again())
    # The first recording may be read to infer the shape of all.
    assert len(read) <= len(copy.splits.info.modalities)


def readers(splits: DatasetSplits) -> list[Reader]:
    train = splits.train
    return [modality.reader for modality in train.modalities.values()] if isinstance(train, RecordedDataset) else []


def watched(read: Callable[[Any, Source], Any], sources: list[Source]) -> Callable[[Any, Source], Any]:
    def watched_read(reader: Any, source: Source) -> Any:
        sources.append(source)
        return read(reader, source)

    return watched_read


def test_without_a_cache_samples_are_the_same(copy: Copy):
    before = sorted(copy.cache.rglob("*"))
    assert_same_splits(copy.splits, copy.again(cache="off"))
    assert sorted(copy.cache.rglob("*")) == before


def test_a_dataset_survives_pickling(copy: Copy):
    for dataset in datasets(copy.splits):
        other = pickle.loads(pickle.dumps(dataset))
        for index in some(dataset):
            assert_same(dataset[2, index], other[2, index])


def test_pickling_drops_what_a_dataset_has_read(copy: Copy):
    fresh = copy.again()
    unused = len(pickle.dumps(fresh.train))
    for index in some(fresh.train):
        fresh.train[index]
    assert len(pickle.dumps(fresh.train)) == unused


def test_the_specification_survives_json(copy: Copy):
    assert TypeAdapter(AnyDataSpec).validate_json(copy.spec.model_dump_json()) == copy.spec


def batches(dataset: SampleDataset, *, workers: int, context: str | None = None) -> list[Batch]:
    """The first ones of the second epoch."""
    order = EpochOrder(len(dataset), seed=1, epoch=1)
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=3, sampler=order, collate_fn=collate, num_workers=workers, multiprocessing_context=context
    )
    return [batch for batch, _ in zip(loader, range(4), strict=False)]


def assert_same_batches(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one["ids"] == other["ids"]
        assert torch.equal(one["labels"], other["labels"])
        for name in one["inputs"]:
            assert torch.equal(one["inputs"][name], other["inputs"][name])
            assert torch.equal(one["present"][name], other["present"][name])


def test_worker_processes_give_the_same_batches(copy: Copy):
    alone = batches(copy.splits.train, workers=0)
    assert_same_batches(alone, batches(copy.splits.train, workers=2, context="fork"))


def digest_of(dataset: SampleDataset) -> str:
    digest = hashlib.sha256()
    for index in some(dataset):
        sample = dataset[1, index]
        digest.update(f"{sample.id} {sample.label}".encode())
        for value in sample.inputs.values():
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow  # each process imports torch first
def test_processes_that_start_afresh_give_the_same_batches(copy: Copy):
    alone = batches(copy.splits.train, workers=0)
    assert_same_batches(alone, batches(copy.splits.train, workers=2, context="spawn"))


@pytest.mark.slow
def test_another_process_reads_the_same_samples(copy: Copy):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from datasets.writers.catalog import CATALOG
from datasets.datasets.test_conformance import digest_of
spec = CATALOG[{copy.entry.kind!r}].spec(Path({str(copy.root)!r}), cache="off")
print(digest_of(spec.build().train))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest_of(copy.splits.train)


# What `check` finds in each of them


@pytest.fixture(params=ON_DISK)
def fresh(
    request: pytest.FixtureRequest,
    written: Callable[[Entry], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> FileDataSpec:
    """A copy to be damaged. Whatever tables of hashes the dataset has are those of the copy."""
    entry = CATALOG[request.param]
    root = shutil.copytree(written(entry), tmp_path / "root")
    table = {
        path.relative_to(root).as_posix(): PublishedFile(path.stat().st_size, sha256(path))
        for path in root.rglob("*")
        if path.is_file()
    }
    monkeypatch.setattr("snn_datasets.check.published_table", lambda name: table)
    spec = entry.spec(root)
    assert isinstance(spec, FileDataSpec)
    return spec


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def errors(spec: FileDataSpec, **options: Any) -> list[Finding]:
    return [finding for finding in check(spec, **options) if finding.severity == "error"]


def recordings(spec: FileDataSpec) -> list[Path]:
    """The files that hold the recordings: one of each modality."""
    train = spec.model_copy(update={"cache": "off"}).build().train
    assert isinstance(train, RecordedDataset)
    paths: dict[str, Path] = {}
    for row in train.rows:
        for name, source in row.sources.items():
            if source is not None:
                paths.setdefault(name, source.path)
    return list(paths.values())


def required(spec: FileDataSpec) -> list[FileSet]:
    return [files for files in spec.card.files if files.required and next(spec.root.glob(files.pattern), None)]


def test_check_finds_no_error_in_a_good_copy(fresh: FileDataSpec):
    assert errors(fresh, read="all") == []


def cut_off(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 - 1])


def make_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")


@pytest.mark.parametrize("damage", [cut_off, make_pointer])
def test_check_finds_a_damaged_recording(
    fresh: FileDataSpec, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("snn_datasets.check.SAMPLE_SIZE", 2)  # the first and the last
    for path in recordings(fresh):
        whole = path.read_bytes()
        damage(path)
        findings = errors(fresh)
        assert findings, f"{path} was not noticed"
        assert all(str(path) in str(finding) for finding in findings)
        path.write_bytes(whole)


def test_check_reports_missing_files(fresh: FileDataSpec, tmp_path: Path):
    for number, files in enumerate(required(fresh)):
        shutil.copytree(fresh.root, tmp_path / f"whole{number}")
        for path in list(fresh.root.glob(files.pattern)):
            path.unlink()
        findings = errors(fresh, read="none")
        assert [files.pattern in finding.problem for finding in findings] == [True]
        assert findings[0].advice
        shutil.rmtree(fresh.root)
        (tmp_path / f"whole{number}").rename(fresh.root)


def test_check_verifies_published_checksums(fresh: FileDataSpec):
    assert [finding.path for finding in errors(fresh, hashes=True, read="none")] == stated_files(fresh)
    for files in fresh.card.files:
        path = min(fresh.root.glob(files.pattern), default=None)
        if files.checksums is None or path is None:
            continue
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert [finding.path for finding in errors(fresh, hashes=True, read="none")] == [path]
        path.write_bytes(data[:-1])
        assert [finding.path for finding in errors(fresh, read="none")] == [path]
        path.write_bytes(data)


def stated_files(spec: FileDataSpec) -> list[Path]:
    """Files whose hash is in the card itself, which small copies of them cannot have."""
    names = [name for files in spec.card.files for name in (*files.sha256, *files.md5)]
    return [path for path in sorted(spec.root / name for name in names) if path.is_file()]
