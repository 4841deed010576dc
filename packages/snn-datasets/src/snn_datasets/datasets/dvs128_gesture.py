"""DVS128 Gesture: hand and arm gestures in front of an event camera."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from snn_datasets.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.dataset import DatasetInfo, DatasetSplits, FileDataSpec, ModalityInfo, Progress, Split
from snn_datasets.on_disk import read_text
from snn_datasets.pairing import Item
from snn_datasets.reader import ReadError, Source
from snn_datasets.splits import carve_by_group

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
    license_note="as remembered; the page of the dataset states what holds",
    citation="Amir et al. 2017, A low power, fully event-based gesture recognition system, CVPR",
    sources=("IBM Research, DvsGesture.tar.gz (MD5 8a5c71fb11e24e5ca5b11866ca6c00a1), unpacked",),
    files=(
        FileSet(pattern="trials_to_train.txt", what="names of the recordings for training", count=1),
        FileSet(pattern="trials_to_test.txt", what="names of the recordings for testing", count=1),
        FileSet(pattern="user*.aedat", what="AEDAT 3.1, one user's gestures in one light"),
        FileSet(pattern="user*_labels.csv", what="class (1 to 11), start and end in microseconds of each gesture"),
    ),
    classes=CLASSES,
    modalities={"visual": ModalityCard(kind="events", shape="[T, 2, plane, plane]", unit="events by pixel and step")},
    splits="training and test as published, users 1 to 23 and 24 to 29; validation is whole users out of training",
    notes=(
        "1,176 gestures for training and 288 for testing, each of some seconds.",
        "In some recordings (user22_led) the end of a gesture is after the start of the next; what is between is in "
        "both.",
        "A gesture that begins after the last event of its recording, or of which less than half lies before it, is an "
        "error: the recording is cut off, or the labels are those of another.",
    ),
)


class Dvs128GestureSpec(FileDataSpec):
    """Eleven hand and arm gestures by 29 users in three to five lights, seen by an event camera (DVS128 Gesture)."""

    kind: Literal["dvs128-gesture"] = "dvs128-gesture"
    """Names this dataset."""

    val: float = Field(default=0.15, gt=0, lt=1)
    """Share of the training gestures for validation, in whole users."""

    time_steps: int = Field(default=16, ge=1, le=10_000)
    """Steps T that each gesture is split into."""

    bins: Literal["time", "count"] = "time"
    """What each step gets: an equal part of the gesture's time, or of its events."""

    plane: int = Field(default=128, ge=1, le=128)
    """Side of the plane in pixels; less than 128 merges neighbors, their events add up."""

    shift: int = Field(default=0, ge=0, le=64)
    """Furthest random shift of training samples, in pixels of the plane."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Cut the recordings into gestures and read them once.

        Raises:
            FileNotFoundError: a list, or the labels of a listed recording, are not under the root.
            ReadError: a list or labels cannot be read.
            ValueError: a user is in both lists.
        """
        from snn_datasets.aedat import Aedat3Reader
        from snn_datasets.encoding import EventFrames
        from snn_datasets.events import ScalePlane, Shift
        from snn_datasets.modality import Modality
        from snn_datasets.recorded import Row, build_splits

        (name,) = self.selected_modalities()
        dealt = gestures(self.root, val=self.val, seed=self.seed)
        info = ModalityInfo("events", (2, self.plane, self.plane), self.time_steps, "events by pixel and step")
        modality = Modality(
            Aedat3Reader(height=SIDE, width=SIDE),
            info,
            prepare=() if self.plane == SIDE else (ScalePlane(height=self.plane, width=self.plane),),
            augment=(Shift(pixels=self.shift),) if self.shift else (),
            encode=(EventFrames(steps=self.time_steps, by=self.bins),),
        )
        return build_splits(
            self,
            info=DatasetInfo(CARD.kind, CLASSES, {name: info}),
            rows={
                split: [Row(item.id, item.label, {name: item.source}) for item in items]
                for split, items in dealt.items()
            },
            modalities={name: modality},
            progress=progress,
        )


def gestures(root: Path, *, val: float, seed: int = 0) -> dict[Split, list[Item]]:
    """The gestures of DVS128 Gesture by split, each of its user's group.

    Raises:
        FileNotFoundError: a list, or the labels of a listed recording, are not under the root.
        ReadError: a list or labels cannot be read.
        ValueError: a user is in both lists.
    """
    root = root.expanduser()
    listed = {part: list(_gestures_of(root, name)) for part, name in LISTS.items()}
    training, testing = listed["train"], listed["test"]
    both = {item.group for item in training} & {item.group for item in testing}
    if both:
        raise ValueError(
            f"{min(both)} is in both of {' and '.join(LISTS.values())} under {root}; take them as published"
        )
    validating = carve_by_group(
        [item.group for item in training], [str(item.label) for item in training], fraction=val, seed=seed
    )
    return {
        "train": [item for item in training if item.group not in validating],
        "val": [item for item in training if item.group in validating],
        "test": testing,
    }


def _gestures_of(root: Path, name: str) -> Iterator[Item]:
    """The gestures of all recordings that a list names."""
    path = root / name
    if not path.is_file():
        raise FileNotFoundError(
            f"no {name} under {root}; {CARD.kind} ({CARD.sources[0]}) has to lie there as\n{CARD.layout()}"
        )
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ReadError(f"{path} names no recording; fetch it again")
    for recording in names:
        match = _RECORDING.fullmatch(recording)
        if match is None:
            raise ReadError(f"{path} names {recording[:80]!r}, which is no user<number>_<light>.aedat; fetch it again")
        stem = recording.removesuffix(".aedat")
        for number, (label, start, end) in enumerate(_labels(root / f"{stem}_labels.csv")):
            yield Item(f"{stem}/{number:02d}", label, Source(root / recording, (start, end)), match[1])


def _labels(path: Path) -> Iterator[tuple[int, int, int]]:
    """Class from 0 on, start and end in microseconds of each gesture of a recording."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; it says when the gestures of its recording are")
    lines = list(csv.reader(read_text(path).splitlines()))
    # The published files begin with the names of the columns, which some copies lack.
    first = 1 if lines and any(character.isalpha() for cell in lines[0] for character in cell) else 0
    if not any(lines[first:]):
        raise ReadError(f"{path} names no gesture; fetch it again")
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        try:
            label, start, end = map(int, line)
        except ValueError as error:
            raise ReadError(f"{path}, line {number} is not class,start,end in whole numbers; fetch it again") from error
        if not (1 <= label <= len(CLASSES) and 0 <= start < end):
            raise ReadError(
                f"{path}, line {number} says class {label} from {start} to {end} us, but classes are 1 to "
                f"{len(CLASSES)} and a gesture ends after its start; fetch it again"
            )
        yield label - 1, start, end
