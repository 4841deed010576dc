"""Video files, FLV among them, whose brightness encodes the frame number."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from datasets.writers.wav import tone

CODECS = {
    ".flv": ("flv", "pcm_s16le"),
    ".mp4": ("mpeg4", "aac"),
    ".avi": ("mpeg4", "pcm_s16le"),
    ".mkv": ("mpeg4", "flac"),
}
"""Video and sound codecs by extension; the FLV files of CREMA-D use Sorenson's H.263."""
MUXERS = {".mkv": "matroska", ".ts": "mpegts", ".mpg": "mpeg"}


class Pipe(io.RawIOBase):
    """What is written to it once, front to back: a muxer cannot go back and fill in how long the video is."""

    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.content += data
        return len(data)


def write_video(
    path: Path,
    *,
    frames: int,
    rate: int,
    height: int,
    width: int,
    step: int = 4,
    hertz: float | None = None,
    codecs: tuple[str, str] | None = None,
    late: int = 0,
    sound_seconds: float | None = None,
    sound_rate: int = 22_050,
    turned: tuple[int, bool, bool] = (0, False, False),
    piped: bool = False,
    options: dict[str, str] | None = None,
    title: str | None = None,
) -> None:
    """Frame k is gray, k * step bright, with a white square in the upper left corner; with a tone, if hertz are given.

    Args:
        path: the file; its ending names the container.
        frames: number of them.
        rate: frames a second.
        height: of the frames as they are stored.
        width: of the frames as they are stored.
        step: brightness of one frame above that of the one before.
        hertz: of the tone; none writes no sound.
        codecs: names of FFmpeg's video and sound encoders; None: those of `CODECS`.
        late: delay of the video after the sound in frames.
        sound_seconds: length of the tone; None: that of the video.
        sound_rate: samples a second.
        turned: degrees counterclockwise, then whether mirrored left to right, then top to bottom, for showing it.
        piped: whether it is written without going back, so that nothing in the file says how long it is.
        options: of the muxer.
        title: of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for_pictures, for_sound = codecs or CODECS[path.suffix]
    pipe = Pipe()
    muxer = MUXERS.get(path.suffix, path.suffix[1:])
    with av.open(pipe if piped else str(path), "w", format=muxer, options=options) as container:
        if title is not None:
            container.metadata["title"] = title
        pictures = container.add_stream(for_pictures, rate=rate)
        assert isinstance(pictures, VideoStream)
        pictures.height, pictures.width, pictures.pix_fmt = height, width, "yuv420p"
        pictures.bit_rate = 8_000_000
        if turned != (0, False, False):
            pictures.set_display_rotation(turned[0], hflip=turned[1], vflip=turned[2])
        sound = container.add_stream(for_sound, rate=sound_rate, layout="mono") if hertz is not None else None
        for number in range(frames):
            pixels = np.full((height, width, 3), number * step, np.uint8)
            pixels[: height // 4, : width // 4] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + late, Fraction(1, rate)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        if sound is not None:
            assert isinstance(sound, AudioStream)
            assert hertz is not None
            wave = tone(hertz, rate=sound_rate, seconds=frames / rate if sound_seconds is None else sound_seconds)
            size = sound.codec_context.frame_size or 1024
            resampler = av.AudioResampler(format=sound.format, layout="mono", rate=sound_rate, frame_size=size)
            whole = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
            whole.sample_rate, whole.pts = sound_rate, 0
            for block in [*resampler.resample(whole), *resampler.resample(None)]:
                container.mux(sound.encode(block))
            container.mux(sound.encode())
    if piped:
        path.write_bytes(pipe.content)
