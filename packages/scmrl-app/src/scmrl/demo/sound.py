"""The sound of a sample, as a browser plays it."""

from __future__ import annotations

import io
import wave

import numpy as np

from snn_datasets.base.recordings import Waveform

LONGEST = 60
"""Seconds that are played."""
LOUDEST = 32767


def wav(recording: Waveform) -> bytes:
    """A recording as a WAV file of 16 bits; more than two channels are averaged, and it ends after a minute.

    Louder than full scale it is made quieter, so that nothing is clipped.
    """
    samples = recording.samples[:, : LONGEST * recording.rate].astype(np.float64)
    if len(samples) > 2:
        samples = samples.mean(0, keepdims=True)
    peak = max(1.0, float(np.abs(samples).max()))
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(recording.rate)
        file.writeframes((samples.T / peak * LOUDEST).round().astype("<i2").tobytes())
    return written.getvalue()
