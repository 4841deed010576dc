"""Readers of the .npy files of the hand gestures of Ceolini et al. 2020, and the conversion of their frames."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events, Video
from snn_datasets.formats.series_table import map_npy

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
FRAMES_SUFFIX, TIMES_SUFFIX = "_davis_frames.npy", "_davis_frames_time.npy"


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
        """Read one span."""
        path = self.open_file(source)
        start, stop = source.seconds() or (0.0, np.inf)
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
        """Read one span."""
        times_path = source.path.with_name(source.path.name.replace(FRAMES_SUFFIX, TIMES_SUFFIX))
        for path in (source.path, times_path):
            if not path.is_file():
                raise FileNotFoundError(
                    f"no file at {path}; create it with snn_datasets.convert_davis from *_davis.npz, or leave davis "
                    "out of the modalities"
                )
        start, stop = source.seconds() or (0.0, np.inf)
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
        frames = archive.with_name(archive.name.removesuffix(".npz").removesuffix("_davis") + FRAMES_SUFFIX)
        times = frames.with_name(frames.name.replace(FRAMES_SUFFIX, TIMES_SUFFIX))
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


def map_emg(path: Path) -> NDArray[Any]:
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
        return len(map_emg(path))
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


END_OF = {"emg": _length_of, "dvs": _end_of_events}
"""By modality: the number of recorded samples at `RATE`."""


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
