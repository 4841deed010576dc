"""A dataset of recordings on disk: rows name files, and modalities define how to read them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_datasets.base.dataset import (
    SPLITS,
    DatasetInfo,
    DatasetSplits,
    FileDataSpec,
    ReportProgress,
    Split,
    pass_progress,
)
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.sample import Sample, SampleDataset
from snn_datasets.base.single_thread import single_thread
from snn_datasets.base.stage import Draw
from snn_datasets.cache.fill import CacheOptions, cache_key, open_or_fill
from snn_datasets.cache.folder import cache_folder
from snn_datasets.cache.store import Absent, DamagedStoreError, Prepared, Store

_log = logging.getLogger("snn_datasets")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample before anything is read."""

    id: str
    """Unique within its dataset."""
    label: int
    """Class index."""
    sources: Mapping[str, Source | None]
    """Modality -> its source; None if absent."""
    origin: str = ""
    """Origin of the row for messages, such as "manifest.csv, row 3"; empty names the sample instead."""

    def describe_source(self, modality: str) -> str:
        """Return origin, modality and file as the beginning of a message."""
        return f"{self.origin or f'sample {self.id!r}'}, {modality} {str(self.sources[modality])!r}"


class RecordedDataset(SampleDataset):
    """Samples read from disk, or from caches of prepared recordings.

    Args:
        rows: the samples.
        modalities: how to read each modality.
        seed: seed of augmentation and all other random stages.
        augment: whether to augment, as for training samples.
        stores: modality -> its cache, with the index of each row in it; other modalities are read from their files.
        missing: treat an unreadable recording as absent rather than as an error.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        modalities: Mapping[str, Modality],
        *,
        seed: int,
        augment: bool,
        stores: Mapping[str, tuple[Store, Sequence[int]]] | None = None,
        missing: bool = False,
    ) -> None:
        self.rows = tuple(rows)
        self.modalities = dict(modalities)
        self.seed, self.augment, self.missing = seed, augment, missing
        self.stores = dict(stores or {})
        self.labels = tuple(row.label for row in rows)
        self.ids = tuple(row.id for row in rows)
        self.has_absences = missing or any(source is None for row in rows for source in row.sources.values())
        self._timed = frozenset(name for name, m in self.modalities.items() if m.info.is_timed)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return one sample; (epoch, index) draws the augmentation of that epoch, a plain index that of epoch 0.

        Raises:
            ReadError: a recording cannot be read, and `missing` is not set.
            FileNotFoundError: a file does not exist, and `missing` is not set.
        """
        epoch, index = index if isinstance(index, tuple) else (0, index)
        row = self.rows[index]
        inputs: dict[str, Tensor] = {}
        absent: set[str] = set()
        for name, modality in self.modalities.items():
            prepared = self._prepared(name, index)
            if isinstance(prepared, Exception):
                raise prepared
            if isinstance(prepared, Absent):
                inputs[name] = torch.zeros(modality.info.input_shape)
                absent.add(name)
            else:
                draw = Draw(self.seed, row.id, name, epoch)
                inputs[name] = modality.encode_input(prepared, draw, augmented=self.augment)
        return Sample(row.id, inputs, row.label, frozenset(absent), self._timed)

    def _prepared(self, name: str, index: int) -> Prepared | Absent | Exception:
        if name in self.stores:
            store, indices = self.stores[name]
            try:
                return store[indices[index]]
            except DamagedStoreError as error:
                folder = shlex.quote(str(store.folder))
                _log.warning("%s; reading the file instead; `rm -r %s` to rebuild the cache", error, folder)
        return Preparation(name, self.modalities[name], self.seed, self.missing)(self.rows[index])


@dataclass(frozen=True)
class Preparation:
    """Read and prepare one modality of a row; can be sent to other processes."""

    name: str
    modality: Modality
    seed: int
    missing: bool

    def __call__(self, row: Row) -> Prepared | Absent | Exception:
        """Return the prepared recording, or why it is absent; errors are returned, so that they keep their type."""
        source = row.sources[self.name]
        if source is None:
            return Absent("not recorded")
        try:
            return self.modality.load(source, Draw(self.seed, row.id, self.name))
        except (ReadError, FileNotFoundError) as error:
            if self.missing:
                return Absent(str(error))
            advice = "correct it, or set on_error to missing to treat it as absent"
            return type(error)(f"{row.describe_source(self.name)}: {error}; {advice}")
        except ValueError as error:  # a stage rejects this recording
            return ReadError(f"{row.describe_source(self.name)}: {error}")


@single_thread()
def build_splits(
    spec: FileDataSpec,
    *,
    classes: tuple[str, ...],
    rows: Mapping[Split, Sequence[Row]],
    modalities: Mapping[str, Modality],
    notes: Sequence[str] = (),
    name: str | None = None,
    progress: ReportProgress | None = None,
) -> DatasetSplits:
    """Fill the caches of a dataset of files and return its three splits.

    Without a cache, recordings are read on access.

    Args:
        spec: the dataset, with the options of its cache.
        classes: class names in label order.
        rows: the samples of each split.
        modalities: how to read each modality.
        notes: caveats for results on these splits.
        name: short name for reports; None: the kind of the spec.
        progress: called as `progress(done, total)`.

    Raises:
        ReadError, FileNotFoundError: a recording cannot be read, and `spec.on_error` is not "missing".
        ValueError: a cache would exceed its size limit.
    """
    dataset = name or spec.card.kind
    # Sorted by id, so that a store does not depend on the assignment of rows to splits.
    all_rows = sorted((row for split in SPLITS for row in rows[split]), key=lambda row: row.id)
    index_of = {row.id: index for index, row in enumerate(all_rows)}
    stores: dict[str, Store] = {}
    missing = spec.on_error == "missing"
    if spec.cache != "off":
        folder = cache_folder(spec.cache_folder)
        options = CacheOptions(folder, spec.cache_limit_gb, spec.cache == "hash", spec.prepare_workers)
        for number, (modality_name, modality) in enumerate(modalities.items()):
            key = cache_key(
                modality,
                [row.id for row in all_rows],
                [row.sources[modality_name] for row in all_rows],
                spec.seed,
                hash_files=options.hash_files,
            )
            stores[modality_name] = open_or_fill(
                options,
                dataset=dataset,
                # A store with absent recordings must not serve a spec that treats them as errors.
                name=f"{modality_name}-missing" if missing else modality_name,
                key=key,
                samples=all_rows,
                prepare=Preparation(modality_name, modality, spec.seed, missing),
                progress=pass_progress(progress, number, len(modalities), len(all_rows)),
            )
    if progress is not None:
        progress(len(all_rows) * len(modalities), len(all_rows) * len(modalities))
    rows_by_split, skipped = _drop_empty_rows(rows, stores, index_of, missing=missing)
    datasets = {
        split: RecordedDataset(
            rows_by_split[split],
            modalities,
            seed=spec.seed,
            augment=split == "train",
            stores={
                modality_name: (store, [index_of[row.id] for row in rows_by_split[split]])
                for modality_name, store in stores.items()
            },
            missing=missing,
        )
        for split in SPLITS
    }
    infos = {modality_name: modality.info for modality_name, modality in modalities.items()}
    info = DatasetInfo(dataset, classes, infos, (*notes, *skipped))
    return DatasetSplits(info, datasets["train"], datasets["val"], datasets["test"])


def _drop_empty_rows(
    rows: Mapping[Split, Sequence[Row]], stores: Mapping[str, Store], index_of: Mapping[str, int], *, missing: bool
) -> tuple[dict[Split, list[Row]], list[str]]:
    """Drop rows without any recording, and return a note on them.

    Raises:
        ValueError: no training or no test row is left.
    """

    def present(row: Row, name: str) -> bool:
        source = row.sources[name]
        if source is None:
            return False
        if name in stores:
            return index_of[row.id] not in stores[name].absent
        return not missing or source.path.is_file()

    rows_by_split: dict[Split, list[Row]] = {
        split: [row for row in split_rows if any(present(row, name) for name in row.sources)]
        for split, split_rows in rows.items()
    }
    total, remaining = sum(map(len, rows.values())), sum(map(len, rows_by_split.values()))
    names = " or ".join(
        list(dict.fromkeys(name for split_rows in rows.values() for row in split_rows for name in row.sources))
    )
    for split in ("train", "test"):
        if rows[split] and not rows_by_split[split]:
            raise ValueError(
                f"no sample of the split {split!r} has {names}; correct the files, or select other modalities"
            )
    return rows_by_split, [
        f"{total - remaining} of {total} samples have no {names} and are skipped"
    ] if remaining < total else []
