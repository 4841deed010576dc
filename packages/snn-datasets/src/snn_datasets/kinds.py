"""The five kinds of recording, by name, and the endings of their files."""

from pathlib import PurePath
from typing import Literal

RecordingKind = Literal["image", "video", "waveform", "events", "series"]
"""image, video, waveform (sound), events (x, y, time, polarity), series (slow measurements)."""

ENDINGS: dict[RecordingKind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"),
    "waveform": (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"),
    "events": (".npz", ".npy", ".aedat"),
    "series": (".csv", ".tsv", ".txt", ".npy"),
}
"""What a file may hold by the ending of its name; which of the two a .npy file holds, `contents` tells."""
KIND_OF: dict[str, RecordingKind] = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}
"""What a file usually holds by the ending of its name."""


def kinds_by_name(name: str) -> tuple[RecordingKind, ...]:
    """Every kind that a file of this name may hold."""
    ending = PurePath(name).suffix.lower()
    return tuple(kind for kind, endings in ENDINGS.items() if ending in endings)
