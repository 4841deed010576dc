"""ST-MNIST: handwritten digits recorded by an array of taxels."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.reader import Source
from snn_datasets.loading.on_disk import absolute_path, find_files, read_text, require_samples
from snn_datasets.loading.pairing import Item, rows_of_modality
from snn_datasets.loading.splits import split_of

DIGITS = tuple("0123456789")
BY_FILE = (
    "The files do not state the writer, so recordings of one writer are in training and in test; set groups to keep "
    "writers separate."
)

CARD = DatasetCard(
    kind="st-mnist",
    title="Spiking Tactile MNIST",
    version="2020",
    license="CC-BY-4.0",
    license_note="not verified; see the download form",
    citation="See et al. 2020, ST-MNIST: the spiking tactile MNIST neuromorphic dataset, arXiv:2005.04319",
    sources=("NUS ScholarBank, record 10635/168106, 'STMNIST dataset NUS Tee Research Group.zip', behind a form",),
    files=(FileSet(pattern="[0-9]/*.mat", what="spiketrain [101, N] of one digit; LUT*.mat are skipped"),),
    classes=DIGITS,
    modalities={"touch": ModalityCard(kind="events", shape="[T, 2, 10, 10]", unit="events by taxel and step")},
    splits=(
        "None is published. By default each file is assigned by a hash of its name; with groups, all files of a writer "
        "are in one split."
    ),
    notes=(
        "6,953 recordings of about two seconds by 23 writers; the writer of each file is not documented.",
        BY_FILE,
    ),
)


class StMnistSpec(FileDataSpec):
    """Digits written on 10 x 10 taxels of a neuromorphic skin: ON and OFF events of pressure (ST-MNIST)."""

    kind: Literal["st-mnist"] = "st-mnist"

    groups: Path | None = None
    """CSV file with the columns name,group: the writer of every file, by names such as 3/abc.mat; relative to root
    unless absolute. No writer is then in two splits."""

    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the files, or of the groups, for validation."""

    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Fraction of the files, or of the groups, for testing."""

    time_steps: int = Field(default=20, ge=1, le=10_000)
    """Time steps T of each recording."""

    bins: Literal["time", "count"] = "time"
    """Whether steps have equal duration or equally many events."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Assign the files to splits and read them once."""
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.mat5 import StMnistReader
        from snn_datasets.loading.recorded import build_splits
        from snn_datasets.stages.codings import EventFrames

        (name,) = self.selected_modalities()
        by_split = touches(
            self.root, groups=self.groups, val=self.val_fraction, test=self.test_fraction, seed=self.seed
        )
        info = ModalityInfo("events", (2, 10, 10), self.time_steps, "events by taxel and step")
        return build_splits(
            self,
            classes=DIGITS,
            rows=rows_of_modality(name, by_split),
            modalities={
                name: Modality(StMnistReader(), info, per_read=(EventFrames(steps=self.time_steps, by=self.bins),))
            },
            notes=() if self.groups is not None else (BY_FILE,),
            progress=progress,
        )


def touches(
    root: Path, *, groups: Path | None = None, val: float, test: float, seed: int = 0
) -> dict[Split, list[Item]]:
    """Return the recordings of ST-MNIST by split; each is its own group unless a table names the writers.

    Raises:
        FileNotFoundError: there is no recording under the root, or no such table.
        ValueError: the table does not name every file, or a split is empty.
    """
    root = absolute_path(root)
    paths = [path for path in find_files(root, "[0-9]/*.mat", CARD) if not path.name.upper().startswith("LUT")]
    writers = None if groups is None else _writers(root / groups.expanduser())
    by_split: dict[Split, list[Item]] = {"train": [], "val": [], "test": []}
    for path in paths:
        name = path.relative_to(root).as_posix()
        if writers is not None and name not in writers:
            raise ValueError(f"{groups} has no group for {name}; add a row for every file, such as {name},writer7")
        id_ = name.removesuffix(".mat")
        group = id_ if writers is None else writers[name]
        split = split_of(group, val=val, test=test, seed=seed)
        by_split[split].append(Item(id_, int(name[0]), Source(path), group))
    require_samples(by_split, "choose another seed or other shares, or complete the dataset")
    return by_split


def _writers(table: Path) -> Mapping[str, str]:
    if not table.is_file():
        raise FileNotFoundError(f"no file at {table}; groups must be a CSV file with the columns name,group")
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(table), newline="")))
    except csv.Error as error:
        raise ValueError(f"{table} is not a CSV file: {error}; it needs the columns name,group") from error
    writers: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        name, group = row.get("name"), row.get("group")
        if not name or not group:
            raise ValueError(f"{table}, row {number} lacks a name or a group; it needs the columns name,group")
        if writers.setdefault(name, group) != group:
            raise ValueError(f"{table}, row {number} gives {name} a second group; a file has one writer")
    return writers
