"""Hand gestures recorded by EMG, an event camera and a frame camera (Ceolini et al. 2020)."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetInfo, DatasetSplits, FileDataSpec, ModalityInfo, Progress, Split
from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events, Video
from snn_datasets.formats.series_table import map_npy
from snn_datasets.loading.on_disk import absolute_path, find_files, require_samples
from snn_datasets.modalities.series import Rectify, SeriesReader, Standardize

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.loading.recorded import Row

GESTURES = ("pinky", "elle", "yo", "index", "thumb")
REST = "none"
RATE = 200
"""Rate of EMG and annotations in Hz."""
MUSCLES = 8
DVS_SIDE = 128
LONGEST_SECONDS = 3600
"""Longest session; the published ones last about two minutes."""
QUIET_SECONDS = 0.5
"""Time without events after which an event camera may still be recording."""
DAVIS_SIZE = (180, 240)
"""Height and width of DAVIS frames."""

_SESSION = re.compile(r"subject(\d+)_session(\d+)_ann\.npy")
_FRAMES, _TIMES = "_davis_frames.npy", "_davis_frames_time.npy"

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
            pattern=f"subject*_session*{_FRAMES}",
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

    @classmethod
    def card(cls) -> DatasetCard:
        """Return the dataset card."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Split the repetitions into windows and read them once.

        Raises:
            FileNotFoundError: there is no such file under the root, or frames were not converted.
            ReadError: annotations cannot be read.
            ValueError: a session or subject is in two splits, or a split is empty.
        """
        from snn_datasets.loading.recorded import build_splits

        rows, cut = self._rows()
        modalities = {name: self._modality(name, rows["train"]) for name in self.selected_modalities()}
        notes = (CARD.notes[1],) if self.split == "session" else ()
        if cut:
            notes += (
                f"{cut:,} windows of the annotations are left out, because a recording of "
                f"{' or '.join(name for name in self.selected_modalities() if name != 'davis')} ends before them.",
            )
        info = DatasetInfo(CARD.kind, GESTURES, {name: m.info for name, m in modalities.items()}, notes)
        return build_splits(self, info=info, rows=rows, modalities=modalities, progress=progress)

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
            files = {"emg": f"{stem}_emg.npy", "dvs": f"{stem}_dvs.npy", "davis": f"{stem}{_FRAMES}"}
            ends = [_END_OF[name](root / files[name]) for name in self.selected_modalities() if name in _END_OF]
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
            return Modality(GestureEventsReader(), info, (pooled,), encode=(EventFrames(steps=self.time_steps),))
        if name == "davis":
            height, width = (length // self.pool for length in DAVIS_SIZE)
            info = ModalityInfo("video", (1, height, width), self.time_steps, "brightness, 0 to 1")
            pooled = Resize(height=height, width=width)
            return Modality(GestureFramesReader(), info, (pooled,), encode=(Frames(steps=self.time_steps),))
        reader = SeriesReader(rate=RATE, columns=tuple(range(MUSCLES)))
        scale = self._muscle_scale(train)
        if self.emg_coding == "send-on-delta":
            info = ModalityInfo("series", (2 * MUSCLES,), self.time_steps, "changes up, then down, by step")
            coding = SendOnDelta(steps=self.time_steps, threshold=self.emg_threshold)
            return Modality(reader, info, encode=(scale, coding))
        info = ModalityInfo("series", (MUSCLES,), self.time_steps, "mean absolute value in standard deviations")
        return Modality(reader, info, encode=(scale, Rectify(), Steps(steps=self.time_steps)))

    def _muscle_scale(self, train: Sequence[Row]) -> Standardize:
        """Return the mean and standard deviation of the EMG in the training windows."""
        spans: defaultdict[Path, list[tuple[int, int]]] = defaultdict(list)
        for row in train:
            source = row.sources["emg"]
            assert source is not None
            first, end = (round(float(bound) * RATE) for bound in source.part)
            spans[source.path].append((first, end))
        windows: list[NDArray[np.float64]] = []
        for path, of_path in spans.items():
            try:
                muscles = _muscles(path)
            except (ReadError, FileNotFoundError):
                if self.on_error == "stop":
                    raise
                continue
            windows += [muscles[first:end].astype(np.float64) for first, end in of_path]
        return Standardize.of(np.concatenate(windows) if windows else np.zeros((0, MUSCLES)))


def repetitions(path: Path) -> list[tuple[int, int, int]]:
    """Return each repetition of a gesture in an annotation file: its label, first sample, and end (exclusive).

    Raises:
        ReadError: the file does not contain annotations.
    """
    annotations = map_npy(path, kinds="US", what="text, the gesture at each sample")
    names = np.array(annotations, dtype=np.str_).reshape(-1)
    unknown = sorted({str(name) for name in np.unique(names)} - {*GESTURES, REST})
    if unknown:
        raise ReadError(f"{path} has the unknown gesture {unknown[0]!r}; known are {', '.join((*GESTURES, REST))}")
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    runs = [(str(names[first]), first, end) for first, end in pairwise(edges) if end > first]
    return [(GESTURES.index(name), first, end) for name, first, end in runs if name != REST]


class GestureEventsReader(Reader):
    """Reads a span of the event camera.

    The .npy file has numbers [4, E] or [E, 4]: x, y, seconds, polarity. The part of a source is (start, stop) in
    seconds; without one, everything from second 0 on is read. Only that span is read from disk.
    """

    kind: Literal["hand-gestures-dvs"] = "hand-gestures-dvs"
    """The event camera."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one span.

        Raises:
            FileNotFoundError: the file does not exist.
            ReadError: it is damaged, or has other content.
        """
        path = self.open_file(source)
        start, stop = _span(source)
        columns = map_npy(path, kinds="iuf", what="numbers [4, E]: x, y, seconds, polarity")
        if columns.ndim != 2 or 4 not in columns.shape:
            raise ReadError(f"{path} has shape {columns.shape}; events must be [4, E]: x, y, seconds, polarity")
        columns = columns if columns.shape[0] == 4 else columns.T
        status = path.stat()
        if _in_order(path, status.st_size, status.st_mtime_ns):
            selected = slice(*np.searchsorted(columns[2], [start, stop]).tolist())
        else:
            selected = (columns[2] >= start) & (columns[2] < stop)
        with np.errstate(over="ignore", invalid="ignore"):  # damaged values are refused below
            x, y, seconds, polarity = np.array(columns[:, selected], np.float64)
        if not (((x == np.floor(x)) & (y == np.floor(y))).all() and np.isin(polarity, (-1, 0, 1)).all()):
            raise ReadError(f"{path} has events with fractional coordinates or invalid polarities; fetch it again")
        if len(x) and not 0 <= min(x.min(), y.min()) <= max(x.max(), y.max()) < DVS_SIDE:
            raise ReadError(f"{path} has events outside {DVS_SIDE} x {DVS_SIDE} pixels; it is from another camera")
        if seconds.max(initial=0) > LONGEST_SECONDS:
            raise ReadError(f"{path} has an event at second {seconds.max():g}; its third row must be in seconds")
        if not np.isfinite(stop):
            stop = float(seconds.max(initial=start)) + 1e-6
        duration = round((stop - start) * 1e6)
        try:
            return Events.of(
                # Rounding may put an event at the end, which is exclusive.
                t=np.floor((seconds - start) * 1e6).clip(0, duration - 1).astype(np.int64),
                x=x.astype(np.int64),
                y=y.astype(np.int64),
                p=(polarity > 0).astype(np.uint8),
                size=(DVS_SIDE, DVS_SIDE),
                duration=duration,
            )
        except ValueError as error:
            raise ReadError(f"{path}: {error}") from error


class GestureFramesReader(Reader):
    """Reads a span of the frame camera from the files of `convert_davis`.

    The part of a source is (start, stop) in seconds; without one, everything is read. Only that span is read from disk.
    """

    kind: Literal["hand-gestures-davis"] = "hand-gestures-davis"
    """The frame camera."""
    gives: ClassVar[RecordingKind] = "video"

    def read(self, source: Source) -> Video:
        """Read one span.

        Raises:
            FileNotFoundError: the file of frames or that of their times is missing.
            ReadError: they are damaged, or the span has no frame.
        """
        times_path = source.path.with_name(source.path.name.replace(_FRAMES, _TIMES))
        for path in (source.path, times_path):
            if not path.is_file():
                raise FileNotFoundError(
                    f"no file at {path}; create it with snn_datasets.convert_davis from *_davis.npz, or leave davis "
                    "out of the modalities"
                )
        start, stop = _span(source)
        frames = map_npy(self.open_file(source), kinds="u", what="brightness [F, 180, 240], 0 to 255")
        times = map_npy(self.open_file(Source(times_path)), kinds="f", what="the time of each frame in seconds")
        if frames.shape != (times.size, *DAVIS_SIZE) or frames.dtype != np.uint8 or times.ndim != 1:
            raise ReadError(f"{source.path} and {times_path.name} do not match; convert the *_davis.npz again")
        if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
            raise ReadError(f"{times_path} has times that are NaN or decrease; convert the *_davis.npz again")
        first, end = np.searchsorted(times, [start, stop]).tolist()
        if first == end:
            raise ReadError(f"{source} has no frame in this span; choose a longer window")
        return Video(np.array(frames[first:end, None]), np.array(times[first:end], np.float64) - start)


def convert_davis(path: Path, *, allow_pickle: bool = False) -> list[Path]:
    """Convert the frames of *_davis.npz files to .npy files in the same folder.

    The published files store frames as pickled Python objects, and reading those runs any code in the file with your
    permissions. Therefore this must be allowed explicitly; do so only for files from a trusted source, such as copies
    with the checksums stated at Zenodo. The converted files contain only numbers, and no other code here reads pickles.

    Frames of another size than 180 x 240 (the camera wrote some) are dropped, those of 240 x 180 are transposed.
    Brightness with more than 8 bits is scaled so that the brightest pixel of a session is 255. All frames of a session
    are in memory at once, some GB.

    Args:
        path: one such file, or the folder of all; converted sessions are skipped.
        allow_pickle: whether the files may run code.

    Returns:
        The files of frames [F, 180, 240]; their times in seconds since the trigger are in files of the same folder.

    Raises:
        ValueError: `allow_pickle` is False.
        FileNotFoundError: there is no such file.
        ReadError: a file has no frames.
    """
    if not allow_pickle:
        raise ValueError(
            f"frames under {path} are pickled objects, and reading them runs any code in the file; pass "
            "allow_pickle=True if you trust its source"
        )
    archives = sorted(path.glob("*_davis.npz")) if path.is_dir() else [path]
    if not archives or not archives[0].is_file():
        raise FileNotFoundError(f"no *_davis.npz at {path}")
    written: list[Path] = []
    for archive in archives:
        frames = archive.with_name(archive.name.removesuffix(".npz").removesuffix("_davis") + _FRAMES)
        times = frames.with_name(frames.name.replace(_FRAMES, _TIMES))
        if not (frames.is_file() and times.is_file()):
            seconds, images = _unpickle(archive)
            _save(times, seconds)
            _save(frames, images)
        written.append(frames)
    return written


def _unpickle(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return times [F] and frames [F, 180, 240] of a session, sorted by time."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=True) as archive:
            frames: list[NDArray[Any]] = [np.asarray(frame) for frame in archive["frames"]]
            times = np.asarray(archive["frames_time"], np.float64).reshape(-1)
    except Exception as error:  # a pickle may raise anything
        raise ReadError(f"{path} cannot be read as frames and frames_time: {error}; fetch it again") from error
    if len(frames) != len(times):
        raise ReadError(f"{path} has {len(frames)} frames, but {len(times)} times; fetch it again")
    timed = [
        (time, frame if frame.shape == DAVIS_SIZE else frame.T)
        for time, frame in zip(times.tolist(), frames, strict=True)
        if frame.shape in (DAVIS_SIZE, DAVIS_SIZE[::-1]) and frame.dtype.kind in "iuf" and np.isfinite(time)
    ]
    if not timed:
        sizes = Counter(frame.shape for frame in frames).most_common(1)
        raise ReadError(f"{path} has no frame of {DAVIS_SIZE} pixels; most are {sizes[0][0] if sizes else 'missing'}")
    timed.sort(key=lambda pair: pair[0])
    brightest = max(float(frame.max()) for _, frame in timed)
    scale = 1.0 if all(frame.dtype == np.uint8 for _, frame in timed) else 255 / max(brightest, 1e-12)
    images = np.empty((len(timed), *DAVIS_SIZE), np.uint8)
    for number, (_, frame) in enumerate(timed):
        images[number] = np.rint(np.nan_to_num(frame) * scale).clip(0, 255)
    return np.array([time for time, _ in timed]), images


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file atomically."""
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _muscles(path: Path) -> NDArray[Any]:
    """Return the EMG of a session [L, 8], memory-mapped."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}, the EMG of the annotations in the same folder")
    array = map_npy(path, kinds="iuf", what="EMG [L, 8]")
    if array.ndim != 2 or array.shape[1] != MUSCLES:
        raise ReadError(f"{path} has shape {array.shape}; EMG must be [L, {MUSCLES}]")
    return array


def _length_of(path: Path) -> int | None:
    """Return the number of EMG samples; None if the file is missing or damaged, which reading it will report."""
    try:
        return len(_muscles(path))
    except (ReadError, FileNotFoundError):
        return None


def _end_of_events(path: Path) -> int | None:
    """Return the number of EMG samples before the events end; None if the file is missing or damaged."""
    try:
        columns = map_npy(path, kinds="iuf", what="numbers [4, E]")
    except (ReadError, FileNotFoundError):
        return None
    if columns.ndim != 2 or 4 not in columns.shape:
        return None
    seconds = columns[2] if columns.shape[0] == 4 else columns[:, 2]
    if not len(seconds):
        return 0
    # A sorted file, as published, need not be read completely; a subset of its events shows whether it is sorted.
    last = float(seconds[-1])
    if float(seconds[:: max(1, len(seconds) // 4096)].max()) > last:
        last = float(seconds.max())
    # The camera may record for a while without an event.
    return math.ceil((last + QUIET_SECONDS) * RATE) if abs(last) < LONGEST_SECONDS else None


_END_OF = {"emg": _length_of, "dvs": _end_of_events}
"""By modality: the number of recorded samples at `RATE`."""


def _span(source: Source) -> tuple[float, float]:
    if not source.part:
        return 0.0, np.inf
    start, stop = (float(bound) for bound in source.part)
    return start, stop


@lru_cache(maxsize=256)
def _in_order(path: Path, _size: int, _changed: int) -> bool:
    """Return whether the times of a file of events never decrease; cached while the file is unchanged.

    Raises:
        ReadError: a time is NaN or inf.
    """
    columns = map_npy(path, kinds="iuf", what="numbers [4, E]")
    seconds = np.array(columns[2] if columns.shape[0] == 4 else columns[:, 2])
    if not np.isfinite(seconds).all():
        raise ReadError(f"{path} has an event time that is NaN or inf; fetch it again")
    return bool((seconds[1:] >= seconds[:-1]).all())
