"""Written and spoken digits as events: MNIST-DVS paired with N-TIDIGITS18."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import (
    SPLITS,
    DatasetSplits,
    FileDataSpec,
    ModalityInfo,
    ReportProgress,
    Split,
)
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.loading.on_disk import absolute_path, require_samples
from snn_datasets.loading.pairing import Item, carve_items, paired_rows
from snn_datasets.loading.splits import split_of

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality

DIGITS = tuple("0123456789")
SIDE = 128
"""Height and width of the camera."""
PUBLISHED_SIDE = 28
PUBLISHED_PER_CLASS: dict[Split, int] = {"train": 500, "val": 100, "test": 500}

Scale = Literal[4, 8, 16]

_RECORDING = re.compile(r"mnist_(\d)_scale(04|08|16)_(\d+)\.aedat")
_SYMBOLS = "grabbed_data[0-9]/scale*/mnist_*.aedat"
_UTTERANCES = "n-tidigits.hdf5"

MNIST_DVS_FILES = FileSet(
    pattern=_SYMBOLS,
    what="MNIST-DVS, such as grabbed_data3/scale4/mnist_3_scale04_0001.aedat; only the requested scales are needed",
    modalities=("visual",),
)
N_TIDIGITS_FILES = FileSet(
    pattern=_UTTERANCES,
    what="N-TIDIGITS18",
    count=1,
    modalities=("audio",),
    md5={_UTTERANCES: "360a2d11e5429555c9197381cf6b58e0"},
)
MNIST_DVS_SOURCE = "IMSE-CNM (CSIC, Sevilla), MNIST-DVS: grabbed_data0.zip to grabbed_data9.zip, unpacked"
N_TIDIGITS_SOURCE = "Institute of Neuroinformatics, Zurich, N-TIDIGITS18: n-tidigits.hdf5"

CARD = DatasetCard(
    kind="mnistdvs-ntidigits",
    title="MNIST-DVS with N-TIDIGITS18",
    version="MNIST-DVS 2015, N-TIDIGITS18 2018",
    license="LicenseRef-unknown",
    license_note=(
        "the page of MNIST-DVS states none; N-TIDIGITS18 is derived from TIDIGITS of the Linguistic Data Consortium "
        "and may not be redistributed"
    ),
    citation=(
        "Serrano-Gotarredona and Linares-Barranco 2015, Frontiers in Neuroscience 9:481, doi:10.3389/fnins.2015.00481; "
        "Anumula et al. 2018, Frontiers in Neuroscience 12:23, doi:10.3389/fnins.2018.00023"
    ),
    sources=(MNIST_DVS_SOURCE, N_TIDIGITS_SOURCE),
    files=(MNIST_DVS_FILES, N_TIDIGITS_FILES),
    classes=DIGITS,
    modalities={
        "visual": ModalityCard(kind="events", shape="[T, 2, size, size]", unit="events by pixel and step"),
        "audio": ModalityCard(
            kind="events", shape="[T, 64]; published: [T, 1, size, size]", unit="events by channel and step"
        ),
    },
    splits=(
        "Symbols are assigned by a hash of digit and number, so that a symbol's recordings at three scales stay "
        "together; utterances keep their published training and test speakers, and validation is whole speakers from "
        "training. Samples are paired within a split: no symbol or speaker is in two splits."
    ),
    notes=(
        "The two modalities were not recorded together: each pair is a written and a spoken digit of the same class.",
        "MNIST-DVS has 10,000 symbols at scales 4, 8 and 16; N-TIDIGITS18 about 225 utterances of each digit in "
        "training and as many in test, so an utterance is paired with several symbols.",
        "Zero is spoken 'zero' (z) or 'oh' (o). 'oh' is excluded by default (spoken_o).",
        "Results of the pipeline that protocol 'published' follows are not directly comparable: it reshuffled without "
        "a seed at every start, over a cache indexed by position, so that from the second run on a fifth to a third of "
        "its test samples had been trained on; it paired recordings without comparing their labels; and it has no "
        "validation set. Its sizes, counts and normalization are reproduced, its leaks are not.",
        "The 64 channels as an 8 x 8 image (published) have neighbors that are not neighbors in pitch.",
    ),
)


class MnistDvsNTidigitsSpec(FileDataSpec):
    """Written digits recorded by an event camera with spoken digits from a silicon cochlea, paired by class."""

    kind: Literal["mnistdvs-ntidigits"] = "mnistdvs-ntidigits"
    """MNIST-DVS with N-TIDIGITS18."""

    protocol: Literal["events", "published"] = "events"
    """events: counts [T, 2, 128, 128] and [T, 64], as recorded. published: 28 x 28, the written digits normalized like
    MNIST pixels, the 64 channels as 8 x 8 resized to 28 x 28; 500 pairs per class."""

    time_steps: int = Field(default=4, ge=1, le=1000)
    """Time steps T of each recording."""

    scales: tuple[Scale, ...] = Field(default=(4,), min_length=1)
    """Scales of MNIST-DVS to read; each has the same 10,000 symbols."""

    spoken_o: Literal["leave_out", "zero"] = "leave_out"
    """Utterances of 'oh' for zero: left out, or read as a zero."""

    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the symbols, and of the training utterances in whole speakers, for validation."""

    test_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the symbols for testing; utterances are as published, about half."""

    train_per_class: int | None = Field(default=None, ge=1)
    """Training pairs per class; recordings repeat if there are fewer. None: 500 for published, otherwise every
    recording of the larger modality once."""

    val_per_class: int | None = Field(default=None, ge=1)
    """The same for validation; None: 100 for published."""

    test_per_class: int | None = Field(default=None, ge=1)
    """The same for testing; None: 500 for published."""

    size: int | None = Field(default=None, ge=4, le=128)
    """Height and width in pixels, events of merged pixels adding up; None: 28 for published, otherwise 128."""

    shift: int = Field(default=4, ge=0, le=64)
    """Largest random shift of written digits in training, in pixels."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Assign recordings to splits, pair them, and read each pair once."""
        from snn_datasets.loading.recorded import build_splits

        chosen = self.selected_modalities()
        items_of: dict[str, dict[Split, list[Item]]] = {}
        if "visual" in chosen:
            items_of["visual"] = symbols(
                self.root, scales=self.scales, val=self.val_fraction, test=self.test_fraction, seed=self.seed
            )
        if "audio" in chosen:
            items_of["audio"] = spoken_digits(self.root, spoken_o=self.spoken_o, val=self.val_fraction, seed=self.seed)
        per_class: dict[Split, int | None] = {
            "train": self.train_per_class,
            "val": self.val_per_class,
            "test": self.test_per_class,
        }
        if self.protocol == "published":
            per_class = {split: per_class[split] or PUBLISHED_PER_CLASS[split] for split in SPLITS}
        return build_splits(
            self,
            classes=DIGITS,
            rows=paired_rows({name: items_of[name] for name in chosen}, per_class=per_class, seed=self.seed),
            modalities={name: self._visual() if name == "visual" else self._audio() for name in chosen},
            notes=(CARD.notes[0],),
            progress=progress,
        )

    def _side(self) -> int:
        return self.size or (PUBLISHED_SIDE if self.protocol == "published" else SIDE)

    def _visual(self) -> Modality:
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.aedat import Aedat2Reader
        from snn_datasets.modalities.events import ScalePlane, Shift
        from snn_datasets.modalities.images import Normalize
        from snn_datasets.stages.codings import EventFrames

        side = self._side()
        is_published = self.protocol == "published"
        unit = "events by pixel and step, minus 0.1307, over 0.3081" if is_published else "events by pixel and step"
        return Modality(
            Aedat2Reader(),
            ModalityInfo("events", (2, side, side), self.time_steps, unit),
            cached=() if side == SIDE else (ScalePlane(height=side, width=side),),
            augment=(Shift(pixels=self.shift),) if self.shift else (),
            per_read=(
                EventFrames(steps=self.time_steps),
                *((Normalize(mean=(0.1307, 0.1307), std=(0.3081, 0.3081)),) if is_published else ()),
            ),
        )

    def _audio(self) -> Modality:
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.hdf5 import NTIDIGITS_CHANNELS, NTidigitsReader
        from snn_datasets.modalities.events import FlattenFrames, Fold, StretchFrames
        from snn_datasets.stages.codings import EventFrames

        count = EventFrames(steps=self.time_steps)
        if self.protocol == "events":
            info = ModalityInfo("events", (NTIDIGITS_CHANNELS,), self.time_steps, "events by channel and step")
            return Modality(NTidigitsReader(), info, per_read=(count, FlattenFrames()))
        side = self._side()
        info = ModalityInfo("events", (1, side, side), self.time_steps, "events by channel and step, interpolated")
        return Modality(
            NTidigitsReader(),
            info,
            cached=(Fold(height=8, width=8),),
            per_read=(count, StretchFrames(height=side, width=side)),
        )


def symbols(
    root: Path, *, scales: Sequence[Scale] = (4,), val: float, test: float, seed: int = 0
) -> dict[Split, list[Item]]:
    """Return the recordings of MNIST-DVS by split; the group of each is its symbol, so its scales stay together.

    Raises:
        FileNotFoundError: one of the scales has no recording under the root.
        ValueError: val and test leave nothing for training, or a split is empty.
    """
    root = absolute_path(root)
    by_split: dict[Split, list[Item]] = {"train": [], "val": [], "test": []}
    missing = set(scales)
    for path in sorted(root.glob(_SYMBOLS)):
        match = _RECORDING.fullmatch(path.name)
        if match is None or int(match[2]) not in scales:
            continue
        missing -= {int(match[2])}
        group = f"mnist_{match[1]}_{match[3]}"
        split = split_of(group, val=val, test=test, seed=seed)
        by_split[split].append(Item(path.stem, int(match[1]), Source(path), group))
    if missing:
        raise FileNotFoundError(
            f"no {_SYMBOLS} of scale {min(missing)} under {root}; MNIST-DVS ({MNIST_DVS_SOURCE}) must be stored there, "
            f"such as grabbed_data3/scale{min(missing)}/mnist_3_scale{min(missing):02d}_0001.aedat"
        )
    require_samples(by_split, f"complete MNIST-DVS under {root}, or choose another seed or other fractions")
    return by_split


def spoken_digits(
    root: Path, *, spoken_o: Literal["leave_out", "zero"] = "leave_out", val: float, seed: int = 0
) -> dict[Split, list[Item]]:
    """Return the utterances of single digits of N-TIDIGITS18 by split; the group of each is its speaker.

    Raises:
        FileNotFoundError: n-tidigits.hdf5 is not under the root.
        ReadError: it is damaged.
        ImportError: h5py is not installed.
        ValueError: a speaker is in training and in test, or a split is empty.
    """
    from snn_datasets.formats.hdf5 import ntidigits_labels

    path = absolute_path(root) / _UTTERANCES
    if not path.is_file():
        raise FileNotFoundError(
            f"no {_UTTERANCES} under {root}; N-TIDIGITS18 ({N_TIDIGITS_SOURCE}) must be stored there"
        )
    digit_of = {**{digit: int(digit) for digit in DIGITS[1:]}, "z": 0, **({"o": 0} if spoken_o == "zero" else {})}
    parts: tuple[Literal["train", "test"], ...] = ("train", "test")
    read: dict[str, list[Item]] = {part: [] for part in parts}
    for part in parts:
        for label in sorted(ntidigits_labels(path, part)):
            fields = label.split("-")
            if len(fields) != 4:
                raise ReadError(f"{path}: {label[:80]!r} is not gender-speaker-take-digits; fetch it again")
            if fields[3] in digit_of:  # others are several digits in a row
                group = f"{fields[0]}-{fields[1]}"
                read[part].append(Item(f"{part}/{label}", digit_of[fields[3]], Source(path, (part, label)), group))
    shared = {item.group for item in read["train"]} & {item.group for item in read["test"]}
    if shared:
        raise ValueError(f"speaker {min(shared)} is in training and in test of {path}; use the published file")
    if not read["train"]:
        raise ValueError(f"{path} has no single digit for training; fetch it again")
    train, validation = carve_items(read["train"], fraction=val, seed=seed)
    by_split: dict[Split, list[Item]] = {"train": train, "val": validation, "test": read["test"]}
    require_samples(by_split, f"complete {path}, or choose another seed or fraction")
    return by_split
