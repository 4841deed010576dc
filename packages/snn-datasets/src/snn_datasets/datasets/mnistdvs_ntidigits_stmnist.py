"""Digits seen, heard and felt as events: MNIST-DVS, N-TIDIGITS18 and ST-MNIST, paired by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from snn_datasets.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, FileDataSpec, ModalityInfo, Progress, Split
from snn_datasets.datasets import mnistdvs_ntidigits, st_mnist
from snn_datasets.datasets.mnistdvs_ntidigits import Scale, spoken_digits, symbols
from snn_datasets.datasets.st_mnist import touches
from snn_datasets.on_disk import absolute_path
from snn_datasets.pairing import Item, pair_by_label

if TYPE_CHECKING:
    from snn_datasets.modality import Modality

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
            what="spiketrain [101, N] of one digit; LUT*.mat are passed over",
            modalities=("touch",),
        ),
    ),
    classes=DIGITS,
    modalities={
        "visual": ModalityCard(kind="events", shape="[T, 2, plane, plane]", unit="events by pixel and step"),
        "audio": ModalityCard(kind="events", shape="[T, 64]", unit="events by channel and step"),
        "touch": ModalityCard(kind="events", shape="[T, 2, 10, 10]", unit="events by taxel and step"),
    },
    splits=(
        "Symbols and touches are dealt by a hash, symbols with all their scales together, touches by writer where "
        "touch_groups names writers and by file otherwise; utterances keep their published training and test speakers. "
        "Pairs are made within a split: no symbol, no speaker and no touch is in two."
    ),
    notes=(
        "The senses were never recorded together: each sample is a written, a spoken and a felt digit of one class.",
        "The sense with most recordings is used once; those of the others are met several times, with other partners.",
        st_mnist.BY_FILE.replace("groups", "touch_groups"),
        "Zero is spoken 'zero' (z) or 'oh' (o). 'oh' is left out unless asked for.",
    ),
)


class MnistDvsNTidigitsStMnistSpec(FileDataSpec):
    """Digits as an event camera sees, a silicon cochlea hears and a neuromorphic skin feels them, paired by class.

    The folder is that of mnistdvs-ntidigits with one more in it, ST-MNIST; folders that lie elsewhere can be linked.
    """

    kind: Literal["mnistdvs-ntidigits-stmnist"] = "mnistdvs-ntidigits-stmnist"
    """Names this dataset."""

    time_steps: int = Field(default=10, ge=1, le=1000)
    """Steps T that the time of each recording is split into."""

    scales: tuple[Scale, ...] = Field(default=(4,), min_length=1)
    """Scales of MNIST-DVS to read; each has the same 10,000 symbols."""

    spoken_o: Literal["leave_out", "zero"] = "leave_out"
    """What becomes of 'oh' for zero: left out, or read as a zero."""

    touch_groups: Path | None = None
    """CSV file with the columns name,group: a writer for every file, by name such as 3/abc.mat; relative to ST-MNIST
    unless absolute. Then no writer is in two splits."""

    val: float = Field(default=0.1, gt=0, lt=1)
    """Share of symbols, of touches and, in whole speakers, of the training utterances for validation."""

    test: float = Field(default=0.5, gt=0, lt=1)
    """Share of symbols and of touches for testing. Utterances are as published, about half."""

    train_per_class: int | None = Field(default=None, ge=1)
    """Samples of each class for training; recordings repeat where there are fewer. None: every recording of the sense
    that has most of them once."""

    val_per_class: int | None = Field(default=None, ge=1)
    """The same for validation."""

    test_per_class: int | None = Field(default=None, ge=1)
    """The same for testing."""

    plane: int = Field(default=32, ge=4, le=CAMERA_SIDE)
    """Side of written digits in pixels, events of merged pixels adding up."""

    shift: int = Field(default=2, ge=0, le=64)
    """Furthest random shift of written digits in training, in pixels of the plane."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Deal recordings to splits, pair them, and read each sample once.

        Raises:
            FileNotFoundError: a sense that is asked for is not under the root.
            ReadError: n-tidigits.hdf5 is damaged.
            ImportError: h5py is not installed.
            ValueError: a split has no recording of some class, or writers of touches are not named for every file.
        """
        from snn_datasets.recorded import Row, build_splits

        chosen = self.selected_modalities()
        dealt = {name: self._dealt(name) for name in chosen}
        per_class: dict[Split, int | None] = {
            "train": self.train_per_class,
            "val": self.val_per_class,
            "test": self.test_per_class,
        }
        rows: dict[Split, list[Row]] = {}
        for split in SPLITS:
            samples = pair_by_label(
                {name: dealt[name][split] for name in chosen}, per_class=per_class[split], seed=self.seed
            )
            rows[split] = [
                Row(
                    f"{split}-{items[0].label}-{number:05d}",
                    items[0].label,
                    {name: item.source for name, item in zip(chosen, items, strict=True)},
                )
                for number, items in enumerate(samples)
            ]
        modalities = {name: self._modality(name) for name in chosen}
        by_file = (CARD.notes[2],) if "touch" in chosen and self.touch_groups is None else ()
        return build_splits(
            self,
            info=DatasetInfo(
                CARD.kind, DIGITS, {name: m.info for name, m in modalities.items()}, (CARD.notes[0], *by_file)
            ),
            rows=rows,
            modalities=modalities,
            progress=progress,
        )

    def _dealt(self, name: str) -> dict[Split, list[Item]]:
        root = absolute_path(self.root)
        if name == "visual":
            return symbols(root, scales=self.scales, val=self.val, test=self.test, seed=self.seed)
        if name == "audio":
            return spoken_digits(root, spoken_o=self.spoken_o, val=self.val, seed=self.seed)
        folder = root / TOUCH_FOLDER
        return touches(folder, groups=self.touch_groups, val=self.val, test=self.test, seed=self.seed)

    def _modality(self, name: str) -> Modality:
        from snn_datasets.aedat import Aedat2Reader
        from snn_datasets.encoding import EventFrames
        from snn_datasets.events import FlattenFrames, ScalePlane, Shift
        from snn_datasets.hdf5 import NTIDIGITS_CHANNELS, NTidigitsReader
        from snn_datasets.modality import Modality
        from snn_datasets.taxels import StMnistReader

        count = EventFrames(steps=self.time_steps)
        unit = CARD.modalities[name].unit
        if name == "visual":
            return Modality(
                Aedat2Reader(),
                ModalityInfo("events", (2, self.plane, self.plane), self.time_steps, unit),
                prepare=(ScalePlane(height=self.plane, width=self.plane),),
                augment=(Shift(pixels=self.shift),) if self.shift else (),
                encode=(count,),
            )
        if name == "audio":
            info = ModalityInfo("events", (NTIDIGITS_CHANNELS,), self.time_steps, unit)
            return Modality(NTidigitsReader(), info, encode=(count, FlattenFrames()))
        info = ModalityInfo("events", (2, TAXELS_SIDE, TAXELS_SIDE), self.time_steps, unit)
        return Modality(StMnistReader(), info, encode=(count,))
