"""Hand gestures recorded by EMG, an event camera and a frame camera (Ceolini et al. 2020)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.formats.hand_gesture_arrays import (
    DAVIS_SIZE,
    DVS_SIDE,
    END_OF,
    FRAMES_SUFFIX,
    GESTURES,
    MUSCLES,
    RATE,
    GestureEventsReader,
    GestureFramesReader,
    map_emg,
    repetitions,
)
from snn_datasets.loading.on_disk import absolute_path, find_files, require_samples
from snn_datasets.modalities.series import Rectify, SeriesReader, Standardize

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.loading.recorded import Row


_SESSION = re.compile(r"subject(\d+)_session(\d+)_ann\.npy")

CARD = DatasetCard(
    kind="hand-gestures",
    title="EMG and event-camera recordings of hand gestures",
    version="Zenodo record 3663616, 2020",
    license="LicenseRef-unknown",
    license_note="stated only in the record at Zenodo, not in the files",
    citation=(
        "Ceolini et al. 2020, Hand-gesture recognition based on EMG and event-based camera sensor fusion: a benchmark "
        "in neuromorphic computing, Frontiers in Neuroscience 14:637, doi:10.3389/fnins.2020.00637"
    ),
    sources=("Zenodo, record 3663616 (any version: doi:10.5281/zenodo.3228845)",),
    files=(
        FileSet(pattern="subject*_session*_ann.npy", what="gesture at each EMG sample", count=30),
        FileSet(pattern="subject*_session*_emg.npy", what="EMG [L, 8] at 200 Hz", count=30, modalities=("emg",)),
        FileSet(
            pattern="subject*_session*_dvs.npy",
            what="events [4, E]: x, y, seconds since the trigger, polarity",
            count=30,
            modalities=("dvs",),
        ),
        FileSet(
            pattern=f"subject*_session*{FRAMES_SUFFIX}",
            what="frames [F, 180, 240], with their times in a second file; convert_davis writes both from *_davis.npz",
            count=30,
            modalities=("davis",),
        ),
    ),
    classes=GESTURES,
    modalities={
        "emg": ModalityCard(kind="series", shape="[T, 8], or [T, 16] up and down", unit="standard deviations"),
        "dvs": ModalityCard(kind="events", shape="[T, 2, 128/pool, 128/pool]", unit="events by pixel and step"),
        "davis": ModalityCard(kind="video", shape="[T, 1, 180/pool, 240/pool]", unit="brightness, 0 to 1"),
    },
    splits=(
        "by session (1 for training, 2 for validation, 3 for testing, every subject in all of them) or by subject (8 "
        "for validation, 9 and 10 for testing, no subject in two splits); a window lies within one repetition of a "
        "gesture"
    ),
    notes=(
        "10 subjects, 3 sessions each, 5 gestures, 5 repetitions of about 2 s in each session, rest between them.",
        "The two splits measure different things: with split='session' every subject is in training.",
        "Raw .aedat files have the cameras' clocks; times in .npy files count from the trigger shared with the EMG.",
        "The published frames are pickled Python objects, which can run code when read; see convert_davis.",
    ),
)


class HandGesturesSpec(FileDataSpec):
    """Five hand gestures recorded by 8 EMG channels, an event camera and a frame camera (Ceolini et al. 2020)."""

    kind: Literal["hand-gestures"] = "hand-gestures"

    split: Literal["session", "subject"] = "session"
    """Unit of the split: sessions, so that every subject is in all splits, or subjects."""

    val_groups: tuple[int, ...] = ()
    """Sessions (or subjects) for validation, by number; empty means session 2, or subject 8."""

    test_groups: tuple[int, ...] = ()
    """Sessions (or subjects) for testing, by number; empty means session 3, or subjects 9 and 10."""

    window_ms: float = Field(default=200.0, ge=20.0, le=2000.0)
    """Length of a sample in milliseconds."""

    stride_ms: float = Field(default=200.0, ge=5.0, le=2000.0)
    """Offset between the starts of consecutive samples of a repetition in milliseconds."""

    time_steps: int = Field(default=10, ge=1, le=1000)
    """Time steps T of each window, for every modality."""

    pool: Literal[1, 2, 4] = 4
    """Side in pixels of the squares that are pooled: event counts are summed, brightness is averaged."""

    emg_coding: Literal["steps", "send-on-delta"] = "steps"
    """Coding of EMG: mean absolute value of each step, or up and down events of change."""

    emg_threshold: float = Field(default=0.5, gt=0)
    """Threshold of send-on-delta, in standard deviations of the channel."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Split the repetitions into windows and read them once."""
        from snn_datasets.loading.recorded import build_splits

        rows, cut = self._rows()
        modalities = {name: self._modality(name, rows["train"]) for name in self.selected_modalities()}
        notes = (CARD.notes[1],) if self.split == "session" else ()
        if cut:
            notes += (
                f"{cut:,} windows of the annotations are left out, because a recording of "
                f"{' or '.join(name for name in self.selected_modalities() if name != 'davis')} ends before them.",
            )
        return build_splits(self, classes=GESTURES, rows=rows, modalities=modalities, notes=notes, progress=progress)

    def _rows(self) -> tuple[dict[Split, list[Row]], int]:
        """Return the windows by split, and the number of windows past the end of a recording."""
        from snn_datasets.loading.recorded import Row

        by_session = self.split == "session"
        val = self.val_groups or ((2,) if by_session else (8,))
        test = self.test_groups or ((3,) if by_session else (9, 10))
        if set(val) & set(test):
            raise ValueError(
                f"{self.split} {min(set(val) & set(test))} is in val_groups and in test_groups; remove it from one"
            )
        root = absolute_path(self.root)
        pattern = CARD.files[0].pattern
        annotations = [path for path in find_files(root, pattern, CARD) if _SESSION.fullmatch(path.name)]
        length, stride = (max(1, round(ms * RATE / 1000)) for ms in (self.window_ms, self.stride_ms))
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        cut = 0
        for path in annotations:
            match = _SESSION.fullmatch(path.name)
            assert match is not None
            number = int(match[2] if by_session else match[1])
            split: Split = "test" if number in test else "val" if number in val else "train"
            stem = path.name.removesuffix("_ann.npy")
            files = {"emg": f"{stem}_emg.npy", "dvs": f"{stem}_dvs.npy", "davis": f"{stem}{FRAMES_SUFFIX}"}
            ends = [END_OF[name](root / files[name]) for name in self.selected_modalities() if name in END_OF]
            last = min((end for end in ends if end is not None), default=None)
            for label, first, end in repetitions(path):
                for start in range(first, end - length + 1, stride):
                    # Recordings may end slightly before their annotations.
                    if last is not None and start + length > last:
                        cut += 1
                        continue
                    part = (start / RATE, (start + length) / RATE)
                    sources = {name: Source(root / files[name], part) for name in self.selected_modalities()}
                    rows[split].append(Row(f"{stem}/{start:06d}", label, sources))
        require_samples(
            rows,
            f"{self.split}s {val} are for validation and {test} for testing, of {len(annotations)} sessions under "
            f"{root}: complete the dataset, choose other groups, or a window_ms shorter than {self.window_ms:g}",
        )
        return rows, cut

    def _modality(self, name: str, train: Sequence[Row]) -> Modality:
        from snn_datasets.base.modality import Modality
        from snn_datasets.modalities.events import ScalePlane
        from snn_datasets.modalities.images import Resize
        from snn_datasets.stages.codings import EventFrames, Frames, SendOnDelta, Steps

        if name == "dvs":
            side = DVS_SIDE // self.pool
            info = ModalityInfo("events", (2, side, side), self.time_steps, "events by pixel and step")
            pooled = ScalePlane(height=side, width=side)
            return Modality(GestureEventsReader(), info, (pooled,), per_read=(EventFrames(steps=self.time_steps),))
        if name == "davis":
            height, width = (length // self.pool for length in DAVIS_SIZE)
            info = ModalityInfo("video", (1, height, width), self.time_steps, "brightness, 0 to 1")
            pooled = Resize(height=height, width=width)
            return Modality(GestureFramesReader(), info, (pooled,), per_read=(Frames(steps=self.time_steps),))
        reader = SeriesReader(rate=RATE, columns=tuple(range(MUSCLES)))
        scale = self._muscle_scale(train)
        if self.emg_coding == "send-on-delta":
            info = ModalityInfo("series", (2 * MUSCLES,), self.time_steps, "changes up, then down, by step")
            coding = SendOnDelta(steps=self.time_steps, threshold=self.emg_threshold)
            return Modality(reader, info, per_read=(scale, coding))
        info = ModalityInfo("series", (MUSCLES,), self.time_steps, "mean absolute value in standard deviations")
        return Modality(reader, info, per_read=(scale, Rectify(), Steps(steps=self.time_steps)))

    def _muscle_scale(self, train: Sequence[Row]) -> Standardize:
        """Return the mean and standard deviation of the EMG in the training windows."""
        spans: defaultdict[Path, list[tuple[int, int]]] = defaultdict(list)
        for row in train:
            source = row.sources["emg"]
            assert source is not None
            first, end = (round(float(bound) * RATE) for bound in source.part)
            spans[source.path].append((first, end))
        windows: list[NDArray[np.float64]] = []
        for path, path_spans in spans.items():
            try:
                muscles = map_emg(path)
            except (ReadError, FileNotFoundError):
                if self.on_error == "stop":
                    raise
                continue
            windows += [muscles[first:end].astype(np.float64) for first, end in path_spans]
        return Standardize.of(np.concatenate(windows) if windows else np.zeros((0, MUSCLES)))
