"""The five kinds of recording, by name, and the endings of their files."""

from typing import Literal

Kind = Literal["image", "video", "waveform", "events", "series"]
"""image, video, waveform (sound), events (x, y, time, polarity), series (slow measurements)."""

ENDINGS: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"),
    "waveform": (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"),
    "events": (".npz", ".aedat"),
    "series": (".csv", ".tsv", ".txt", ".npy"),
}
"""What a file usually holds by the ending of its name; .npy files may hold events too, see `contents`."""
KIND_OF: dict[str, Kind] = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}
