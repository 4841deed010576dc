"""The sound reader, and the stages on waveforms compared with torchaudio and SciPy."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from datasets.writers.wav import tone, write_wav
from snn_datasets import Draw, ReadError, Source
from snn_datasets.base.recordings import Waveform
from snn_datasets.base.registries import STAGES
from snn_datasets.modalities.audio import Clamp, FitLength, Mono, Resample, WaveformReader

DRAW = Draw(seed=0, sample="a", modality="m")


def read(path: Path, *part: float) -> Waveform:
    return WaveformReader().read(Source(path, part))


# Reading


def test_channels_come_first_and_keep_their_order(tmp_path: Path):
    write_wav(tmp_path / "x.wav", hertz=440, rate=44_100, seconds=0.5, channels=2, subtype="FLOAT")
    wave = read(tmp_path / "x.wav")
    assert wave.rate == 44_100
    assert wave.samples.shape == (2, 22_050)
    assert wave.samples.dtype == np.float32
    np.testing.assert_array_equal(wave.samples[0], tone(440, rate=44_100, seconds=0.5))
    np.testing.assert_array_equal(wave.samples[1], wave.samples[0] / 2)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_full_scale_is_one_in_every_width(tmp_path: Path, subtype: str):
    write_wav(tmp_path / "x.wav", hertz=300, rate=8_000, seconds=0.1, subtype=subtype)
    expected = tone(300, rate=8_000, seconds=0.1)
    np.testing.assert_allclose(read(tmp_path / "x.wav").samples[0], expected, atol=0.009)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_common_formats_are_read(tmp_path: Path, ending: str):
    soundfile.write(tmp_path / f"x.{ending}", tone(440, rate=16_000, seconds=0.5), 16_000)
    wave = read(tmp_path / f"x.{ending}")
    assert wave.rate == 16_000
    assert wave.samples.std() == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_a_part_selects_the_sound_between_two_times(tmp_path: Path):
    samples = np.arange(8_000, dtype=np.float32) / 8_000
    soundfile.write(tmp_path / "x.wav", samples, 8_000, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "x.wav", 0.25, 0.5).samples[0], samples[2_000:4_000])
    np.testing.assert_array_equal(read(tmp_path / "x.wav", 0.75, 9).samples[0], samples[6_000:])
    with pytest.raises(ReadError, match=r"x\.wav \[2, 3\] has no samples"):
        read(tmp_path / "x.wav", 2, 3)
    with pytest.raises(ReadError, match=r"the part must be \(start, stop\) in seconds"):
        read(tmp_path / "x.wav", 3, 2)
    with pytest.raises(ReadError, match=r"the part must be \(start, stop\) in seconds"):
        read(tmp_path / "x.wav", 3)


def test_a_recording_longer_than_a_block_is_read_whole(tmp_path: Path):
    samples = np.random.default_rng(0).uniform(-1, 1, (700_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 48_000, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "x.wav").samples, samples.T)


def test_a_recording_without_samples_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8_000)
    with pytest.raises(ReadError, match=r"x\.wav has no samples; replace"):
        read(tmp_path / "x.wav")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_and_inf_samples_are_refused(tmp_path: Path, wrong: float):
    soundfile.write(tmp_path / "x.wav", np.array([0.0, wrong, 0.0]), 8_000, subtype="FLOAT")
    with pytest.raises(ReadError, match=r"x\.wav has samples that are NaN or inf"):
        read(tmp_path / "x.wav")


def test_a_file_that_ends_before_its_sound_is_refused(tmp_path: Path):
    write_wav(tmp_path / "x.wav", hertz=440, rate=8_000, seconds=0.5)
    whole = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(whole[:-1_000])
    with pytest.raises(ReadError, match="truncated, 1,000 of its 8,000 bytes of sound are missing"):
        read(tmp_path / "x.wav")
    # Written to a pipe, whose length nobody knew.
    (tmp_path / "x.wav").write_bytes(whole[:40] + struct.pack("<I", 0xFFFF_FFFF) + whole[44:])
    np.testing.assert_allclose(read(tmp_path / "x.wav").samples[0], tone(440, rate=8_000, seconds=0.5), atol=1e-4)


CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "wavex.wav": ("WAVEX", "PCM_24"),
    "rf64.wav": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


@pytest.mark.parametrize("ending", CONTAINERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_truncated_files_are_detected_at_any_length(tmp_path: Path, ending: str, channels: int):
    rng = np.random.default_rng(0)
    wave = np.stack([tone(440, rate=48_000, seconds=1)] * channels, 1) + rng.uniform(-0.1, 0.1, (48_000, channels))
    file, subtype = CONTAINERS[ending]
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, wave.clip(-1, 1), 48_000, format=file, subtype=subtype)
    assert read(path).samples.shape == (channels, 48_000)
    whole = path.read_bytes()
    for share in (0.1, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ReadError, match=r"cannot be read as sound: .*; replace"):
            read(path)


def test_rf64_states_its_length_in_the_ds64_chunk(tmp_path: Path):
    write_wav(tmp_path / "x.wav", hertz=440, rate=8_000, seconds=0.5)
    plain = (tmp_path / "x.wav").read_bytes()
    sizes = b"ds64" + struct.pack("<IQQQI", 28, len(plain) + 28, 8_000, 4_000, 0)
    whole = b"RF64" + struct.pack("<I", 0xFFFF_FFFF) + b"WAVE" + sizes + plain[12:40] + b"\xff" * 4 + plain[44:]
    (tmp_path / "x.wav").write_bytes(whole)
    assert read(tmp_path / "x.wav").samples.shape == (1, 4_000)
    (tmp_path / "x.wav").write_bytes(whole[:-600])
    with pytest.raises(ReadError, match="truncated, 600 of its 8,000 bytes of sound are missing"):
        read(tmp_path / "x.wav")


@pytest.mark.parametrize("length", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_sound_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, length: int):
    """`sox ... -t wav - | cat` claims 0x7FFFF000 bytes, others none or all there can be."""
    write_wav(tmp_path / "x.wav", hertz=440, rate=8_000, seconds=0.5)
    whole = (tmp_path / "x.wav").read_bytes()
    claimed = struct.pack("<I", min(length + 36, 0xFFFF_FFFF))
    piped = whole[:4] + claimed + whole[8:40] + struct.pack("<I", length) + whole[44:]
    (tmp_path / "x.wav").write_bytes(piped)
    np.testing.assert_allclose(read(tmp_path / "x.wav").samples[0], tone(440, rate=8_000, seconds=0.5), atol=1e-4)
    np.testing.assert_allclose(
        read(tmp_path / "x.wav", 0.1, 0.2).samples[0], tone(440, rate=8_000, seconds=0.5)[800:1600], atol=1e-4
    )


def test_an_empty_recording_stays_empty_whatever_chunk_follows(tmp_path: Path):
    write_wav(tmp_path / "x.wav", hertz=440, rate=8_000, seconds=0.5)
    head = (tmp_path / "x.wav").read_bytes()[:40] + struct.pack("<I", 0)
    note = b"LIST" + struct.pack("<I", 20) + b"INFOICMT" + struct.pack("<I", 8) + b"nothing\0"
    whole = head[:4] + struct.pack("<I", len(head) + len(note) - 8) + head[8:] + note
    (tmp_path / "x.wav").write_bytes(whole)
    with pytest.raises(ReadError, match=r"x\.wav has no samples"):
        read(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + bytes(40), "an M4A sound file"),
        (b"\x1f\x8b\x08" + bytes(40), "a gzip archive"),
        (b'{"url": "https://example.org"}' + bytes(10), "a JSON file"),
    ],
)
def test_an_error_names_the_actual_format(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ReadError, match=rf"x\.wav cannot be read as sound: it is {words}"):
        read(tmp_path / "x.wav")


def test_a_header_that_claims_more_than_there_can_be_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "x.flac", tone(440, rate=8_000, seconds=0.5), 8_000)
    head = bytearray((tmp_path / "x.flac").read_bytes())
    head[21] |= 0x0F  # the highest bits of the number of samples
    (tmp_path / "x.flac").write_bytes(head)
    with pytest.raises(ReadError, match=r"x\.flac has \(or claims\) 64,424,513,440 samples"):
        read(tmp_path / "x.flac")


def test_files_that_are_not_sound_are_refused(tmp_path: Path):
    (tmp_path / "x.wav").write_bytes(b"this is no recording")
    with pytest.raises(ReadError, match=r"x\.wav cannot be read as sound: .*replace"):
        read(tmp_path / "x.wav")
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        read(tmp_path / "gone.wav")


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path, ending: str):
    soundfile.write(tmp_path / f"x.{ending}", tone(440, rate=16_000, seconds=0.3), 16_000)
    whole = (tmp_path / f"x.{ending}").read_bytes()
    rng = np.random.default_rng(2)
    refusals: list[str] = []
    for number in range(80):
        damaged = bytearray(whole if number % 2 else whole[: rng.integers(1, len(whole) + 1)])
        for index in rng.integers(0, min(len(damaged), 100), 3):
            damaged[index] = rng.integers(256)
        path = tmp_path / f"y.{ending}"
        path.write_bytes(damaged)
        try:
            assert np.isfinite(read(path).samples).all()
        except ReadError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all(text.startswith(str(tmp_path / "y")) for text in refusals)


# Stages


def test_channels_are_mixed_to_their_mean():
    samples = np.random.default_rng(0).uniform(-1, 1, (3, 50)).astype(np.float32)
    mixed = Mono()(Waveform(samples, 8_000), DRAW)
    assert mixed.rate == 8_000
    np.testing.assert_allclose(mixed.samples, samples.sum(0, keepdims=True) / 3, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(16_000, 22_050), (44_100, 8_000), (8_000, 8_000)])
def test_another_rate_keeps_the_tone(source: int, target: int):
    wave = np.stack([tone(440, rate=source, seconds=0.5), tone(700, rate=source, seconds=0.5)])
    resampled = Resample(rate=target)(Waveform(wave, source), DRAW)
    assert resampled.rate == target
    assert resampled.samples.shape == (2, target // 2)
    middle = slice(200, -200)  # the filter has no signal to lean on at the ends
    for channel, hertz in zip(resampled.samples, (440, 700), strict=True):
        np.testing.assert_allclose(channel[middle], tone(hertz, rate=target, seconds=0.5)[middle], atol=5e-3)


def test_resampling_removes_frequencies_above_the_lower_nyquist():
    wave = np.random.default_rng(0).normal(size=(1, 44_100)).astype(np.float32)
    ours = Resample(rate=22_050)(Waveform(wave, 44_100), DRAW).samples[0]
    theirs = resample_poly(wave[0], 1, 2)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_all_recordings_get_the_same_length():
    wave = Waveform(np.ones((2, 100), np.float32), 1_000)
    assert STAGES.parse({"kind": "fit-length", "seconds": 0.04}) == FitLength(seconds=0.04)
    assert FitLength(seconds=0.04)(wave, DRAW).samples.shape == (2, 40)
    longer = FitLength(seconds=0.25)(wave, DRAW).samples
    assert longer.shape == (2, 250)
    assert longer[:, :100].min() == 1
    assert longer[:, 100:].max() == 0


def test_samples_are_clipped_to_full_scale():
    wave = Waveform(np.array([[-1.5, -1.0, 0.2, 3.0]], np.float32), 8_000)
    assert Clamp()(wave, DRAW).samples.tolist() == [[-1.0, -1.0, pytest.approx(0.2), 1.0]]
    assert wave.samples.max() == 3
