"""Readers of the frames and the soundtrack of video files; they need PyAV, the extra `video`."""

# PyAV leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Image, Video, Waveform
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.file_signature import explain_other_format
from snn_datasets.formats.video_truncation import truncation
from snn_datasets.modalities.audio import checked_waveform, refuse_too_long

if TYPE_CHECKING:
    from av.container import InputContainer

CONTAINERS = "avi,flv,matroska,mov,mp4,mpeg,mpegts,ogg,webm"
"""Formats that are read, whatever the file's name. Others, such as playlists, could refer to further files."""
_DESCRIPTIONS = {
    *("a Flash video", "a Matroska or WebM video", "an MPEG video", "an AVI video", "an MPEG-4 video"),
    *("a QuickTime video", "an M4A sound file (MPEG-4)", "an Ogg sound file"),
}
"""Their names in `file_signature`."""
LARGEST_FRAME = 2**24
"""Pixels of the largest frame, twice 4K."""
LARGEST_VIDEO = 2**28
"""Bytes of all frames of one video; twice that is allocated while they are stacked."""
LONGEST_SECONDS = 4 * 3600
"""Longest video; a damaged file can claim any duration."""


class VideoReader(Reader):
    """Reads the frames of a video file: FLV, MP4, MOV, Matroska, WebM, AVI, MPEG or Ogg.

    Every frame up to the last one selected is decoded, since most depend on earlier ones, but only selected frames are
    converted. The part of a source, (start, stop) in seconds, selects the frames with start <= time < stop, and times
    then count from start; (time, time) selects the frame that starts nearest to that time, the last one if it is after
    the end. The display matrix of the file (rotation and mirroring) is applied.
    """

    kind: Literal["video"] = "video"
    """The frames of video files."""
    gives: ClassVar[RecordingKind] = "video"

    frames: int | None = Field(default=None, ge=1, le=10_000)
    """Number of frames: one for each of as many equal spans of time, the nearest to its middle, so a short video
    repeats some. None reads all frames."""
    height: int | None = Field(default=None, ge=1, le=4096)
    """Height of the frames in pixels, together with `width`; None keeps the size of the file."""
    width: int | None = Field(default=None, ge=1, le=4096)
    """Width of the frames in pixels."""
    channels: Literal[1, 3] = 3
    """1 (gray) or 3 (red, green, blue)."""

    @model_validator(mode="after")
    def _check_size(self) -> VideoReader:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height {self.height} and width {self.width} go together; give both or neither")
        return self

    def read(self, source: Source) -> Video:
        """Read one video; see `Reader.read`."""
        part = source.seconds()
        path = _checked_path(self, source)
        with _open_container(path) as (_, container):
            stream = _video_stream(container)
            if stream is None:
                sound = ", only sound" if container.streams.audio else ""
                raise ReadError(f"{path} has no video stream{sound}; replace the file, or leave the modality out")
            _refuse_unknown_codec(stream, path)
            span = _span(container, stream.index, source, part)
        with _open_container(path) as (av, container):
            frames = self._decode(av, container)
            selected = (
                _frames_within(frames, span) if self.frames is None else _nearest_frames(frames, span, self.frames)
            )
            return self._convert(av, selected, source, start=0.0 if part is None else part[0])

    def _decode(self, av: ModuleType, container: InputContainer) -> Iterator[tuple[float, Any]]:
        """Yield every frame with its time in seconds, in display order."""
        stream = _video_stream(container)
        stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}
        # Loader processes decode in parallel already; threads within each would only compete for the cores.
        stream.codec_context.thread_type = "NONE"
        origin = float((container.start_time or 0) / av.time_base)
        last = 0.0
        for frame in cast("Iterator[Any]", container.decode(stream)):
            # Some old formats state no time for a few frames.
            if frame.pts is not None:
                last = max(last, float(frame.time) - origin)
            yield last, frame

    def _convert(self, av: ModuleType, frames: Iterator[tuple[float, Any]], source: Source, *, start: float) -> Video:
        pixel_format = "gray" if self.channels == 1 else "rgb24"
        reformatter = av.video.reformatter.VideoReformatter()
        images: list[NDArray[np.uint8]] = []
        times: list[float] = []
        size = 0
        height, width = self.height, self.width
        last: Any = None
        for time, frame in frames:
            if frame is not last:
                last = frame
                orientation = _orientation(frame)
                # If the frame size changes within the file, later frames are scaled to the first size.
                height, width = height or orientation.sides(frame)[0], width or orientation.sides(frame)[1]
                rows, columns = (width, height) if orientation.transposed else (height, width)
                image = reformatter.reformat(
                    frame, width=columns, height=rows, format=pixel_format, interpolation="AREA"
                )
                images.append(orientation.apply(image.to_ndarray().reshape(rows, columns, self.channels)))
            else:
                images.append(images[-1])
            times.append(time - start)
            size += images[-1].nbytes
            if size > LARGEST_VIDEO:
                raise ReadError(
                    f"{source} takes more than {LARGEST_VIDEO >> 20} MB when its frames are decoded; read fewer frames "
                    "(frames), smaller ones (height and width), or a part"
                )
        if not images:
            raise ReadError(f"{source} has no frame that can be decoded; replace the file, or correct the part")
        return Video(np.stack(images).transpose(0, 3, 1, 2), np.array(times, np.float64).clip(min=0))


class _Orientation(NamedTuple):
    """How a stored frame is brought upright: first transposed, then rows or columns reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def sides(self, frame: Any) -> tuple[int, int]:
        """Return height and width of the upright frame."""
        return (frame.width, frame.height) if self.transposed else (frame.height, frame.width)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[H, W, C] as stored -> upright; [W, H, C] if transposed."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


def _orientation(frame: Any) -> _Orientation:
    """Return the orientation that the display matrix of a frame states, to the nearest quarter turn.

    Up to a shift, the matrix maps column p and row q of the stored frame to column a * p + c * q and row b * p + d * q
    of the displayed one (ISO 14496-12, 8.3.2).
    """
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return _Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32, 5).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return _Orientation(transposed=True, rows_reversed=b < 0, columns_reversed=c < 0)
    return _Orientation(rows_reversed=d < 0, columns_reversed=a < 0)


class SoundtrackReader(Reader):
    """Reads the soundtrack of a video file, with its rate and channels.

    The part of a source is (start, stop) in seconds.
    """

    kind: Literal["soundtrack"] = "soundtrack"
    """The soundtrack of video files."""
    gives: ClassVar[RecordingKind] = "waveform"

    def read(self, source: Source) -> Waveform:
        """Read one recording; see `Reader.read`."""
        part = source.seconds()
        path = _checked_path(self, source)
        with _open_container(path) as (_, container):
            if not container.streams.audio:
                raise ReadError(f"{path} has no sound; replace the file, or leave the modality out")
            _refuse_unknown_codec(container.streams.audio[0], path)
            _span(container, container.streams.audio[0].index, source, part)
        with _open_container(path) as (av, container):
            stream = container.streams.audio[0]
            origin = (container.start_time or 0) / av.time_base
            blocks: list[NDArray[np.float32]] = []
            rate, channels, total = 0, 0, 0
            first = 0.0
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                if not blocks:
                    rate, channels = int(frame.sample_rate), len(frame.layout.channels)
                    first = 0.0 if frame.pts is None else frame.time - origin
                if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                    raise ReadError(f"{source.path} changes its sample rate or channels midway; convert the file")
                for block in resampler.resample(frame):
                    blocks.append(block.to_ndarray())
                    total += blocks[-1].size
                refuse_too_long(total, source.path)
                if part is not None and first + total / max(1, channels * rate) > part[1]:
                    break
        samples = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
        if part is not None:
            bounds = [max(0, round((seconds - first) * rate)) for seconds in part]
            samples = samples[:, bounds[0] : bounds[1]]
        return checked_waveform(np.ascontiguousarray(samples), rate, source)


class FirstFrame(Stage):
    """Takes the first frame of a video as an image."""

    def __call__(self, value: Video, draw: Draw) -> Image:
        """[F, C, H, W] -> [C, H, W]."""
        return Image(value.frames[0])


def _checked_path(reader: Reader, source: Source) -> Path:
    """Return the path of a source after checking that the file exists and is not truncated.

    Raises:
        FileNotFoundError, ReadError: see `Reader.open_file`; or the file is shorter than it states.
    """
    path = reader.open_file(source)
    missing = truncation(path)
    if missing is not None:
        raise ReadError(f"{path} cannot be read as a video: it is truncated: {missing}; replace the file")
    return path


@contextmanager
def _open_container(path: Path) -> Generator[tuple[ModuleType, InputContainer], None, None]:
    """Open a file with PyAV; any error within the block becomes a `ReadError`.

    Each pass opens the file again: seeking to the start goes by key frames, so it fails or loses sound in a file whose
    frames start a little after its sound.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError('reading videos needs PyAV; install it with: pip install "snn-datasets[video]"') from error
    try:
        # Without the prefix, FFmpeg could take a path for a URL.
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        # Metadata are often not in UTF-8; they are not used.
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield av, container
    except ReadError:
        raise
    except Exception as error:  # FFmpeg raises many types, at any step.
        reason = explain_other_format(path, _DESCRIPTIONS) or f"{error}; replace or convert the file"
        raise ReadError(f"{path} cannot be read as a video: {reason}") from error


def _video_stream(container: InputContainer) -> Any:
    """Return the first video stream that is not the cover image of a sound file; None if there is none."""
    from av.stream import Disposition

    streams = container.streams.video
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def _refuse_unknown_codec(stream: Any, path: Path) -> None:
    """Refuse a stream for which FFmpeg has no decoder.

    Raises:
        ReadError: there is no decoder.
    """
    if stream.codec_context is None:
        raise ReadError(f"{path} has a {stream.type} stream with an unknown codec; convert the file")


class _Span(NamedTuple):
    """The span of a file to read, in seconds from its start."""

    start: float
    end: float
    interval: float
    """Mean time between frames."""


def _span(container: InputContainer, stream: int, source: Source, part: tuple[float, float] | None) -> _Span:
    """Return the span of the part, or of the whole file.

    Times come from the packets, without decoding: FLV files state neither duration nor number of frames.
    """
    import av

    origin = (container.start_time or 0) / av.time_base
    times: list[float] = []
    for packet in container.demux(container.streams[stream]):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.size:
            times.append(float(stamp * packet.time_base) - origin)
    if not times:
        raise ReadError(f"{source.path} has no packet that can be decoded; replace the file")
    first, last = min(times), max(times)
    if not (last - first < LONGEST_SECONDS):
        raise ReadError(
            f"{source.path} lasts (or claims) {(last - first) / 3600:.3g} hours, more than "
            f"{LONGEST_SECONDS // 3600}; cut it, or replace it if it is not that long"
        )
    interval = (last - first) / max(1, len(times) - 1)
    first, end = max(0.0, first), last + interval
    if part is None:
        return _Span(first, end, interval)
    if part[0] == part[1]:
        return _Span(min(part[0], end), min(part[0], end), interval)
    if part[0] > end:
        raise ReadError(f"{source} begins after the end of the file, which lasts {end:.3g} s; correct the part")
    return _Span(part[0], min(part[1], end), interval)


def _frames_within(frames: Iterator[tuple[float, Any]], span: _Span) -> Iterator[tuple[float, Any]]:
    """Yield the frames that start within the span; if it has no length, the nearest one."""
    if span.start == span.end:
        yield from _nearest_frames(frames, span, 1)
        return
    for time, frame in frames:
        if time >= span.end:
            return
        if time >= span.start:
            yield time, frame


def _nearest_frames(frames: Iterator[tuple[float, Any]], span: _Span, count: int) -> Iterator[tuple[float, Any]]:
    """Yield, for each of `count` equal parts of the span, the frame whose middle is nearest to that of the part.

    Only two frames are in memory at a time.
    """
    start, end, interval = span
    length = end - start
    # Frame times are start times, half an interval before the middle. A span of no length is a start time itself.
    half = interval / 2 if length else 0.0
    targets = [start + (number + 0.5) * length / count - half for number in range(count)]
    done = 0
    previous: tuple[float, Any] | None = None
    for current in frames:
        while done < count and targets[done] <= current[0]:
            is_previous_nearer = previous is not None and targets[done] - previous[0] <= current[0] - targets[done]
            yield previous if is_previous_nearer else current  # pyright: ignore[reportReturnType]
            done += 1
        if done == count:
            return
        previous = current
    for _ in range(count - done if previous is not None else 0):
        yield previous  # pyright: ignore[reportReturnType]
