"""Caches that are damaged, on full or read-only disks, or another user's: one clear line each, and right samples."""

import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from damage import TouchesWhenLoaded, planted_pickle
from datasets.noisy_numbers import AsSteps, NumbersReader
from mounts import make_read_only, small_disk
from snn_datasets import Modality, ModalityInfo, RecordedDataset, Row, Source, Waveform
from snn_datasets.cache import fill
from snn_datasets.cache.fill import CacheOptions, open_or_fill
from snn_datasets.cache.folder import prune
from snn_datasets.cache.store import DamagedStoreError, Prepared, Store, StoreWriteError, write_store

SAMPLES = [torch.arange(50, dtype=torch.float32) + number for number in range(6)]


def filled(folder: Path, samples: list[Tensor] = SAMPLES) -> Store:
    return open_or_fill(
        CacheOptions(folder, limit_gb=1.0),
        dataset="numbers",
        name="left",
        key="0123",
        samples=range(len(samples)),
        prepare=samples.__getitem__,
        progress=None,
    )


def holds_the_samples(store: Store, samples: list[Tensor] = SAMPLES) -> bool:
    return all(torch.equal(tensor(store[number]), sample) for number, sample in enumerate(samples))


def tensor(prepared: object) -> Tensor:
    assert isinstance(prepared, Tensor)
    return prepared


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """The file, with a bit flipped, or cut off, or some of it overwritten; never what it was."""
    offset = int(rng.integers(len(whole)))
    match rng.choice(["flip", "cut", "overwrite"]):
        case "flip":
            return whole[:offset] + bytes([whole[offset] ^ 1 << int(rng.integers(8))]) + whole[offset + 1 :]
        case "cut":
            return whole[:offset]
        case _:
            block = rng.bytes(16)
            return whole[:offset] + block + whole[offset + 16 :]


@pytest.mark.parametrize("file", ["about.json", "index.npz", "data.bin"])
def test_a_damaged_cache_is_reported_and_filled_again(file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = filled(tmp_path).folder
    whole = (folder / file).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        (folder / file).write_bytes(damaged(whole, rng))
        with pytest.raises(DamagedStoreError, match=f"the cache {folder} is damaged: "):
            Store(folder).verify()
        caplog.clear()
        assert holds_the_samples(filled(tmp_path))
        (record,) = caplog.records
        assert record.getMessage().startswith(f"the cache {folder} is damaged: ")
        assert record.getMessage().endswith("; preparing its samples again")
        Store(folder).verify()
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.parametrize("file", ["about.json", "index.npz", "data.bin"])
def test_a_cache_that_lacks_a_file_is_filled_again(file: str, tmp_path: Path):
    folder = filled(tmp_path).folder
    (folder / file).unlink()
    with pytest.raises(DamagedStoreError, match=f"{file} is missing"):
        Store(folder)
    assert holds_the_samples(filled(tmp_path))


def test_a_cache_without_checksums_is_filled_again(tmp_path: Path):
    folder = filled(tmp_path).folder
    about = json.loads((folder / "about.json").read_text())
    del about["checksum"]
    (folder / "about.json").write_text(json.dumps(about))
    assert holds_the_samples(filled(tmp_path))


def test_a_pickle_in_a_cache_is_never_loaded(tmp_path: Path):
    marker = tmp_path / "executed"
    folder = filled(tmp_path / "cache").folder
    objects, hostile = io.BytesIO(), TouchesWhenLoaded(marker)
    np.savez(objects, offsets=np.array([hostile] * 6), crc32=np.array([hostile] * 6), shape_tensor=np.array([hostile]))
    for file in ("about.json", "index.npz", "data.bin"):
        for content in (planted_pickle(marker), objects.getvalue()):
            (folder / file).write_bytes(content)
            assert holds_the_samples(filled(tmp_path / "cache"))
    assert not marker.exists()


def test_arrays_of_objects_are_refused_though_the_checksums_are_right(tmp_path: Path):
    from snn_datasets.cache.store import _checksum_of

    folder = filled(tmp_path).folder
    about = json.loads((folder / "about.json").read_text())
    del about["checksum"]
    about["columns"] = {"tensor": "|O"}
    (folder / "about.json").write_text(json.dumps({**about, "checksum": _checksum_of(about)}))
    with pytest.raises(DamagedStoreError, match=r"arrays of type \|O"):
        Store(folder)


def test_a_damaged_sample_of_a_large_cache_is_prepared_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"{number} 2 3")
    rows = [Row(str(number), 0, {"m": Source(tmp_path / f"{number}.txt")}) for number in range(3)]
    modality = Modality(NumbersReader(), ModalityInfo("series", (1,), time_steps=3), per_read=(AsSteps(),))
    plain = RecordedDataset(rows, {"m": modality}, seed=0, augment=False)
    write_store(tmp_path / "s", [NumbersReader().read(row.sources["m"]) for row in rows if row.sources["m"]], {})
    content = bytearray((tmp_path / "s" / "data.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "s" / "data.bin").write_bytes(content)
    cached = RecordedDataset(
        rows, {"m": modality}, seed=0, augment=False, stores={"m": (Store(tmp_path / "s"), range(3))}
    )
    for number in range(3):
        assert torch.equal(cached[number].inputs["m"], plain[number].inputs["m"])
    (record,) = caplog.records
    assert "sample 1: its checksum differs; reading the file instead" in record.getMessage()
    assert f"`rm -r {tmp_path / 's'}`" in record.getMessage()

    monkeypatch.setattr(fill, "VERIFIED_BYTES", 0)
    folder = filled(tmp_path / "cache").folder
    (folder / "data.bin").write_bytes(bytes(6 * 200))
    with pytest.raises(DamagedStoreError, match=r"sample 0: its checksum"):
        filled(tmp_path / "cache")[0]


def test_samples_of_every_size_are_verified(tmp_path: Path):
    samples: list[Prepared] = [Waveform(np.ones((2, length), np.float32), 8_000) for length in (3, 0, 11)]
    write_store(tmp_path / "s", samples, {})
    whole = (tmp_path / "s" / "data.bin").read_bytes()
    for offset in range(len(whole)):
        (tmp_path / "s" / "data.bin").write_bytes(whole[:offset] + bytes([whole[offset] ^ 8]) + whole[offset + 1 :])
        with pytest.raises(DamagedStoreError):
            Store(tmp_path / "s").verify()


def test_a_cache_on_a_read_only_disk_is_used_and_not_touched(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        folder = filled(disk).folder
        make_read_only(disk)
        assert holds_the_samples(filled(disk))
        assert not caplog.records
        with pytest.raises(StoreWriteError, match=r"cannot write the cache .*/disk: read-only file system; "):
            open_or_fill(
                CacheOptions(disk, limit_gb=1.0),
                dataset="others", name="left", key="1", samples=[0], prepare=SAMPLES.__getitem__, progress=None,
            )  # fmt: skip
        with pytest.raises(OSError, match=f"cannot remove the cache {folder}: read-only file system"):
            prune(disk, unused_days=0)


def test_a_damaged_cache_that_cannot_be_removed_is_refused_with_the_command_to_run(tmp_path: Path):
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        folder = filled(disk).folder
        (folder / "data.bin").write_bytes(bytes(1200))
        make_read_only(disk)
        with pytest.raises(ValueError, match=r"damaged: .*cannot be replaced \(read-only.*`rm -r .*left-0123`"):
            filled(disk)


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fill, "SPARE_BYTES", -(10**12))  # as if it filled up after the cache was found to fit
    large = [torch.zeros(20_000) for _ in range(10)]
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        with pytest.raises(StoreWriteError) as refusal:
            filled(disk, large)
        assert str(refusal.value) == (
            f"cannot write the cache {disk / 'numbers'}: no space left on device; free some space "
            "(`scmrl data cache prune`), choose another cache_folder, or set cache to off"
        )
        assert [path.name for path in (disk / "numbers").iterdir()] == ["left-0123.lock"]
        assert holds_the_samples(filled(disk))


@contextmanager
def another_user() -> Generator[Path]:
    """Yield a folder that everybody may enter, as another user than its owner."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_a_cache_of_another_user_is_used(caplog: pytest.LogCaptureFixture):
    with another_user() as folder:
        store = filled(folder).folder
        os.utime(store, (1, 1))
        os.seteuid(65534)
        assert holds_the_samples(filled(folder))
        assert store.stat().st_mtime == 1
        assert not caplog.records


def test_a_cache_of_another_user_without_read_permission_is_refused_by_name():
    with another_user() as folder:
        store = filled(folder).folder
        store.chmod(0o700)
        os.seteuid(65534)
        with pytest.raises(OSError, match=f"cannot read the cache {store}: permission denied; ask its owner"):
            filled(folder)


def test_a_damaged_cache_of_another_user_is_refused_with_the_command_to_run(caplog: pytest.LogCaptureFixture):
    with another_user() as folder:
        store = filled(folder).folder
        (store / "data.bin").write_bytes(b"")
        os.seteuid(65534)
        with pytest.raises(ValueError, match=r"damaged: .*cannot be replaced \(permission.*`rm -r .*left-0123`"):
            filled(folder)


@pytest.mark.parametrize("path", ["", "numbers"])
def test_a_file_instead_of_the_folder_is_reported(tmp_path: Path, path: str):
    (tmp_path / "cache" / path).parent.mkdir(exist_ok=True)
    (tmp_path / "cache" / path).write_text("in the way")
    with pytest.raises(StoreWriteError, match=rf"cannot write the cache {tmp_path / 'cache'}: .*(file|directory)"):
        filled(tmp_path / "cache")
    assert (tmp_path / "cache" / path).read_text() == "in the way"


def test_other_errors_while_a_cache_is_filled_are_not_attributed_to_it(tmp_path: Path):
    def prepare(number: int) -> Exception:
        return FileNotFoundError("no file at a.wav")

    with pytest.raises(FileNotFoundError, match=r"no file at a\.wav"):
        open_or_fill(
            CacheOptions(tmp_path, limit_gb=1.0),
            dataset="numbers", name="left", key="1", samples=[0], prepare=prepare, progress=None,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def _on_small_disks(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "SPARE_BYTES", 0)
    caplog.set_level(logging.WARNING, logger="snn_datasets")
