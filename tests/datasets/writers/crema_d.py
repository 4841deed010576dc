"""A small CREMA-D in its real layout."""

from dataclasses import dataclass
from pathlib import Path

from datasets.writers.flv import write_video
from datasets.writers.jpeg import write_jpeg
from datasets.writers.wav import write_wav

STEMS = (
    "1001_DFA_ANG_XX",
    "1001_DFA_DIS_XX",
    "1001_IEO_SAD_HI",
    "1004_ITH_FEA_XX",
    "1006_TIE_HAP_XX",
    "1006_TIE_NEU_XX",
    "1011_IWW_SAD_XX",
    "1011_TSI_ANG_XX",
    "1013_WSI_DIS_XX",
    "1013_WSI_SAD_XX",
    "1016_MTI_HAP_XX",
)
"""With seed 0, actor 1006 is for validation, 1011 and 1016 are for testing. 1013_WSI_SAD_XX is a published test."""


@dataclass(frozen=True)
class Written:
    """What `write_crema_d` wrote."""

    stems: tuple[str, ...]
    frames: int
    """Of each video, at 15 a second; frame k is 8 * k bright."""
    pictures: int
    """Frames in each folder; frame k has brightness 40 * k."""


def write_crema_d(root: Path, stems: tuple[str, ...] = STEMS) -> Written:
    """Sound at 16 kHz, video of 480 x 360 shrunk to 96 x 72, and frames a second apart.

    Videos have MP3 sound, as FFmpeg writes them by default, so that their frames start 25 ms after it.
    """
    for number, stem in enumerate(stems):
        write_wav(root / "AudioWAV" / f"{stem}.wav", hertz=300 + 100 * number, rate=16_000, seconds=1.5 + 0.1 * number)
        write_video(
            root / "VideoFlash" / f"{stem}.flv",
            frames=30,
            rate=15,
            height=72,
            width=96,
            step=8,
            hertz=300 + 100 * number,
            codecs=("flv", "mp3"),
            sound_rate=44_100,
        )
        for second in range(3):
            gray = (40 * second, 40 * second, 40 * second)
            path = root / "Image-01-FPS" / stem / f"{second:05d}.jpg"
            write_jpeg(path, height=72, width=96, left=gray, right=gray)
    return Written(stems, frames=30, pictures=3)
