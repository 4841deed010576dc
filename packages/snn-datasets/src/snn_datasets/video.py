"""Video files to frames, and to the sound that goes with them; by PyAV, the extra `video`."""

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

from snn_datasets.audio import checked_waveform, refuse_too_long, seconds_of
from snn_datasets.file_signature import foreign_format
from snn_datasets.kinds import RecordingKind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Image, Video, Waveform
from snn_datasets.stage import Draw, Stage
from snn_datasets.video_truncation import truncation

if TYPE_CHECKING:
    from av.container import InputContainer

CONTAINERS = "avi,flv,matroska,mov,mp4,mpeg,mpegts,ogg,webm"
"""What is read, whatever the name of the file. Others, such as playlists, could name further files."""
_DESCRIPTIONS = {
    *("a Flash video", "a Matroska or WebM video", "an MPEG video", "an AVI video", "an MPEG-4 video"),
    *("a QuickTime video", "an M4A sound file (MPEG-4)", "an Ogg sound file"),
}
"""What `file_signature` calls them."""
LARGEST_FRAME = 2**24
"""Pixels of the largest frame, twice those of 4k."""
LARGEST_VIDEO = 2**28
"""Bytes of all frames of one video together, which are held twice while they are put together."""
LONGEST_SECONDS = 4 * 3600
"""Of a video; a broken file can claim any time."""


class VideoReader(Reader):
    """Reads the pictures of a video file: FLV, MP4, MOV, Matroska, WebM, AVI, MPEG or Ogg.

    Every frame up to the last one wanted is decoded, as most build on those before, but only those wanted are
    converted and kept. The part of a source, (start, stop) in seconds, takes the frames with start <= time < stop, and
    time then counts from start; (time, time) takes the frame that begins nearest to that time, the last one if it is
    after the end. Pictures are turned and mirrored as the file says, as a player shows them.
    """

    kind: Literal["video"] = "video"
    """The pictures of video files."""
    gives: ClassVar[RecordingKind] = "video"

    frames: int | None = Field(default=None, ge=1, le=10_000)
    """Number of frames, each the nearest to the middle of one of so many equal spans of time, so a short video gives
    some of them repeatedly; none takes all there are."""
    height: int | None = Field(default=None, ge=1, le=4096)
    """Of the frames in pixels, together with `width`; none leaves both as they are."""
    width: int | None = Field(default=None, ge=1, le=4096)
    """Of the frames in pixels."""
    channels: Literal[1, 3] = 3
    """1 (gray) or 3 (red, green, blue)."""

    @model_validator(mode="after")
    def _both_sides(self) -> VideoReader:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height {self.height} and width {self.width} go together; give both or neither")
        return self

    def read(self, source: Source) -> Video:
        """Read one video; see `Reader.read`."""
        part = seconds_of(source)
        path = _whole(self, source)
        with _opened(path) as (_, container):
            pictures = _pictures(container)
            if pictures is None:
                sound = ", only sound" if container.streams.audio else ""
                raise ReadError(f"{path} has no pictures{sound}; replace the file, or leave the modality out")
            _refuse_unknown_codec(pictures, path)
            span = _span(container, pictures.index, source, part)
        with _opened(path) as (av, container):
            frames = self._decoded(av, container)
            chosen = _all(frames, span) if self.frames is None else _nearest(frames, span, self.frames)
            return self._converted(av, chosen, source, start=0.0 if part is None else part[0])

    def _decoded(self, av: ModuleType, container: InputContainer) -> Iterator[tuple[float, Any]]:
        """Every frame with its time in seconds, in the order in which they are shown."""
        stream = _pictures(container)
        stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}
        # Frames are decoded by as many processes as there are loaders; threads within each would only wait.
        stream.codec_context.thread_type = "NONE"
        origin = float((container.start_time or 0) / av.time_base)
        last = 0.0
        for frame in cast("Iterator[Any]", container.decode(stream)):
            # Some old formats leave the time of a few frames open.
            if frame.pts is not None:
                last = max(last, float(frame.time) - origin)
            yield last, frame

    def _converted(self, av: ModuleType, chosen: Iterator[tuple[float, Any]], source: Source, *, start: float) -> Video:
        form = "gray" if self.channels == 1 else "rgb24"
        convert = av.video.reformatter.VideoReformatter()
        pictures: list[NDArray[np.uint8]] = []
        times: list[float] = []
        size = 0
        height, width = self.height, self.width
        last: Any = None
        for time, frame in chosen:
            if frame is not last:
                last = frame
                turn = _orientation(frame)
                # What changes its size on the way is brought to the size it began with.
                height, width = height or turn.sides(frame)[0], width or turn.sides(frame)[1]
                rows, columns = (width, height) if turn.transposed else (height, width)
                picture = convert.reformat(frame, width=columns, height=rows, format=form, interpolation="AREA")
                pictures.append(turn.upright(picture.to_ndarray().reshape(rows, columns, self.channels)))
            else:
                pictures.append(pictures[-1])
            times.append(time - start)
            size += pictures[-1].nbytes
            if size > LARGEST_VIDEO:
                raise ReadError(
                    f"{source} takes more than {LARGEST_VIDEO >> 20} MB when its frames are unpacked; read fewer of "
                    "them (frames), smaller ones (height and width), or a part"
                )
        if not pictures:
            raise ReadError(f"{source} has no frame that can be decoded; replace the file, or correct the part")
        return Video(np.stack(pictures).transpose(0, 3, 1, 2), np.array(times, np.float64).clip(min=0))


class _Orientation(NamedTuple):
    """How a stored picture is brought upright: rows and columns exchanged first, then either of them reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def sides(self, frame: Any) -> tuple[int, int]:
        """Height and width of a frame once it is upright."""
        return (frame.width, frame.height) if self.transposed else (frame.height, frame.width)

    def upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[H, W, C] as stored -> as shown, [W, H, C] where it is transposed."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


def _orientation(frame: Any) -> _Orientation:
    """What the display matrix of a frame says, to the nearest quarter turn; as stored where there is none.

    The matrix brings column p and row q of the stored picture to column a * p + c * q and row b * p + d * q of the one
    that is shown (ISO 14496-12, 8.3.2), but for a shift.
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
    """Reads the sound of a video file, at the rate and with the channels that it has there.

    The part of a source, (start, stop) in seconds, takes what sounds between the two.
    """

    kind: Literal["soundtrack"] = "soundtrack"
    """The sound of video files."""
    gives: ClassVar[RecordingKind] = "waveform"

    def read(self, source: Source) -> Waveform:
        """Read one recording; see `Reader.read`."""
        part = seconds_of(source)
        path = _whole(self, source)
        with _opened(path) as (_, container):
            if not container.streams.audio:
                raise ReadError(f"{path} has no sound; replace the file, or leave the modality out")
            _refuse_unknown_codec(container.streams.audio[0], path)
            _span(container, container.streams.audio[0].index, source, part)
        with _opened(path) as (av, container):
            stream = container.streams.audio[0]
            origin = (container.start_time or 0) / av.time_base
            blocks: list[NDArray[np.float32]] = []
            rate, channels, total = 0, 0, 0
            first = 0.0
            unpack = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                if not blocks:
                    rate, channels = int(frame.sample_rate), len(frame.layout.channels)
                    first = 0.0 if frame.pts is None else frame.time - origin
                if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                    raise ReadError(f"{source.path} changes the rate or the channels of its sound; convert the file")
                for block in unpack.resample(frame):
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


class Still(Stage):
    """Takes the first frame of a video as a picture."""

    def __call__(self, value: Video, draw: Draw) -> Image:
        """[F, C, H, W] -> [C, H, W]."""
        return Image(value.frames[0])


def _whole(reader: Reader, source: Source) -> Path:
    """The path of a source that is there and is not cut off.

    Raises:
        FileNotFoundError, ReadError: see `Reader.open_file`; or the file ends before it says that it does.
    """
    path = reader.open_file(source)
    missing = truncation(path)
    if missing is not None:
        raise ReadError(f"{path} cannot be read as a video: it is cut off: {missing}; replace the file")
    return path


@contextmanager
def _opened(path: Path) -> Generator[tuple[ModuleType, InputContainer], None, None]:
    """PyAV and an open file; what goes wrong within the block becomes a `ReadError`.

    A file is opened anew for each pass: seeking back to the start goes by key frames, so it fails, or loses sound, in a
    file whose pictures begin a little after its sound.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError('videos are read by PyAV; install it with: pip install "snn-datasets[video]"') from error
    try:
        # A path alone could be taken for an address.
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        # Titles and names of cameras are often not in UTF-8, and nothing is read of them.
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield av, container
    except ReadError:
        raise
    except Exception as error:  # FFmpeg's errors are of many types, and come from any step.
        if instead := foreign_format(path, _DESCRIPTIONS):
            raise ReadError(f"{path} cannot be read as a video: {instead}") from error
        raise ReadError(f"{path} cannot be read as a video: {error}; replace or convert the file") from error


def _pictures(container: InputContainer) -> Any:
    """The first stream of pictures that is no cover of a sound file; None if there is none."""
    from av.stream import Disposition

    streams = container.streams.video
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def _refuse_unknown_codec(stream: Any, path: Path) -> None:
    """Refuse pictures or sound for which FFmpeg has no decoder.

    Raises:
        ReadError: it has none.
    """
    if stream.codec_context is None:
        raise ReadError(f"{path} holds {stream.type} of a codec that FFmpeg does not know; convert the file")


class _Span(NamedTuple):
    """What is wanted of a file, in seconds from its start."""

    start: float
    end: float
    interval: float
    """From one frame to the next, on average."""


def _span(container: InputContainer, stream: int, source: Source, part: tuple[float, float] | None) -> _Span:
    """What is wanted: the part, or all there is.

    Times are taken from the packets, without decoding them: FLV files know neither length nor number of frames.
    """
    import av

    origin = (container.start_time or 0) / av.time_base
    times: list[float] = []
    for packet in container.demux(container.streams[stream]):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.size:
            times.append(float(stamp * packet.time_base) - origin)
    if not times:
        raise ReadError(f"{source.path} holds nothing that can be decoded; replace the file")
    first, last = min(times), max(times)
    if not (last - first < LONGEST_SECONDS):
        raise ReadError(
            f"{source.path} lasts {(last - first) / 3600:.3g} hours, or claims so, more than "
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


def _all(frames: Iterator[tuple[float, Any]], span: _Span) -> Iterator[tuple[float, Any]]:
    """Frames that begin within the span; the one nearest to it if it has no length."""
    if span.start == span.end:
        yield from _nearest(frames, span, 1)
        return
    for time, frame in frames:
        if time >= span.end:
            return
        if time >= span.start:
            yield time, frame


def _nearest(frames: Iterator[tuple[float, Any]], span: _Span, count: int) -> Iterator[tuple[float, Any]]:
    """The frame whose middle is nearest to that of each of `count` equal parts of the span, holding two at a time."""
    start, end, interval = span
    length = end - start
    # Times are those at which frames begin. A span of no length is such a time itself.
    early = interval / 2 if length else 0.0
    wanted = [start + (number + 0.5) * length / count - early for number in range(count)]
    done = 0
    before: tuple[float, Any] | None = None
    for now in frames:
        while done < count and wanted[done] <= now[0]:
            yield before if before is not None and wanted[done] - before[0] <= now[0] - wanted[done] else now
            done += 1
        if done == count:
            return
        before = now
    for _ in range(count - done if before is not None else 0):
        yield before  # pyright: ignore[reportReturnType]
