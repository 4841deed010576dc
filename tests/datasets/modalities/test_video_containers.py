"""Videos with the defaults of FFmpeg: sound and frames of different lengths, late, rotated, without a stated length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import InvalidDataError
from av.stream import Disposition

from datasets.writers.flv import write_video
from datasets.writers.wav import tone
from snn_datasets import ReadError, Source
from snn_datasets.base.recordings import Video
from snn_datasets.formats.video_truncation import truncation
from snn_datasets.modalities.video import SoundtrackReader, VideoReader

# File, encoders of video and sound, samples per second.
WRITTEN: dict[str, tuple[str, str, int]] = {
    "cremad.flv": ("flv", "mp3", 44_100),
    "low.flv": ("flv", "mp3", 22_050),
    "h264.flv": ("libx264", "aac", 44_100),
    "h264.mp4": ("libx264", "aac", 44_100),
    "mpeg4.mov": ("mpeg4", "aac", 44_100),
    "opus.mkv": ("libx264", "libopus", 48_000),
    "vp8.webm": ("libvpx", "libopus", 48_000),
    "x.ts": ("libx264", "aac", 44_100),
    "x.mpg": ("mpeg1video", "mp2", 44_100),
    "pcm.avi": ("mpeg4", "pcm_s16le", 44_100),
    "mp3.avi": ("mpeg4", "mp3", 44_100),
}
RATE, FRAMES, STEP = 25, 20, 8
LENGTHS = [(0.8, 0), (0.3, 0), (1.4, 0), (0.8, 5)]
"""Seconds of sound, and the delay in frames of the video, which lasts 0.8 s."""


def write(path: Path, *, sound: float = 0.8, late: int = 0, piped: bool = False, **more: Any) -> None:
    pictures, voice, rate = WRITTEN[path.name]
    write_video(
        path,
        frames=FRAMES,
        rate=RATE,
        height=48,
        width=64,
        step=STEP,
        hertz=440,
        codecs=(pictures, voice),
        late=late,
        sound_seconds=sound,
        sound_rate=rate,
        piped=piped,
        **more,
    )


def numbers(video: Video) -> list[int]:
    return np.round(video.frames[:, :, -12:, -12:].mean((1, 2, 3)) / STEP).astype(int).tolist()


@pytest.mark.parametrize(("sound", "late"), LENGTHS)
@pytest.mark.parametrize("name", WRITTEN)
def test_all_frames_and_all_sound_are_read_whichever_starts_or_ends_first(
    tmp_path: Path, name: str, sound: float, late: int
):
    path = tmp_path / name
    write(path, sound=sound, late=late)
    video = VideoReader().read(Source(path))
    assert numbers(video) == list(range(FRAMES))
    if path.suffix != ".avi":  # which has its first frame at 0 always, and a hole behind it if that was late
        # Sound encoders prepend up to a block of silence, which delays the frames.
        delay = video.times[0] - late / RATE
        assert -0.002 <= delay < 0.06
        np.testing.assert_allclose(np.diff(video.times), 1 / RATE, atol=0.002)
        assert numbers(VideoReader(frames=4).read(Source(path))) == [2, 7, 12, 17]
    wave = SoundtrackReader().read(Source(path))
    assert wave.rate == WRITTEN[name][2]
    # Encoders fill up their last block, some before the sound too.
    assert 0 <= wave.samples.shape[1] - round(sound * wave.rate) <= 3 * 1152
    middle = wave.samples[0, 4_000 : int(sound * wave.rate) - 2_000]
    assert np.abs(middle).max() == pytest.approx(np.abs(tone(440, rate=wave.rate, seconds=1)).max(), rel=0.15)
    crossings = np.count_nonzero(np.diff(np.signbit(middle)))
    assert crossings / (len(middle) / wave.rate) == pytest.approx(880, rel=0.03)


@pytest.mark.parametrize("name", ["cremad.flv", "opus.mkv", "vp8.webm", "h264.mp4"])
def test_a_video_that_does_not_say_how_long_it_is_is_read_whole(tmp_path: Path, name: str):
    path = tmp_path / name
    options = {"movflags": "frag_keyframe+empty_moov"} if path.suffix == ".mp4" else {}
    write(path, piped=True, options=options)
    video = VideoReader().read(Source(path))
    assert numbers(video) == list(range(FRAMES))
    assert numbers(VideoReader(frames=4).read(Source(path))) == [2, 7, 12, 17]
    wave = SoundtrackReader().read(Source(path))
    assert wave.samples.shape[1] / wave.rate == pytest.approx(0.8, abs=0.08)


def test_a_part_of_late_frames_uses_the_time_of_the_file(tmp_path: Path):
    path = tmp_path / "h264.mp4"
    write(path, sound=1.4, late=5)
    assert numbers(VideoReader().read(Source(path, (0.0, 0.4)))) == list(range(5))
    assert SoundtrackReader().read(Source(path, (0.5, 1.0))).samples.shape == (1, 22_050)


# Cut off

CUT = ["cremad.flv", "h264.flv", "h264.mp4", "mpeg4.mov", "opus.mkv", "vp8.webm", "pcm.avi", "mp3.avi"]


@pytest.mark.parametrize("name", CUT)
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str):
    path = tmp_path / name
    # With its index at the front an MP4 file that is cut off can be opened.
    write(path, options={"movflags": "faststart"} if path.suffix in {".mp4", ".mov"} else {})
    whole = path.read_bytes()
    assert truncation(path) is None
    for length in (len(whole) - 9, *(round(len(whole) * share) for share in (0.9, 0.6, 0.34, 0.1))):
        path.write_bytes(whole[:length])
        for reader in (VideoReader(frames=2), SoundtrackReader()):
            with pytest.raises(
                ReadError, match=rf"{path.name} cannot be read as a video: it is truncated: .*; replace"
            ):
                reader.read(Source(path))


@pytest.mark.parametrize("name", ["cremad.flv", "opus.mkv", "vp8.webm", "h264.mp4"])
def test_a_file_of_unknown_length_truncated_within_an_element_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    options = {"movflags": "frag_keyframe+empty_moov"} if path.suffix == ".mp4" else {}
    write(path, piped=True, options=options)
    assert truncation(path) is None
    whole = path.read_bytes()
    path.write_bytes(whole[: round(len(whole) * 0.6)])
    with pytest.raises(ReadError, match="it is truncated: "):
        VideoReader().read(Source(path))


def flv_tags(whole: bytes) -> list[int]:
    """Where each tag of an FLV file begins, and where the last one ends."""
    starts = [13]
    while starts[-1] < len(whole):
        starts.append(starts[-1] + 11 + int.from_bytes(whole[starts[-1] + 1 : starts[-1] + 4], "big") + 4)
    return starts


def test_an_flv_file_truncated_between_tags_is_detected_by_its_stated_duration(tmp_path: Path):
    path = tmp_path / "cremad.flv"
    write(path, sound=1.4)
    whole = path.read_bytes()
    starts = flv_tags(whole)
    assert starts[-1] == len(whole)
    path.write_bytes(whole[: starts[len(starts) // 2]])
    with pytest.raises(ReadError, match=r"it is truncated: it states a duration of 1\.4\d? s, but ends after 0\."):
        VideoReader().read(Source(path))


def test_a_remuxed_copy_gives_the_same_frames_and_sound(tmp_path: Path):
    path, copy = tmp_path / "h264.mp4", tmp_path / "copy.mkv"
    write(path)
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    first, second = VideoReader().read(Source(path)), VideoReader().read(Source(copy))
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_allclose(np.diff(first.times), np.diff(second.times), atol=0.002)


# Other formats


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"label": 3}', "it is a JSON file; replace"),
        (b"<?xml version='1.0'?><a/>", "it is an XML file; replace"),
        (b"\x1f\x8b\x08" + bytes(40), "it is a gzip archive; unpack it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "it is a PNG image; "),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "it is a WAV sound file; "),
    ],
)
def test_an_error_names_the_actual_format(tmp_path: Path, content: bytes, what: str):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    for reader in (VideoReader(), SoundtrackReader()):
        with pytest.raises(ReadError, match=rf"x\.mp4 cannot be read as a video: {what}"):
            reader.read(Source(path))


def test_a_video_container_with_only_sound_is_reported(tmp_path: Path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8_000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(ReadError, match=r"x\.mp4 has no video stream, only sound; replace"):
        VideoReader().read(Source(path))


@pytest.mark.parametrize("pictures", [True, False])
def test_the_cover_of_a_sound_file_is_not_a_video(tmp_path: Path, pictures: bool):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 32, 32, "rgb24", Disposition.attached_pic
        sound = container.add_stream("aac", rate=8_000, layout="mono")
        video = container.add_stream("mpeg4", rate=10) if pictures else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        white = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8), format="rgb24")
        container.mux([*cover.encode(white), *cover.encode()])
        if video is not None:
            for _ in range(3):
                black = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                container.mux(video.encode(black))
            container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8_000
        container.mux([*sound.encode(frame), *sound.encode()])
    if pictures:
        frames = VideoReader().read(Source(path)).frames
        assert frames.shape == (3, 3, 48, 64)
        assert frames.max() < 20
    else:
        with pytest.raises(ReadError, match=r"x\.mp4 has no video stream, only sound"):
            VideoReader().read(Source(path))


@pytest.mark.parametrize("name", ["cremad.flv", "pcm.avi", "h264.mp4", "opus.mkv"])
def test_a_title_that_is_not_utf_8_is_ignored(tmp_path: Path, name: str):
    path = tmp_path / name
    write(path, title="Grüße aus Köln")
    content = path.read_bytes()
    written = "Grüße aus Köln".encode()
    assert written in content
    # As long as before, so that sizes stay right.
    path.write_bytes(content.replace(written, "Grüße aus Köln   ".encode("latin-1")))
    assert numbers(VideoReader().read(Source(path))) == list(range(FRAMES))
    assert SoundtrackReader().read(Source(path)).rate == WRITTEN[name][2]


def test_an_unknown_codec_is_reported(tmp_path: Path):
    path = tmp_path / "pcm.avi"
    write(path)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQQQ").replace(b"fmp4", b"QQQQ"))
    with pytest.raises(ReadError, match=r"pcm\.avi has a video stream with an unknown codec; convert"):
        VideoReader().read(Source(path))
    assert SoundtrackReader().read(Source(path)).rate == 44_100


def test_every_error_of_pyav_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "h264.mp4"
    write(path)
    for error in (RuntimeError("a"), KeyError("b"), OSError("c"), InvalidDataError(1, "d"), MemoryError()):
        with monkeypatch.context() as patch:
            patch.setattr(VideoReader, "_decode", lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(ReadError, match=r"h264\.mp4 cannot be read as a video: .*; replace or convert"):
                VideoReader().read(Source(path))


# Turned


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_video_is_turned_and_mirrored_as_the_file_says(tmp_path: Path, ending: str, degrees: int, mirrored: bool):
    path = tmp_path / f"x.{ending}"
    write_video(path, frames=3, rate=10, height=48, width=96, turned=(degrees, mirrored, False))
    stored = np.zeros((48, 96), bool)
    stored[:12, :24] = True  # the white square
    upright = np.rot90(stored, degrees // 90)
    upright = upright[:, ::-1] if mirrored else upright
    video = VideoReader(channels=1).read(Source(path))
    assert video.frames.shape == (3, 1, *upright.shape)
    assert ((video.frames[0, 0] > 128) != upright).mean() < 0.02
    # The requested height and width are those of the upright frame.
    small = VideoReader(channels=1, frames=1, height=upright.shape[0] // 2, width=upright.shape[1] // 2).read(
        Source(path)
    )
    assert ((small.frames[0, 0] > 128) != upright[::2, ::2]).mean() < 0.04


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        # As phones held upright, upside down, and on their other side write it; and FFmpeg's for a front camera.
        ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
        ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
        ((0, -1, 1, 0), lambda pixels: np.rot90(pixels, 1)),
        ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
        ((0, 0, 0, 0), lambda pixels: pixels),
    ],
)
def test_the_matrix_of_a_phones_video_is_followed(
    tmp_path: Path, matrix: tuple[int, int, int, int], turn: Callable[[np.ndarray], np.ndarray]
):
    path = tmp_path / "x.mp4"
    write_video(path, frames=2, rate=10, height=48, width=96)
    content = bytearray(path.read_bytes())
    a, b, c, d = (value * 0x1_0000 for value in matrix)
    identity = b"".join(value.to_bytes(4, "big") for value in (0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000))
    of_track = content.index(identity, content.index(b"tkhd"))
    content[of_track : of_track + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 0x4000_0000)
    )
    path.write_bytes(content)
    stored = np.zeros((48, 96), bool)
    stored[:12, :24] = True
    upright = turn(stored)
    video = VideoReader(channels=1).read(Source(path))
    assert video.frames.shape == (2, 1, *upright.shape)
    assert ((video.frames[0, 0] > 128) != upright).mean() < 0.02
