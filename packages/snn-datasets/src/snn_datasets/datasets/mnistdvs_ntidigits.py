"""Written and spoken digits as events: MNIST-DVS paired with N-TIDIGITS18."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from snn_datasets.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, FileDataSpec, ModalityInfo, Progress, Split
from snn_datasets.pairing import Item, pair_by_label
from snn_datasets.reader import ReadError, Source
from snn_datasets.splits import carve_by_group, split_of

if TYPE_CHECKING:
    from snn_datasets.modality import Modality

DIGITS = tuple("0123456789")
SIDE = 128
"""Of the camera."""
PUBLISHED_SIDE = 28
PUBLISHED_PER_CLASS: dict[Split, int] = {"train": 500, "val": 100, "test": 500}

Scale = Literal[4, 8, 16]

_RECORDING = re.compile(r"mnist_(\d)_scale(04|08|16)_(\d+)\.aedat")
_SYMBOLS = "grabbed_data[0-9]/scale*/mnist_*.aedat"
_UTTERANCES = "n-tidigits.hdf5"

MNIST_DVS_FILES = FileSet(
    pattern=_SYMBOLS,
    what="MNIST-DVS, such as grabbed_data3/scale4/mnist_3_scale04_0001.aedat; other scales than asked for may lack",
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
        "the page of MNIST-DVS states none; N-TIDIGITS18 is made from TIDIGITS of the Linguistic Data Consortium and "
        "may not be passed on"
    ),
    citation=(
        "Serrano-Gotarredona and Linares-Barranco 2015, Frontiers in Neuroscience 9:481, doi:10.3389/fnins.2015.00481; "
        "Anumula et al. 2018, Frontiers in Neuroscience 12:23, doi:10.3389/fnins.2018.00023"
    ),
    sources=(MNIST_DVS_SOURCE, N_TIDIGITS_SOURCE),
    files=(MNIST_DVS_FILES, N_TIDIGITS_FILES),
    classes=DIGITS,
    modalities={
        "visual": ModalityCard(kind="events", shape="[T, 2, plane, plane]", unit="events by pixel and step"),
        "audio": ModalityCard(
            kind="events", shape="[T, 64]; published: [T, 1, plane, plane]", unit="events by channel and step"
        ),
    },
    splits=(
        "Symbols are dealt by a hash of digit and number, so that one symbol's recordings at three scales stay "
        "together; utterances keep their published training and test speakers, and validation is whole speakers out of "
        "training. Pairs are made within a split: no symbol and no speaker is in two."
    ),
    notes=(
        "The two senses were never recorded together: each pair is a written and a spoken digit of the same class.",
        "MNIST-DVS holds 10,000 symbols at scales 4, 8 and 16; N-TIDIGITS18 about 225 utterances of each digit in "
        "training and as many in test, so an utterance is heard with several symbols.",
        "Zero is spoken 'zero' (z) or 'oh' (o). 'oh' is left out unless asked for.",
        "Numbers of the pipeline that protocol 'published' follows are not comparable one to one: it shuffled anew, "
        "without a seed, at every start, over a cache by position, so that from the second run on a fifth to a third "
        "of its test samples had been trained on; it paired recordings without comparing their labels; and it has no "
        "validation set. Its planes, counts and normalization are kept, its leaks are not.",
        "The 64 channels as a picture of 8 x 8 (published) have neighbors in it that are none in pitch.",
    ),
)


class MnistDvsNTidigitsSpec(FileDataSpec):
    """Written digits seen by an event camera with spoken digits heard by a silicon cochlea, paired by class."""

    kind: Literal["mnistdvs-ntidigits"] = "mnistdvs-ntidigits"
    """Names this dataset."""

    protocol: Literal["events", "published"] = "events"
    """events: counts [T, 2, 128, 128] and [T, 64], as recorded. published: planes of 28 x 28, the written digits
    normalized as MNIST's pixels are, the 64 channels as 8 x 8 stretched to 28 x 28; 500 pairs a class."""

    time_steps: int = Field(default=4, ge=1, le=1000)
    """Steps T that the time of each recording is split into."""

    scales: tuple[Scale, ...] = Field(default=(4,), min_length=1)
    """Scales of MNIST-DVS to read; each has the same 10,000 symbols."""

    spoken_o: Literal["leave_out", "zero"] = "leave_out"
    """What becomes of 'oh' for zero: left out, or read as a zero."""

    val: float = Field(default=0.1, gt=0, lt=1)
    """Share of symbols, and of the training utterances in whole speakers, for validation."""

    test: float = Field(default=0.5, gt=0, lt=1)
    """Share of symbols for testing. Utterances are as published, about half."""

    train_per_class: int | None = Field(default=None, ge=1)
    """Pairs of each class for training; recordings repeat where there are fewer. None: 500 as published, otherwise
    every recording of the sense that has more of them once."""

    val_per_class: int | None = Field(default=None, ge=1)
    """The same for validation; None: 100 as published."""

    test_per_class: int | None = Field(default=None, ge=1)
    """The same for testing; None: 500 as published."""

    plane: int | None = Field(default=None, ge=4, le=128)
    """Side of planes in pixels, events of merged pixels adding up; None: 28 as published, otherwise 128."""

    shift: int = Field(default=4, ge=0, le=64)
    """Furthest random shift of written digits in training, in pixels of the plane."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Deal recordings to splits, pair them, and read each pair once.

        Raises:
            FileNotFoundError: a sense that is asked for is not under the root.
            ReadError: n-tidigits.hdf5 is damaged.
            ImportError: h5py is not installed.
            ValueError: a split has no recording of some class.
        """
        from snn_datasets.recorded import Row, build_splits

        chosen = self.selected_modalities()
        dealt: dict[str, dict[Split, list[Item]]] = {}
        if "visual" in chosen:
            dealt["visual"] = symbols(self.root, scales=self.scales, val=self.val, test=self.test, seed=self.seed)
        if "audio" in chosen:
            dealt["audio"] = spoken_digits(self.root, spoken_o=self.spoken_o, val=self.val, seed=self.seed)
        per_class: dict[Split, int | None] = {
            "train": self.train_per_class,
            "val": self.val_per_class,
            "test": self.test_per_class,
        }
        rows: dict[Split, list[Row]] = {}
        for split in SPLITS:
            pairs = pair_by_label(
                {name: dealt[name][split] for name in chosen},
                per_class=per_class[split] or (PUBLISHED_PER_CLASS[split] if self.protocol == "published" else None),
                seed=self.seed,
            )
            rows[split] = [
                Row(
                    f"{split}-{pair[0].label}-{number:05d}",
                    pair[0].label,
                    {name: item.source for name, item in zip(chosen, pair, strict=True)},
                )
                for number, pair in enumerate(pairs)
            ]
        modalities = {name: self._visual() if name == "visual" else self._audio() for name in chosen}
        return build_splits(
            self,
            info=DatasetInfo(CARD.kind, DIGITS, {name: m.info for name, m in modalities.items()}, (CARD.notes[0],)),
            rows=rows,
            modalities=modalities,
            progress=progress,
        )

    def _side(self) -> int:
        return self.plane or (PUBLISHED_SIDE if self.protocol == "published" else SIDE)

    def _visual(self) -> Modality:
        from snn_datasets.aedat import Aedat2Reader
        from snn_datasets.encoding import EventFrames
        from snn_datasets.events import ScalePlane, Shift
        from snn_datasets.images import Normalize
        from snn_datasets.modality import Modality

        side = self._side()
        published = self.protocol == "published"
        unit = "events by pixel and step, less 0.1307, over 0.3081" if published else "events by pixel and step"
        return Modality(
            Aedat2Reader(),
            ModalityInfo("events", (2, side, side), self.time_steps, unit),
            prepare=() if side == SIDE else (ScalePlane(height=side, width=side),),
            augment=(Shift(pixels=self.shift),) if self.shift else (),
            encode=(
                EventFrames(steps=self.time_steps),
                *((Normalize(mean=(0.1307, 0.1307), std=(0.3081, 0.3081)),) if published else ()),
            ),
        )

    def _audio(self) -> Modality:
        from snn_datasets.encoding import EventFrames
        from snn_datasets.events import FlattenFrames, Fold, StretchFrames
        from snn_datasets.hdf5 import NTIDIGITS_CHANNELS, NTidigitsReader
        from snn_datasets.modality import Modality

        count = EventFrames(steps=self.time_steps)
        if self.protocol == "events":
            info = ModalityInfo("events", (NTIDIGITS_CHANNELS,), self.time_steps, "events by channel and step")
            return Modality(NTidigitsReader(), info, encode=(count, FlattenFrames()))
        side = self._side()
        info = ModalityInfo("events", (1, side, side), self.time_steps, "events by channel and step, interpolated")
        return Modality(
            NTidigitsReader(),
            info,
            prepare=(Fold(height=8, width=8),),
            encode=(count, StretchFrames(height=side, width=side)),
        )


def symbols(
    root: Path, *, scales: Sequence[Scale] = (4,), val: float, test: float, seed: int = 0
) -> dict[Split, list[Item]]:
    """The recordings of MNIST-DVS by split, each of its symbol's group: one symbol at three scales stays together.

    Raises:
        FileNotFoundError: there is none at one of the scales under the root.
        ValueError: val and test leave nothing for training, or a split stays empty.
    """
    root = root.expanduser()
    dealt: dict[Split, list[Item]] = {"train": [], "val": [], "test": []}
    lacking = set(scales)
    for path in sorted(root.glob(_SYMBOLS)):
        match = _RECORDING.fullmatch(path.name)
        if match is None or int(match[2]) not in scales:
            continue
        lacking -= {int(match[2])}
        group = f"mnist_{match[1]}_{match[3]}"
        split = split_of(group, val=val, test=test, seed=seed)
        dealt[split].append(Item(path.stem, int(match[1]), Source(path), group))
    if lacking:
        raise FileNotFoundError(
            f"no {_SYMBOLS} of scale {min(lacking)} under {root}; MNIST-DVS ({MNIST_DVS_SOURCE}) has to lie there, "
            f"such as grabbed_data3/scale{min(lacking)}/mnist_3_scale{min(lacking):02d}_0001.aedat"
        )
    _refuse_empty(dealt, f"MNIST-DVS under {root} with val {val:g}, test {test:g} and seed {seed}")
    return dealt


def spoken_digits(
    root: Path, *, spoken_o: Literal["leave_out", "zero"] = "leave_out", val: float, seed: int = 0
) -> dict[Split, list[Item]]:
    """The utterances of single digits of N-TIDIGITS18 by split, each of its speaker's group.

    Raises:
        FileNotFoundError: n-tidigits.hdf5 is not under the root.
        ReadError: it is damaged.
        ImportError: h5py is not installed.
        ValueError: a speaker is in training and in test, or a split stays empty.
    """
    from snn_datasets.hdf5 import ntidigits_labels

    path = root.expanduser() / _UTTERANCES
    if not path.is_file():
        raise FileNotFoundError(f"no {_UTTERANCES} under {root}; N-TIDIGITS18 ({N_TIDIGITS_SOURCE}) has to lie there")
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
    both = {item.group for item in read["train"]} & {item.group for item in read["test"]}
    if both:
        raise ValueError(f"speaker {min(both)} is in training and in test of {path}; take the file as published")
    if not read["train"]:
        raise ValueError(f"{path} has no single digit for training; complete it")
    validating = carve_by_group(
        [item.group for item in read["train"]], [str(item.label) for item in read["train"]], fraction=val, seed=seed
    )
    dealt: dict[Split, list[Item]] = {
        "train": [item for item in read["train"] if item.group not in validating],
        "val": [item for item in read["train"] if item.group in validating],
        "test": read["test"],
    }
    _refuse_empty(dealt, str(path))
    return dealt


def _refuse_empty(dealt: dict[Split, list[Item]], what: str) -> None:
    for split, items in dealt.items():
        if not items:
            raise ValueError(
                f"no recording falls to {split!r} of {what}; complete the dataset, or choose another seed or "
                "other shares"
            )
