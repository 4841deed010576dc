"""The five kinds of recording and their file extensions."""

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
"""File extensions by kind; `contents` distinguishes the two kinds of .npy files."""
KIND_OF: dict[str, RecordingKind] = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}
"""The usual kind by file extension."""


def kinds_by_name(name: str) -> tuple[RecordingKind, ...]:
    """Return every kind that a file of this name may hold."""
    ending = PurePath(name).suffix.lower()
    return tuple(kind for kind, endings in ENDINGS.items() if ending in endings)
