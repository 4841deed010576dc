import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, cast

import pytest
import torch
from torch.utils.data import DataLoader

from datasets.noisy_numbers import AsSteps, Jitter, NumbersReader, Times
from snn_datasets import (
    Batch,
    DatasetCard,
    DatasetSplits,
    EpochOrder,
    FileDataSpec,
    Modality,
    ModalityCard,
    ModalityInfo,
    ReadError,
    ReportProgress,
    Row,
    Source,
    build_splits,
    collate,
)  # fmt: skip
from snn_datasets.base.dataset import Split
from snn_datasets.cache.folder import entries, prune
from snn_datasets.cache.store import write_store

CARD = DatasetCard(
    kind="numbers", title="Numbers", version="1", license="CC0-1.0", citation="", sources=("here",), classes=("a", "b"),
    modalities={name: ModalityCard(kind="series", shape="[3, 1]", unit="1") for name in ("left", "right")},
    splits="by name",
)  # fmt: skip


class NumbersSpec(FileDataSpec):
    kind: Literal["numbers"] = "numbers"
    factor: float = 1.0
    width: float = 0.0

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        for path in sorted((self.root / "left").glob("*.txt")):
            split, number = path.stem.split("-")
            right = self.root / "right" / path.name
            sources = {"left": Source(path), "right": Source(right) if int(number) % 5 else None}
            chosen = {name: sources[name] for name in self.selected_modalities()}
            rows[cast("Split", split)].append(Row(path.stem, int(number) % 2, chosen))
        prepare = (Times(factor=self.factor), *((Jitter(width=self.width),) if self.width else ()))
        modality = Modality(
            NumbersReader(), ModalityInfo("series", (1,), 3), prepare, (Jitter(width=1.0),), (AsSteps(),)
        )
        modalities = dict.fromkeys(self.selected_modalities(), modality)
        return build_splits(self, classes=("a", "b"), rows=rows, modalities=modalities, progress=progress)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for split, count in (("train", 11), ("val", 3), ("test", 4)):
            for number in range(count):
                sign = 1 if side == "left" else -1
                (tmp_path / side / f"{split}-{number}.txt").write_text(f"{sign * number} {split == 'test':d} 7")
    return tmp_path


def spec(root: Path, **fields: object) -> NumbersSpec:
    return NumbersSpec.model_validate({"root": root, "cache_folder": root / "cache", **fields})


def batches(splits: DatasetSplits, *, epoch: int = 0, workers: int = 0, context: str | None = None) -> Iterator[Batch]:
    yield from DataLoader(
        splits.train,
        batch_size=4,
        sampler=EpochOrder(len(splits.train), seed=1, epoch=epoch),
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=context,
    )


def total(splits: DatasetSplits) -> float:
    return sum(float(x.double().sum()) for batch in batches(splits) for x in batch["inputs"].values())


def equal(a: Batch, b: Batch) -> bool:
    return a["ids"] == b["ids"] and all(
        torch.equal(a[part][name], b[part][name]) for part in ("inputs", "present") for name in a["inputs"]
    )


def test_batches_are_time_first_and_state_which_modalities_are_present(root: Path):
    batch = next(iter(batches(spec(root).build())))
    assert batch["inputs"]["left"].shape == (3, 4, 1)
    absent = [int(id_.split("-")[1]) % 5 == 0 for id_ in batch["ids"]]
    assert batch["present"]["right"].tolist() == [not a for a in absent]
    assert batch["present"]["left"].all()
    assert not batch["inputs"]["right"][:, torch.tensor(absent)].any()


def test_test_samples_are_not_augmented_and_training_samples_are_in_each_epoch(root: Path):
    splits = spec(root).build()
    assert splits.test[2].inputs["left"].flatten().tolist() == [2, 1, 7]
    first, second = splits.train[(0, 3)], splits.train[(1, 3)]
    assert not torch.equal(first.inputs["left"], second.inputs["left"])
    assert torch.equal(first.inputs["left"], splits.train[3].inputs["left"])


@pytest.mark.parametrize("cache", ["auto", "hash", "off"])
def test_values_are_the_same_with_and_without_cache(root: Path, cache: str):
    ours, plain = spec(root, cache=cache, width=0.5).build(), spec(root, cache="off", width=0.5).build()
    assert all(equal(a, b) for a, b in zip(batches(ours, epoch=2), batches(plain, epoch=2), strict=True))


@pytest.mark.parametrize(("workers", "context"), [(2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)])
def test_batches_are_identical_for_any_number_of_workers(root: Path, workers: int, context: str):
    splits = spec(root).build()
    many = list(batches(splits, epoch=1, workers=workers, context=context))
    assert len(many) == 3
    assert all(equal(a, b) for a, b in zip(batches(splits, epoch=1), many, strict=True))


@pytest.mark.slow
def test_batches_are_identical_in_another_process(root: Path):
    code = (
        "import sys; from pathlib import Path; from datasets.loading.test_recorded import spec, total\n"
        "print(total(spec(Path(sys.argv[1])).build()))"
    )
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], cwd=tests, capture_output=True, text=True, check=True
    )
    here = sum(float(x.double().sum()) for b in batches(spec(root).build()) for x in b["inputs"].values())
    assert float(done.stdout) == here


def stores(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "cache" / "numbers").iterdir() if path.is_dir())


def test_a_second_build_reads_no_file_again(root: Path):
    progress: list[tuple[int, int]] = []
    first = spec(root).build(lambda done, total: progress.append((done, total)))
    assert progress[-1] == (36, 36)
    assert len(progress) == 37  # each sample once, and the end
    before = stores(root)
    again = spec(root).build(lambda done, total: progress.append((done, total)))
    assert progress[37:] == [(36, 36)]
    assert stores(root) == before
    assert equal(next(iter(batches(first))), next(iter(batches(again))))


def test_a_changed_file_parameter_or_seed_of_a_drawing_stage_makes_a_new_cache(root: Path):
    spec(root, width=0.5).build()
    (root / "left" / "train-1.txt").write_text("100 100 100")
    changed = spec(root, width=0.5).build()
    assert changed.train[1].inputs["left"].mean() > 50
    for fields in ({"factor": 2.0, "width": 0.5}, {"width": 0.25}, {"width": 0.5, "seed": 1}):
        count = len(stores(root))
        spec(root, **fields).build()
        assert len(stores(root)) == count + 2, fields


def test_the_seed_alone_makes_no_new_cache_where_nothing_is_drawn(root: Path):
    spec(root).build()
    before = stores(root)
    spec(root, seed=5).build()
    assert stores(root) == before


def test_a_file_changed_with_the_same_size_and_time_is_detected_by_hash(root: Path):
    file = root / "left" / "train-1.txt"
    spec(root, cache="hash").build()
    status = file.stat()
    file.write_text("9 0 7")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = spec(root, cache="hash").build()
    assert (changed.train[1].inputs["left"][0] - 9).abs() < 5


def test_a_missing_file_is_an_error_or_absent(root: Path):
    (root / "right" / "train-3.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"sample 'train-3', right '.*train-3.txt'.*no file.*on_error"):
        spec(root).build()
    splits = spec(root, on_error="missing").build()
    sample = next(s for s in splits.train if s.id == "train-3")
    assert sample.absent == {"right"}
    assert not sample.inputs["right"].any()


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), ("version https://git-lfs.github.com/spec/v1", "Git-LFS"), ("<!DOCTYPE html><html>", "web page"),
     ("1 x 3", "not a number")],
)  # fmt: skip
@pytest.mark.parametrize("cache", ["auto", "off"])
def test_an_unreadable_file_is_an_error_or_absent(root: Path, content: str, words: str, cache: str):
    (root / "left" / "val-1.txt").write_text(content)
    with pytest.raises(ReadError, match=rf"sample 'val-1', left '.*val-1.txt'.*{words}"):
        spec(root, cache=cache).build().val[1]
    assert spec(root, cache=cache, on_error="missing").build().val[1].absent == {"left"}


def test_errors_while_a_cache_is_filled_leave_nothing_behind(root: Path):
    (root / "left" / "val-1.txt").write_text("x")
    with pytest.raises(ReadError):
        spec(root).build()
    assert stores(root) == []


def test_a_cache_is_filled_by_several_processes_as_by_one(root: Path):
    many = spec(root, prepare_workers=2, cache_folder=root / "many").build()
    one = spec(root).build()
    assert all(equal(a, b) for a, b in zip(batches(many), batches(one), strict=True))
    (root / "left" / "val-1.txt").write_text("x")
    with pytest.raises(ReadError, match="val-1"):
        spec(root, prepare_workers=2).build()


def test_a_cache_larger_than_allowed_is_refused_before_it_is_written(root: Path):
    with pytest.raises(ValueError, match=r"'left' of numbers needs about .* GB for 18 samples.*cache_limit_gb"):
        spec(root, cache_limit_gb=1e-9).build()
    assert stores(root) == []


SLOW_FILL = """
import sys, time
from pathlib import Path
from datasets.loading.test_recorded import spec
def slow(done, total):
    print(done, flush=True)
    time.sleep(0.02)
spec(Path(sys.argv[1])).build(slow)
"""


def start_fill(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_FILL, str(root)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )


def test_a_fill_that_was_killed_leaves_nothing_and_the_next_one_succeeds(root: Path):
    with start_fill(root) as fill:
        assert fill.stdout is not None
        for line in fill.stdout:
            if int(line) >= 7:
                break
        fill.send_signal(signal.SIGKILL)
        fill.wait()
    left = [path for path in (root / "cache" / "numbers").iterdir() if path.is_dir()]
    assert [path.suffix for path in left] == [".part"]
    splits = spec(root).build()
    plain = spec(root, cache="off").build()
    assert all(equal(a, b) for a, b in zip(batches(splits), batches(plain), strict=True))
    assert not [name for name in stores(root) if name.endswith(".part")]


@pytest.mark.slow
def test_the_second_of_two_processes_that_fill_a_cache_waits(root: Path):
    with start_fill(root) as a, start_fill(root) as b:
        outputs = [fill.communicate()[0].split() for fill in (a, b)]
    assert [a.returncode, b.returncode] == [0, 0]
    # Whichever process came first to a store prepared its 18 samples; both report the end.
    assert sum(map(len, outputs)) == 2 * 18 + 2
    assert len(stores(root)) == 2


def test_caches_are_listed_and_pruned(root: Path):
    spec(root).build()
    spec(root, factor=2.0, modalities="left").build()
    stores = entries(root / "cache")
    assert sorted((entry.dataset, entry.modality, entry.samples) for entry in stores) == [
        ("numbers", "left", 18), ("numbers", "left", 18), ("numbers", "right", 18),
    ]  # fmt: skip
    old = time.time() - 40 * 86400
    os.utime(stores[0].folder, (old, old))
    assert prune(root / "cache", unused_days=30, dataset="another") == []
    assert [entry.folder for entry in prune(root / "cache", unused_days=30)] == [stores[0].folder]
    assert len(entries(root / "cache")) == 2
    prune(root / "cache", unused_days=0)
    assert entries(root / "cache") == []


def test_pruning_removes_leftovers_of_killed_writers_but_not_active_writes(root: Path):
    spec(root).build()
    folder = root / "cache" / "numbers"
    (folder / "left-abc.123.part").mkdir()
    prune(root / "cache", unused_days=1000)
    assert not (folder / "left-abc.123.part").exists()
    assert len(entries(root / "cache")) == 2


def test_the_cache_folder_is_taken_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(root / "elsewhere"))
    spec(root, cache_folder=None).build()
    assert len(entries(root / "elsewhere")) == 2


def test_other_files_in_the_cache_folder_are_kept(root: Path):
    spec(root).build()
    stranger = root / "cache" / "other" / "thing"
    stranger.mkdir(parents=True)
    (stranger / "about.json").write_text(json.dumps({"hello": 1}))
    write_store(root / "cache" / "x" / "y", [torch.ones(1)], {})
    assert len(entries(root / "cache")) == 2
    prune(root / "cache", unused_days=0)
    assert stranger.is_dir()
