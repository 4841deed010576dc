"""The five kinds of recording, by name."""

from typing import Literal

Kind = Literal["image", "video", "waveform", "events", "series"]
"""image, video, waveform (sound), events (x, y, time, polarity), series (slow measurements)."""
