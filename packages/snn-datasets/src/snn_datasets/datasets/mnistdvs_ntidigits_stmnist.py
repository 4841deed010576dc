"""Digits in vision, audio and touch as events: MNIST-DVS, N-TIDIGITS18 and ST-MNIST, paired by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import (
    DatasetSplits,
    FileDataSpec,
    ModalityInfo,
    ReportProgress,
    Split,
)
from snn_datasets.datasets import mnistdvs_ntidigits, st_mnist
from snn_datasets.datasets.mnistdvs_ntidigits import Scale, spoken_digits, symbols
from snn_datasets.datasets.st_mnist import touches
from snn_datasets.loading.on_disk import absolute_path
from snn_datasets.loading.pairing import Item, paired_rows

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality

DIGITS = tuple("0123456789")
TOUCH_FOLDER = "ST-MNIST"
CAMERA_SIDE = 128
TAXELS_SIDE = 10

CARD = DatasetCard(
    kind="mnistdvs-ntidigits-stmnist",
    title="MNIST-DVS with N-TIDIGITS18 and ST-MNIST",
    version="MNIST-DVS 2015, N-TIDIGITS18 2018, ST-MNIST 2020",
    license="LicenseRef-unknown",
    license_note=f"{mnistdvs_ntidigits.CARD.license_note}; ST-MNIST is {st_mnist.CARD.license}",
    citation=f"{mnistdvs_ntidigits.CARD.citation}; {st_mnist.CARD.citation}",
    sources=(*mnistdvs_ntidigits.CARD.sources, *st_mnist.CARD.sources),
    files=(
        *mnistdvs_ntidigits.CARD.files,
        FileSet(
            pattern=f"{TOUCH_FOLDER}/[0-9]/*.mat",
            what="spiketrain [101, N] of one digit; LUT*.mat are skipped",
            modalities=("touch",),
        ),
    ),
    classes=DIGITS,
    modalities={
        "visual": ModalityCard(kind="events", shape="[T, 2, size, size]", unit="events by pixel and step"),
        "audio": ModalityCard(kind="events", shape="[T, 64]", unit="events by channel and step"),
        "touch": ModalityCard(kind="events", shape="[T, 2, 10, 10]", unit="events by taxel and step"),
    },
    splits=(
        "Symbols and touches are assigned by a hash, all scales of a symbol together, touches by writer if "
        "touch_groups names writers and by file otherwise; utterances keep their published training and test speakers. "
        "Samples are paired within a split: no symbol, speaker or touch is in two splits."
    ),
    notes=(
        "The modalities were not recorded together: each sample pairs a written, a spoken and a touched digit of one "
        "class.",
        "Recordings of the largest modality are used once; those of the others repeat, with different partners.",
        st_mnist.BY_FILE.replace("groups", "touch_groups"),
        "Zero is spoken 'zero' (z) or 'oh' (o). 'oh' is excluded by default (spoken_o).",
    ),
)


class MnistDvsNTidigitsStMnistSpec(FileDataSpec):
    """Digits recorded by an event camera, a silicon cochlea and a neuromorphic skin, paired by class.

    The folder is that of mnistdvs-ntidigits plus ST-MNIST; symbolic links are followed.
    """

    kind: Literal["mnistdvs-ntidigits-stmnist"] = "mnistdvs-ntidigits-stmnist"
    """MNIST-DVS with N-TIDIGITS18 and ST-MNIST."""

    time_steps: int = Field(default=10, ge=1, le=1000)
    """Time steps T of each recording."""

    scales: tuple[Scale, ...] = Field(default=(4,), min_length=1)
    """Scales of MNIST-DVS to read; each has the same 10,000 symbols."""

    spoken_o: Literal["leave_out", "zero"] = "leave_out"
    """Utterances of 'oh' for zero: left out, or read as a zero."""

    touch_groups: Path | None = None
    """CSV file with the columns name,group: the writer of every file, by names such as 3/abc.mat; relative to ST-MNIST
    unless absolute. No writer is then in two splits."""

    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the symbols, of the touches and, in whole speakers, of the training utterances for validation."""

    test_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the symbols and of the touches for testing; utterances are as published, about half."""

    train_per_class: int | None = Field(default=None, ge=1)
    """Training samples per class; recordings repeat if there are fewer. None: every recording of the largest modality
    once."""

    val_per_class: int | None = Field(default=None, ge=1)
    """The same for validation."""

    test_per_class: int | None = Field(default=None, ge=1)
    """The same for testing."""

    size: int = Field(default=32, ge=4, le=CAMERA_SIDE)
    """Height and width of written digits in pixels; events of merged pixels add up."""

    shift: int = Field(default=2, ge=0, le=64)
    """Largest random shift of written digits in training, in pixels."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Assign recordings to splits, pair them, and read each sample once."""
        from snn_datasets.loading.recorded import build_splits

        chosen = self.selected_modalities()
        per_class: dict[Split, int | None] = {
            "train": self.train_per_class,
            "val": self.val_per_class,
            "test": self.test_per_class,
        }
        writer_note = (CARD.notes[2],) if "touch" in chosen and self.touch_groups is None else ()
        return build_splits(
            self,
            classes=DIGITS,
            rows=paired_rows({name: self._items(name) for name in chosen}, per_class=per_class, seed=self.seed),
            modalities={name: self._modality(name) for name in chosen},
            notes=(CARD.notes[0], *writer_note),
            progress=progress,
        )

    def _items(self, name: str) -> dict[Split, list[Item]]:
        root, val, test = absolute_path(self.root), self.val_fraction, self.test_fraction
        if name == "visual":
            return symbols(root, scales=self.scales, val=val, test=test, seed=self.seed)
        if name == "audio":
            return spoken_digits(root, spoken_o=self.spoken_o, val=val, seed=self.seed)
        return touches(root / TOUCH_FOLDER, groups=self.touch_groups, val=val, test=test, seed=self.seed)

    def _modality(self, name: str) -> Modality:
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.aedat import Aedat2Reader
        from snn_datasets.formats.hdf5 import NTIDIGITS_CHANNELS, NTidigitsReader
        from snn_datasets.formats.mat5 import StMnistReader
        from snn_datasets.modalities.events import FlattenFrames, ScalePlane, Shift
        from snn_datasets.stages.codings import EventFrames

        count = EventFrames(steps=self.time_steps)
        unit = CARD.modalities[name].unit
        if name == "visual":
            return Modality(
                Aedat2Reader(),
                ModalityInfo("events", (2, self.size, self.size), self.time_steps, unit),
                cached=(ScalePlane(height=self.size, width=self.size),),
                augment=(Shift(pixels=self.shift),) if self.shift else (),
                per_read=(count,),
            )
        if name == "audio":
            info = ModalityInfo("events", (NTIDIGITS_CHANNELS,), self.time_steps, unit)
            return Modality(NTidigitsReader(), info, per_read=(count, FlattenFrames()))
        info = ModalityInfo("events", (2, TAXELS_SIDE, TAXELS_SIDE), self.time_steps, unit)
        return Modality(StMnistReader(), info, per_read=(count,))
