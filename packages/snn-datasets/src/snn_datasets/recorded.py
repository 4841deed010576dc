"""A dataset of recordings on disk: rows that name sources, and modalities that say how to read them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snn_datasets.cache import CacheOptions, fingerprint, open_or_fill
from snn_datasets.cache_folder import default_folder
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, FileDataSpec, Progress, Split
from snn_datasets.modality import Modality
from snn_datasets.reader import ReadError, Source
from snn_datasets.sample import Sample, SampleDataset
from snn_datasets.single_thread import single_thread
from snn_datasets.stage import Draw
from snn_datasets.store import Absent, DamagedStoreError, Prepared, Store

_log = logging.getLogger("snn_datasets")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample before anything is read."""

    id: str
    """Unique within its dataset."""
    label: int
    """Index into the classes."""
    sources: Mapping[str, Source | None]
    """Modality -> where it lies; None where this sample has none."""
    origin: str = ""
    """Where the row is from, for messages, such as "manifest.csv, row 3"; empty names the sample."""

    def describe_source(self, modality: str) -> str:
        """Place, modality and file, to begin a message with."""
        return f"{self.origin or f'sample {self.id!r}'}, {modality} {str(self.sources[modality])!r}"


class RecordedDataset(SampleDataset):
    """Samples read from disk, or from caches of what was prepared.

    Args:
        rows: the samples.
        modalities: how each sense is read.
        seed: decides augmentation and whatever else stages draw.
        augment: whether the augmenting stages run, as on training samples.
        stores: modality -> what was prepared, with the place of each row in it; a modality without one is read anew.
        missing: whether an unreadable recording counts as absent rather than as an error.
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
        self._timed = frozenset(name for name, m in self.modalities.items() if m.info.time_steps is not None)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """One sample; (epoch, index) draws the augmentation of that epoch, a plain index that of epoch 0.

        Raises:
            ReadError: a recording cannot be read, and that is no absence here.
            FileNotFoundError: it is not there.
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
                shape, steps = modality.info.shape, modality.info.time_steps
                inputs[name] = torch.zeros(shape if steps is None else (steps, *shape))
                absent.add(name)
            else:
                draw = Draw(self.seed, row.id, name, epoch)
                inputs[name] = modality.encode_input(prepared, draw, augmented=self.augment)
        return Sample(row.id, inputs, row.label, frozenset(absent), self._timed)

    def _prepared(self, name: str, index: int) -> Prepared | Absent | Exception:
        if name in self.stores:
            store, places = self.stores[name]
            try:
                return store[places[index]]
            except DamagedStoreError as error:
                folder = shlex.quote(str(store.folder))
                _log.warning("%s; it is prepared from its file instead; `rm -r %s` makes the cache anew", error, folder)
        return Preparation(name, self.modalities[name], self.seed, self.missing)(self.rows[index])


@dataclass(frozen=True)
class Preparation:
    """Reads and prepares one modality of a row; can be sent to other processes."""

    name: str
    modality: Modality
    seed: int
    missing: bool

    def __call__(self, row: Row) -> Prepared | Absent | Exception:
        """What was prepared, or why there is nothing; an error is returned, so that it keeps its type."""
        source = row.sources[self.name]
        if source is None:
            return Absent("not recorded")
        try:
            return self.modality.load(source, Draw(self.seed, row.id, self.name))
        except (ReadError, FileNotFoundError) as error:
            if self.missing:
                return Absent(str(error))
            advice = "correct it, or set on_error to missing to count it as absent"
            return type(error)(f"{row.describe_source(self.name)}: {error}; {advice}")
        except ValueError as error:  # a stage cannot do with this recording
            return ReadError(f"{row.describe_source(self.name)}: {error}")


@single_thread()
def build_splits(
    spec: FileDataSpec,
    *,
    info: DatasetInfo,
    rows: Mapping[Split, Sequence[Row]],
    modalities: Mapping[str, Modality],
    progress: Progress | None = None,
) -> DatasetSplits:
    """The three splits of a dataset of files, its caches filled.

    Without a cache nothing is read before it is asked for.

    Raises:
        ReadError, FileNotFoundError: a recording cannot be read, unless `spec.on_error` says that it is absent then.
        ValueError: the cache would be larger than allowed.
    """
    # By id, so that the same store serves however the rows are dealt to splits.
    every = sorted((row for split in SPLITS for row in rows[split]), key=lambda row: row.id)
    place_of = {row.id: place for place, row in enumerate(every)}
    stores: dict[str, Store] = {}
    missing = spec.on_error == "missing"
    if spec.cache != "off":
        folder = spec.cache_folder.expanduser() if spec.cache_folder is not None else default_folder()
        options = CacheOptions(folder, spec.cache_limit_gb, spec.cache == "hash", spec.prepare_workers)
        for number, (name, modality) in enumerate(modalities.items()):
            mark = fingerprint(
                modality,
                [row.id for row in every],
                [row.sources[name] for row in every],
                spec.seed,
                hash_files=options.hash_files,
            )
            stores[name] = open_or_fill(
                options,
                dataset=info.name,
                # An absence that is an error elsewhere must not be taken for prepared.
                name=f"{name}-missing" if missing else name,
                mark=mark,
                samples=every,
                prepare=Preparation(name, modality, spec.seed, missing),
                progress=_part(progress, number, len(modalities), len(every)),
            )
    if progress is not None:
        progress(len(every) * len(modalities), len(every) * len(modalities))
    rows_by_split, notes = _with_any_modality(rows, stores, place_of, missing=missing)
    datasets = {
        split: RecordedDataset(
            rows_by_split[split],
            modalities,
            seed=spec.seed,
            augment=split == "train",
            stores={
                name: (store, [place_of[row.id] for row in rows_by_split[split]]) for name, store in stores.items()
            },
            missing=missing,
        )
        for split in SPLITS
    }
    info = replace(info, notes=(*info.notes, *notes))
    return DatasetSplits(info, datasets["train"], datasets["val"], datasets["test"])


def _with_any_modality(
    rows: Mapping[Split, Sequence[Row]], stores: Mapping[str, Store], place_of: Mapping[str, int], *, missing: bool
) -> tuple[dict[Split, list[Row]], list[str]]:
    """The rows of which something is there, and a note on the others: a model has nothing to say of them.

    Raises:
        ValueError: none of the training or test rows is left.
    """

    def present(row: Row, name: str) -> bool:
        source = row.sources[name]
        if source is None:
            return False
        if name in stores:
            return place_of[row.id] not in stores[name].absent
        return not missing or source.path.is_file()

    rows_by_split: dict[Split, list[Row]] = {
        split: [row for row in of_split if any(present(row, name) for name in row.sources)]
        for split, of_split in rows.items()
    }
    every, left = sum(map(len, rows.values())), sum(map(len, rows_by_split.values()))
    names = " or ".join(
        list(dict.fromkeys(name for of_split in rows.values() for row in of_split for name in row.sources))
    )
    for split in ("train", "test"):
        if rows[split] and not rows_by_split[split]:
            raise ValueError(
                f"no sample of the split {split!r} has {names}; correct the files, or choose other modalities"
            )
    return rows_by_split, [
        f"{every - left} of {every} samples have no {names} and are left out"
    ] if left < every else []


def _part(progress: Progress | None, number: int, parts: int, length: int) -> Progress | None:
    """Tell the progress of one of several passes as that of all."""
    if progress is None:
        return None
    return lambda done, _total: progress(number * length + done, parts * length)
