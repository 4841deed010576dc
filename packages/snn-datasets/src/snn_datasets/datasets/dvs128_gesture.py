"""DVS128 Gesture: hand and arm gestures in front of an event camera."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.loading.on_disk import absolute_path, find_file, read_text
from snn_datasets.loading.pairing import Item, carve_items, rows_of_modality

CLASSES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
    *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)
SIDE = 128
LISTS: dict[str, str] = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}

_RECORDING = re.compile(r"(user\d+)_\w+\.aedat")

CARD = DatasetCard(
    kind="dvs128-gesture",
    title="DVS128 Gesture",
    version="2017",
    license="CC-BY-4.0",
    license_note="not verified; see the page of the dataset",
    citation="Amir et al. 2017, A low power, fully event-based gesture recognition system, CVPR",
    sources=("IBM Research, DvsGesture.tar.gz (MD5 8a5c71fb11e24e5ca5b11866ca6c00a1), unpacked",),
    files=(
        FileSet(pattern="trials_to_train.txt", what="names of the recordings for training", count=1),
        FileSet(pattern="trials_to_test.txt", what="names of the recordings for testing", count=1),
        FileSet(pattern="user*.aedat", what="AEDAT 3.1, one user's gestures in one light"),
        FileSet(pattern="user*_labels.csv", what="class (1 to 11), start and end in microseconds of each gesture"),
    ),
    classes=CLASSES,
    modalities={"visual": ModalityCard(kind="events", shape="[T, 2, size, size]", unit="events by pixel and step")},
    splits="training and test as published, users 1 to 23 and 24 to 29; validation is whole users from training",
    notes=(
        "1,176 gestures for training and 288 for testing, each some seconds long.",
        "In some recordings (user22_led) a gesture ends after the start of the next; the overlap is in both.",
        "A gesture of which less than half lies before the last event of its recording is an error: the recording is "
        "truncated, or the labels belong to another one.",
    ),
)


class Dvs128GestureSpec(FileDataSpec):
    """Eleven hand and arm gestures by 29 users under three to five illuminations, recorded by an event camera."""

    kind: Literal["dvs128-gesture"] = "dvs128-gesture"
    """DVS128 Gesture."""

    val_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Fraction of the training gestures for validation, in whole users."""

    time_steps: int = Field(default=16, ge=1, le=10_000)
    """Time steps T of each gesture."""

    bins: Literal["time", "count"] = "time"
    """Whether steps have equal duration or equally many events."""

    size: int = Field(default=128, ge=1, le=128)
    """Height and width in pixels; less than 128 merges neighbors, whose events add up."""

    shift: int = Field(default=0, ge=0, le=64)
    """Largest random shift of training samples in pixels."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Split the recordings into gestures and read them once."""
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.aedat import Aedat3Reader
        from snn_datasets.loading.recorded import build_splits
        from snn_datasets.modalities.events import ScalePlane, Shift
        from snn_datasets.stages.codings import EventFrames

        (name,) = self.selected_modalities()
        info = ModalityInfo("events", (2, self.size, self.size), self.time_steps, "events by pixel and step")
        modality = Modality(
            Aedat3Reader(height=SIDE, width=SIDE),
            info,
            cached=() if self.size == SIDE else (ScalePlane(height=self.size, width=self.size),),
            augment=(Shift(pixels=self.shift),) if self.shift else (),
            per_read=(EventFrames(steps=self.time_steps, by=self.bins),),
        )
        return build_splits(
            self,
            classes=CLASSES,
            rows=rows_of_modality(name, gestures(self.root, val=self.val_fraction, seed=self.seed)),
            modalities={name: modality},
            progress=progress,
        )


def gestures(root: Path, *, val: float, seed: int = 0) -> dict[Split, list[Item]]:
    """Return the gestures of DVS128 Gesture by split; the group of each is its user.

    Raises:
        FileNotFoundError: a list, or the labels of a listed recording, are missing.
        ReadError: a list or labels cannot be read.
        ValueError: a user is in both lists.
    """
    root = absolute_path(root)
    train, test = (list(_gestures_of(root, LISTS[part])) for part in ("train", "test"))
    shared = {item.group for item in train} & {item.group for item in test}
    if shared:
        raise ValueError(
            f"{min(shared)} is in both {' and '.join(LISTS.values())} under {root}; use the published lists"
        )
    remaining, validation = carve_items(train, fraction=val, seed=seed)
    return {"train": remaining, "val": validation, "test": test}


def _gestures_of(root: Path, name: str) -> Iterator[Item]:
    """Yield the gestures of all recordings in a list."""
    path = find_file(root, name, CARD)
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ReadError(f"{path} lists no recording; fetch it again")
    for recording in names:
        match = _RECORDING.fullmatch(recording)
        if match is None:
            raise ReadError(f"{path} lists {recording[:80]!r}, which is not user<number>_<light>.aedat; fetch it again")
        stem = recording.removesuffix(".aedat")
        for number, (label, start, end) in enumerate(_labels(root / f"{stem}_labels.csv")):
            yield Item(f"{stem}/{number:02d}", label, Source(root / recording, (start, end)), match[1])


def _labels(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield class (from 0), start and end in microseconds of each gesture of a recording."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; it holds the times of the gestures in its recording")
    lines = list(csv.reader(read_text(path).splitlines()))
    # The published files have a header line, which some copies lack.
    first = 1 if lines and any(character.isalpha() for cell in lines[0] for character in cell) else 0
    if not any(lines[first:]):
        raise ReadError(f"{path} lists no gesture; fetch it again")
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        try:
            label, start, end = map(int, line)
        except ValueError as error:
            raise ReadError(f"{path}, line {number} is not class,start,end as integers; fetch it again") from error
        if not (1 <= label <= len(CLASSES) and 0 <= start < end):
            raise ReadError(
                f"{path}, line {number} has class {label} from {start} to {end} us, but classes are 1 to "
                f"{len(CLASSES)} and a gesture must end after its start; fetch it again"
            )
        yield label - 1, start, end
