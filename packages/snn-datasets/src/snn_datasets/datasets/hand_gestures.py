"""Hand gestures as muscles, an event camera and a frame camera record them (Ceolini et al. 2020)."""

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

from snn_datasets.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.dataset import DatasetInfo, DatasetSplits, FileDataSpec, ModalityInfo, Progress, Split
from snn_datasets.kinds import RecordingKind
from snn_datasets.on_disk import absolute_path, find_files, require_samples
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Events, Video
from snn_datasets.series import Rectify, SeriesReader, Standardize
from snn_datasets.series_table import map_npy

if TYPE_CHECKING:
    from snn_datasets.modality import Modality
    from snn_datasets.recorded import Row

GESTURES = ("pinky", "elle", "yo", "index", "thumb")
REST = "none"
RATE = 200
"""Of muscles and annotations, in Hz."""
MUSCLES = 8
DVS_SIDE = 128
LONGEST_SECONDS = 3600
"""Of a session; those published last about two minutes."""
QUIET_SECONDS = 0.5
"""For which an event camera that is still recording may send nothing."""
DAVIS_SIZE = (180, 240)
"""Height and width of its frames."""

_SESSION = re.compile(r"subject(\d+)_session(\d+)_ann\.npy")
_FRAMES, _TIMES = "_davis_frames.npy", "_davis_frames_time.npy"

CARD = DatasetCard(
    kind="hand-gestures",
    title="EMG and event-camera recordings of hand gestures",
    version="Zenodo record 3663616, 2020",
    license="LicenseRef-unknown",
    license_note="see the record at Zenodo; it is not repeated in the files",
    citation=(
        "Ceolini et al. 2020, Hand-gesture recognition based on EMG and event-based camera sensor fusion: a benchmark "
        "in neuromorphic computing, Frontiers in Neuroscience 14:637, doi:10.3389/fnins.2020.00637"
    ),
    sources=("Zenodo, record 3663616 (any version: doi:10.5281/zenodo.3228845)",),
    files=(
        FileSet(pattern="subject*_session*_ann.npy", what="gesture at each sample of the muscles", count=30),
        FileSet(pattern="subject*_session*_emg.npy", what="muscles [L, 8] at 200 Hz", count=30, modalities=("emg",)),
        FileSet(
            pattern="subject*_session*_dvs.npy",
            what="events [4, E]: x, y, seconds since the trigger, polarity",
            count=30,
            modalities=("dvs",),
        ),
        FileSet(
            pattern=f"subject*_session*{_FRAMES}",
            what="pictures [F, 180, 240] and, beside them, their times; convert_davis makes both of *_davis.npz",
            count=30,
            modalities=("davis",),
        ),
    ),
    classes=GESTURES,
    modalities={
        "emg": ModalityCard(kind="series", shape="[T, 8], or [T, 16] up and down", unit="standard deviations"),
        "dvs": ModalityCard(kind="events", shape="[T, 2, 128/pool, 128/pool]", unit="events by square and step"),
        "davis": ModalityCard(kind="video", shape="[T, 1, 180/pool, 240/pool]", unit="brightness, 0 to 1"),
    },
    splits=(
        "by session (1 trains, 2 validates, 3 tests, every subject in all of them) or by subject (8 validates, 9 and "
        "10 test, nobody in two splits); a window never leaves one repetition of one gesture"
    ),
    notes=(
        "10 subjects, 3 sessions each, 5 gestures, 5 repetitions of about 2 s in each session, rest between them.",
        "The two kinds of split answer different questions: split='session' knows every subject from training.",
        "Raw .aedat files keep the cameras' clocks; the .npy files count from the trigger shared with the muscles.",
        "The frames as published are pickled Python objects; see convert_davis before running what is in them.",
    ),
)


class HandGesturesSpec(FileDataSpec):
    """Five hand gestures seen by 8 muscles, an event camera and a frame camera at once (Ceolini et al. 2020)."""

    kind: Literal["hand-gestures"] = "hand-gestures"

    split: Literal["session", "subject"] = "session"
    """What is never in two splits: a session, where all splits know all subjects, or a subject."""

    val: tuple[int, ...] = ()
    """Sessions (or subjects) for validation, by number; empty means session 2, or subject 8."""

    test: tuple[int, ...] = ()
    """Sessions (or subjects) for testing, by number; empty means session 3, or subjects 9 and 10."""

    window_ms: float = Field(default=200.0, ge=20.0, le=2000.0)
    """Length of a sample in milliseconds."""

    stride_ms: float = Field(default=200.0, ge=5.0, le=2000.0)
    """From the start of a sample to that of the next in the same repetition, in milliseconds."""

    time_steps: int = Field(default=10, ge=1, le=1000)
    """Steps T that each window is split into, for every sense."""

    pool: Literal[1, 2, 4] = 4
    """Side in pixels of the squares put together: their events are added up, their brightness is averaged."""

    emg_encoding: Literal["steps", "send-on-delta"] = "steps"
    """How muscles become inputs: mean of the absolute value in each step, or events of change up and down."""

    emg_threshold: float = Field(default=0.5, gt=0)
    """Change that makes an event of send-on-delta, in standard deviations of the channel."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Cut the repetitions into windows and read them once.

        Raises:
            FileNotFoundError: there is no such file under the root, or frames were not converted.
            ReadError: annotations cannot be read.
            ValueError: a session or subject is in two splits, or a split stays empty.
        """
        from snn_datasets.recorded import build_splits

        rows, cut = self._rows()
        modalities = {name: self._modality(name, rows["train"]) for name in self.selected_modalities()}
        notes = (CARD.notes[1],) if self.split == "session" else ()
        if cut:
            notes += (
                f"{cut:,} windows of the annotations are left out, since a recording of "
                f"{' or '.join(name for name in self.selected_modalities() if name != 'davis')} ends before them.",
            )
        info = DatasetInfo(CARD.kind, GESTURES, {name: m.info for name, m in modalities.items()}, notes)
        return build_splits(self, info=info, rows=rows, modalities=modalities, progress=progress)

    def _rows(self) -> tuple[dict[Split, list[Row]], int]:
        """The windows by split, and the number of those that lie past the end of a recording."""
        from snn_datasets.recorded import Row

        by_session = self.split == "session"
        val = self.val or ((2,) if by_session else (8,))
        test = self.test or ((3,) if by_session else (9, 10))
        if set(val) & set(test):
            raise ValueError(f"{self.split} {min(set(val) & set(test))} is in val and in test; leave it in one of them")
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
                    # Recordings may have stopped a little before their annotations.
                    if last is not None and start + length > last:
                        cut += 1
                        continue
                    part = (start / RATE, (start + length) / RATE)
                    sources = {name: Source(root / files[name], part) for name in self.selected_modalities()}
                    rows[split].append(Row(f"{stem}/{start:06d}", label, sources))
        require_samples(
            rows,
            f"{self.split}s {val} are val and {test} test, of {len(annotations)} sessions under {root}: complete the "
            f"dataset, choose other numbers, or a window_ms shorter than {self.window_ms:g}",
        )
        return rows, cut

    def _modality(self, name: str, train: Sequence[Row]) -> Modality:
        from snn_datasets.encoding import EventFrames, Frames, SendOnDelta, Steps
        from snn_datasets.events import ScalePlane
        from snn_datasets.images import Resize
        from snn_datasets.modality import Modality

        if name == "dvs":
            side = DVS_SIDE // self.pool
            info = ModalityInfo("events", (2, side, side), self.time_steps, "events by square and step")
            pooled = ScalePlane(height=side, width=side)
            return Modality(GestureEventsReader(), info, (pooled,), encode=(EventFrames(steps=self.time_steps),))
        if name == "davis":
            height, width = (length // self.pool for length in DAVIS_SIZE)
            info = ModalityInfo("video", (1, height, width), self.time_steps, "brightness, 0 to 1")
            pooled = Resize(height=height, width=width)
            return Modality(GestureFramesReader(), info, (pooled,), encode=(Frames(steps=self.time_steps),))
        reader = SeriesReader(rate=RATE, columns=tuple(range(MUSCLES)))
        scale = self._muscle_scale(train)
        if self.emg_encoding == "send-on-delta":
            info = ModalityInfo("series", (2 * MUSCLES,), self.time_steps, "changes up, then down, by step")
            encoder = SendOnDelta(steps=self.time_steps, threshold=self.emg_threshold)
            return Modality(reader, info, encode=(scale, encoder))
        info = ModalityInfo("series", (MUSCLES,), self.time_steps, "mean absolute value in standard deviations")
        return Modality(reader, info, encode=(scale, Rectify(), Steps(steps=self.time_steps)))

    def _muscle_scale(self, train: Sequence[Row]) -> Standardize:
        """Mean and standard deviation of the muscles in the training windows, which are not in any cache by split."""
        spans: defaultdict[Path, list[tuple[int, int]]] = defaultdict(list)
        for row in train:
            source = row.sources["emg"]
            assert source is not None
            first, end = (round(float(bound) * RATE) for bound in source.part)
            spans[source.path].append((first, end))
        found: list[NDArray[np.float64]] = []
        for path, of_path in spans.items():
            try:
                muscles = _muscles(path)
            except (ReadError, FileNotFoundError):
                if self.on_error == "stop":
                    raise
                continue
            found += [muscles[first:end].astype(np.float64) for first, end in of_path]
        return Standardize.of(np.concatenate(found) if found else np.zeros((0, MUSCLES)))


def repetitions(path: Path) -> list[tuple[int, int, int]]:
    """Every stretch of one gesture in an annotation file: its label, first sample, and the one after its last.

    Raises:
        ReadError: the file holds no annotations.
    """
    said = map_npy(path, kinds="US", what="text, the gesture at each sample")
    names = np.array(said, dtype=np.str_).reshape(-1)
    unknown = sorted({str(name) for name in np.unique(names)} - {*GESTURES, REST})
    if unknown:
        raise ReadError(f"{path} names the gesture {unknown[0]!r}; known are {', '.join((*GESTURES, REST))}")
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    stretches = [(str(names[first]), first, end) for first, end in pairwise(edges) if end > first]
    return [(GESTURES.index(name), first, end) for name, first, end in stretches if name != REST]


class GestureEventsReader(Reader):
    """Reads a span of seconds of the event camera.

    A .npy file holds numbers [4, E] or [E, 4]: x, y, seconds, polarity. The part of a source is (start, stop); without
    one all from second 0 on is read. Only that span leaves the disk.
    """

    kind: Literal["hand-gestures-dvs"] = "hand-gestures-dvs"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one span.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is damaged, or holds something else.
        """
        path = self.open_file(source)
        start, stop = _span(source)
        columns = map_npy(path, kinds="iuf", what="numbers [4, E]: x, y, seconds, polarity")
        if columns.ndim != 2 or 4 not in columns.shape:
            raise ReadError(f"{path} has shape {columns.shape}; events need [4, E]: x, y, seconds, polarity")
        columns = columns if columns.shape[0] == 4 else columns.T
        status = path.stat()
        if _in_order(path, status.st_size, status.st_mtime_ns):
            chosen = slice(*np.searchsorted(columns[2], [start, stop]).tolist())
        else:
            chosen = (columns[2] >= start) & (columns[2] < stop)
        with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers, which are refused below
            x, y, seconds, polarity = np.array(columns[:, chosen], np.float64)
        if not (((x == np.floor(x)) & (y == np.floor(y))).all() and np.isin(polarity, (-1, 0, 1)).all()):
            raise ReadError(f"{path} holds events with no whole pixel, or a polarity that is none; fetch it again")
        if len(x) and not 0 <= min(x.min(), y.min()) <= max(x.max(), y.max()) < DVS_SIDE:
            raise ReadError(f"{path} holds events outside of {DVS_SIDE} x {DVS_SIDE} pixels; it is another camera's")
        if seconds.max(initial=0) > LONGEST_SECONDS:
            raise ReadError(f"{path} holds an event at second {seconds.max():g}; its third row has to be in seconds")
        if not np.isfinite(stop):
            stop = float(seconds.max(initial=start)) + 1e-6
        duration = round((stop - start) * 1e6)
        try:
            return Events.of(
                # Rounding may put an event on the end, to which it does not belong.
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
    """Reads a span of seconds of the frame camera, from what `convert_davis` wrote.

    The part of a source is (start, stop); without one all is read. Only that span leaves the disk.
    """

    kind: Literal["hand-gestures-davis"] = "hand-gestures-davis"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "video"

    def read(self, source: Source) -> Video:
        """Read one span.

        Raises:
            FileNotFoundError: the frames, or the times beside them, are not there.
            ReadError: they are damaged, or there is no frame in that span.
        """
        times_path = source.path.with_name(source.path.name.replace(_FRAMES, _TIMES))
        for path in (source.path, times_path):
            if not path.is_file():
                raise FileNotFoundError(
                    f"no file at {path}; snn_datasets.datasets.hand_gestures.convert_davis makes it of the "
                    "*_davis.npz, or leave davis out of the modalities"
                )
        start, stop = _span(source)
        frames = map_npy(self.open_file(source), kinds="u", what="brightness [F, 180, 240], 0 to 255")
        times = map_npy(self.open_file(Source(times_path)), kinds="f", what="the time of each frame in seconds")
        if frames.shape != (times.size, *DAVIS_SIZE) or frames.dtype != np.uint8 or times.ndim != 1:
            raise ReadError(f"{source.path} and {times_path.name} do not fit each other; convert the *_davis.npz again")
        if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
            raise ReadError(f"{times_path} holds times out of order; convert the *_davis.npz again")
        first, end = np.searchsorted(times, [start, stop]).tolist()
        if first == end:
            raise ReadError(f"{source} has no frame between these seconds; choose a longer window")
        return Video(np.array(frames[first:end, None]), np.array(times[first:end], np.float64) - start)


def convert_davis(path: Path, *, allow_pickle: bool = False) -> list[Path]:
    """Make the frames of the *_davis.npz files readable, once: as .npy files beside them.

    The published files hold their frames as pickled Python objects. Reading such objects runs whatever code the file
    contains, with your rights. So this must be asked for, and only for files whose origin you trust, such as copies
    whose hashes are those that Zenodo states. What it writes holds numbers alone, and nothing else here reads pickles.

    Frames of another size than 180 x 240 (as the camera leaves some) are left out, those of 240 x 180 turned.
    Brightness in more than 8 bits is scaled so that the brightest pixel of a session is 255. All frames of a session
    are in memory at once, some GB.

    Args:
        path: one such file, or the folder of all; sessions that were converted before are not converted again.
        allow_pickle: True says that the files may run code.

    Returns:
        The files of frames [F, 180, 240]; their times in seconds since the trigger lie beside them.

    Raises:
        ValueError: it was not allowed.
        FileNotFoundError: there is no such file.
        ReadError: one holds no frames.
    """
    if not allow_pickle:
        raise ValueError(
            f"frames under {path} are pickled objects: reading them runs whatever code is in the file; pass "
            "allow_pickle=True if you trust where it is from"
        )
    archives = sorted(path.glob("*_davis.npz")) if path.is_dir() else [path]
    if not archives or not archives[0].is_file():
        raise FileNotFoundError(f"no *_davis.npz at {path}")
    written: list[Path] = []
    for archive in archives:
        frames = archive.with_name(archive.name.removesuffix(".npz").removesuffix("_davis") + _FRAMES)
        times = frames.with_name(frames.name.replace(_FRAMES, _TIMES))
        if not (frames.is_file() and times.is_file()):
            seconds, pictures = _unpickled(archive)
            _save(times, seconds)
            _save(frames, pictures)
        written.append(frames)
    return written


def _unpickled(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Times [F] and frames [F, 180, 240] of a session, in order."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=True) as archive:
            frames: list[NDArray[Any]] = [np.asarray(frame) for frame in archive["frames"]]
            times = np.asarray(archive["frames_time"], np.float64).reshape(-1)
    except Exception as error:  # whatever a pickle may raise
        raise ReadError(f"{path} cannot be read as frames and frames_time: {error}; fetch it again") from error
    if len(frames) != len(times):
        raise ReadError(f"{path} has {len(frames)} frames, but {len(times)} times; fetch it again")
    kept = [
        (time, frame if frame.shape == DAVIS_SIZE else frame.T)
        for time, frame in zip(times.tolist(), frames, strict=True)
        if frame.shape in (DAVIS_SIZE, DAVIS_SIZE[::-1]) and frame.dtype.kind in "iuf" and np.isfinite(time)
    ]
    if not kept:
        sizes = Counter(frame.shape for frame in frames).most_common(1)
        raise ReadError(f"{path} has no frame of {DAVIS_SIZE} pixels; most are {sizes[0][0] if sizes else 'missing'}")
    kept.sort(key=lambda timed: timed[0])
    brightest = max(float(frame.max()) for _, frame in kept)
    scale = 1.0 if all(frame.dtype == np.uint8 for _, frame in kept) else 255 / max(brightest, 1e-12)
    pictures = np.empty((len(kept), *DAVIS_SIZE), np.uint8)
    for number, (_, frame) in enumerate(kept):
        pictures[number] = np.rint(np.nan_to_num(frame) * scale).clip(0, 255)
    return np.array([time for time, _ in kept]), pictures


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _muscles(path: Path) -> NDArray[Any]:
    """The muscles of a session [L, 8], mapped."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; it belongs to the annotations beside it")
    array = map_npy(path, kinds="iuf", what="muscles [L, 8]")
    if array.ndim != 2 or array.shape[1] != MUSCLES:
        raise ReadError(f"{path} holds numbers of shape {array.shape}; the muscles have [L, {MUSCLES}]")
    return array


def _length_of(path: Path) -> int | None:
    """Samples of the muscles; None where they are missing or damaged, which reading them will say."""
    try:
        return len(_muscles(path))
    except (ReadError, FileNotFoundError):
        return None


def _end_of_events(path: Path) -> int | None:
    """Samples of the muscles that fit in before the events end; None where they are missing or damaged."""
    try:
        columns = map_npy(path, kinds="iuf", what="numbers [4, E]")
    except (ReadError, FileNotFoundError):
        return None
    if columns.ndim != 2 or 4 not in columns.shape:
        return None
    seconds = columns[2] if columns.shape[0] == 4 else columns[:, 2]
    if not len(seconds):
        return 0
    # A file in order, as published, is not read for this; some of its events tell whether it is.
    last = float(seconds[-1])
    if float(seconds[:: max(1, len(seconds) // 4096)].max()) > last:
        last = float(seconds.max())
    # The camera may see nothing for a while before it stops.
    return math.ceil((last + QUIET_SECONDS) * RATE) if abs(last) < LONGEST_SECONDS else None


_END_OF = {"emg": _length_of, "dvs": _end_of_events}
"""By modality: number of samples at `RATE` for which there is a recording."""


def _span(source: Source) -> tuple[float, float]:
    if not source.part:
        return 0.0, np.inf
    start, stop = (float(bound) for bound in source.part)
    return start, stop


@lru_cache(maxsize=256)
def _in_order(path: Path, _size: int, _changed: int) -> bool:
    """Whether the times of a file of events never decrease; read once a process, as long as the file is the same.

    Raises:
        ReadError: a time is no number.
    """
    columns = map_npy(path, kinds="iuf", what="numbers [4, E]")
    seconds = np.array(columns[2] if columns.shape[0] == 4 else columns[:, 2])
    if not np.isfinite(seconds).all():
        raise ReadError(f"{path} holds an event whose time is no number; fetch it again")
    return bool((seconds[1:] >= seconds[:-1]).all())
