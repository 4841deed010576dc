"""Reading videos and their sound, from files whose frames encode their number."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from datasets.writers.flv import write_video
from datasets.writers.wav import tone
from snn_datasets import Draw, ReadError, Source
from snn_datasets.base.recordings import Video, Waveform
from snn_datasets.modalities import video as module
from snn_datasets.modalities.video import FirstFrame, SoundtrackReader, VideoReader
from snn_datasets.stages.codings import Frames

DRAW = Draw(seed=0, sample="a", modality="m")
STEP = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 frames at 30 a second, 48 high and 96 wide, frame k is 5 * k bright; with a tone of 440 Hz."""
    folder = tmp_path_factory.mktemp("videos")
    for ending in ("flv", "mp4", "avi", "mkv"):
        write_video(folder / f"x.{ending}", frames=45, rate=30, height=48, width=96, step=STEP, hertz=440)
    return folder


def read(path: Path, *part: float, **fields: int) -> Video:
    return VideoReader.model_validate(fields).read(Source(path, part))


def numbers(video: Video) -> list[int]:
    """Which frame of the file each is, by its brightness; codecs lose a little."""
    return np.round(video.frames[:, :, -12:, -12:].mean((1, 2, 3)) / STEP).astype(int).tolist()


def hear(path: Path, *part: float) -> Waveform:
    return SoundtrackReader().read(Source(path, part))


# Images


@pytest.mark.parametrize("ending", ["flv", "mp4", "avi", "mkv"])
def test_every_frame_is_read_in_order_with_its_time(folder: Path, ending: str):
    video = read(folder / f"x.{ending}")
    assert video.frames.shape == (45, 3, 48, 96)
    assert video.frames.dtype == np.uint8
    assert numbers(video) == list(range(45))
    np.testing.assert_allclose(video.times, np.arange(45) / 30, atol=1e-3)
    assert video.frames[:, :, :10, :20].min() > 230  # the white square is in the upper left


@pytest.mark.parametrize("ending", ["flv", "mp4", "avi", "mkv"])
def test_a_few_frames_are_spread_evenly(folder: Path, ending: str):
    video = read(folder / f"x.{ending}", frames=3, height=24, width=36)
    assert video.frames.shape == (3, 3, 24, 36)
    # Of 15 frames each, the middle ones.
    assert numbers(video) == [7, 22, 37]
    np.testing.assert_allclose(video.times, np.array([7, 22, 37]) / 30, atol=1e-3)


def test_as_many_frames_as_there_are_are_those_and_more_repeat_them(folder: Path):
    assert numbers(read(folder / "x.mp4", frames=45)) == list(range(45))
    twice = read(folder / "x.mp4", frames=90)
    assert sorted(set(numbers(twice))) == list(range(45))
    assert np.diff(numbers(twice)).max() == 1
    assert (np.diff(twice.times) >= 0).all()


def test_picking_while_reading_is_picking_afterwards(folder: Path):
    late = Frames(steps=5)(read(folder / "x.mp4"), DRAW)
    early = Frames(steps=5)(read(folder / "x.mp4", frames=5), DRAW)
    np.testing.assert_array_equal(early.numpy(), late.numpy())


def test_a_part_selects_the_frames_between_two_times(folder: Path):
    video = read(folder / "x.mp4", 0.5, 1.0)
    assert numbers(video) == list(range(15, 30))
    np.testing.assert_allclose(video.times, np.arange(15) / 30, atol=1e-3)
    assert numbers(read(folder / "x.mp4", 0.5, 1.0, frames=3)) == [17, 22, 27]
    assert numbers(read(folder / "x.mp4", 1.4, 99.0)) == [42, 43, 44]


def test_a_point_in_time_is_the_nearest_frame(folder: Path):
    for ending in ("flv", "mp4"):
        assert numbers(read(folder / f"x.{ending}", 1.0, 1.0)) == [30]
        assert numbers(read(folder / f"x.{ending}", 0.0, 0.0, frames=1)) == [0]
        assert numbers(read(folder / f"x.{ending}", 9.0, 9.0, frames=2)) == [44, 44]


def test_a_part_beyond_the_end_is_refused(folder: Path):
    with pytest.raises(ReadError, match=r"begins after the end of the file, which lasts 1\.5 s"):
        read(folder / "x.mp4", 2.0, 3.0)
    with pytest.raises(ReadError, match="begins after the end"):
        hear(folder / "x.mp4", 2.0, 3.0)


def test_gray_is_one_channel(folder: Path):
    video = read(folder / "x.avi", frames=4, channels=1)
    assert video.frames.shape == (4, 1, 48, 96)
    color = read(folder / "x.avi", frames=4)
    np.testing.assert_allclose(video.frames[:, 0].astype(int), color.frames[:, 0].astype(int), atol=2)


def test_a_single_frame_is_a_video(tmp_path: Path):
    write_video(tmp_path / "x.flv", frames=1, rate=30, height=32, width=48)
    for fields in ({}, {"frames": 1}):
        video = read(tmp_path / "x.flv", **fields)
        assert video.times.tolist() == [0.0]
    assert FirstFrame()(video, DRAW).pixels.shape == (3, 32, 48)


def test_videos_that_would_fill_the_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGEST_VIDEO", 10 * 3 * 48 * 96)
    with pytest.raises(ReadError, match=r"read fewer frames \(frames\), smaller ones"):
        read(folder / "x.flv")
    assert len(read(folder / "x.flv", frames=10).frames) == 10
    monkeypatch.setattr(module, "LONGEST_SECONDS", 1)
    with pytest.raises(ReadError, match=r"lasts \(or claims\) 0\.000408 hours, more than 0"):
        read(folder / "x.flv", frames=10)


def test_frames_larger_than_any_camera_makes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGEST_FRAME", 48 * 95)
    with pytest.raises(ReadError, match=r"x\.flv (cannot be read as a video|has no frame)"):
        read(folder / "x.flv")


# Sound


@pytest.mark.parametrize("ending", ["flv", "mp4", "avi", "mkv"])
def test_sound_is_read_at_its_own_rate(folder: Path, ending: str):
    wave = hear(folder / f"x.{ending}")
    assert wave.rate == 22_050
    assert wave.samples.dtype == np.float32
    np.testing.assert_allclose(wave.samples.shape, (1, 33_075), atol=1_024)  # AAC has whole blocks
    expected = tone(440, rate=22_050, seconds=1.5)
    np.testing.assert_allclose(wave.samples[0, 2_000:30_000], expected[2_000:30_000], atol=0.02)


@pytest.mark.parametrize("ending", ["flv", "mp4"])
def test_a_part_of_the_soundtrack_is_the_sound_between_two_times(folder: Path, ending: str):
    part = hear(folder / f"x.{ending}", 0.5, 1.0)
    assert part.samples.shape == (1, 11_025)
    np.testing.assert_array_equal(part.samples, hear(folder / f"x.{ending}").samples[:, 11_025:22_050])


def test_a_missing_stream_is_reported(tmp_path: Path):
    write_video(tmp_path / "silent.mp4", frames=5, rate=10, height=32, width=48)
    with pytest.raises(ReadError, match=r"silent\.mp4 has no sound"):
        hear(tmp_path / "silent.mp4")
    with av.open(str(tmp_path / "dark.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(ReadError, match=r"dark\.mkv has no video stream"):
        read(tmp_path / "dark.mkv")


# Files that are not what they should be


def test_files_that_are_not_videos_are_refused(tmp_path: Path):
    (tmp_path / "x.mp4").write_bytes(b"this is no video")
    for reader in (VideoReader(), SoundtrackReader()):
        with pytest.raises(ReadError, match=r"x\.mp4 cannot be read as a video: .*replace"):
            reader.read(Source(tmp_path / "x.mp4"))
        with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
            reader.read(Source(tmp_path / "gone.mp4"))


def test_a_list_of_other_files_is_not_followed(folder: Path, tmp_path: Path):
    (tmp_path / "x.mp4").write_text(f"ffconcat version 1.0\nfile '{folder / 'x.mp4'}'\n", encoding="utf-8")
    with pytest.raises(ReadError, match="cannot be read as a video"):
        read(tmp_path / "x.mp4")
    (tmp_path / "x.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder / 'x.mp4'}\n", encoding="utf-8"
    )
    with pytest.raises(ReadError, match="cannot be read as a video"):
        read(tmp_path / "x.mp4")


def test_a_file_name_is_not_a_url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "concat:x.mp4").write_bytes((folder / "x.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("concat:x.mp4"), frames=2).frames) == 2


@pytest.mark.parametrize("ending", ["flv", "mp4", "avi", "mkv"])
def test_damaged_files_are_read_or_refused_and_nothing_else(folder: Path, tmp_path: Path, ending: str):
    whole = (folder / f"x.{ending}").read_bytes()
    rng = np.random.default_rng(3)
    refusals: list[str] = []
    path = tmp_path / f"y.{ending}"
    for number in range(24):
        damaged = bytearray(whole if number % 2 else whole[: rng.integers(1, len(whole) + 1)])
        for index in rng.integers(0, min(len(damaged), 400 if number % 3 else len(damaged)), 4):
            damaged[index] = rng.integers(256)
        path.write_bytes(damaged)
        for reader in (VideoReader(frames=2, height=24, width=24), SoundtrackReader()):
            try:
                reader.read(Source(path))
            except ReadError as error:
                refusals.append(str(error))
    assert len(refusals) > 4
    assert all(text.startswith(str(path)) for text in refusals)


def test_without_pyav_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"snn-datasets\[video\]"):
        read(folder / "x.mp4")


def test_height_and_width_go_together():
    with pytest.raises(ValueError, match="go together"):
        VideoReader(height=24)
