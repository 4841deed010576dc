"""Encode the sound of a sample for a browser."""

from __future__ import annotations

import io
import wave

import numpy as np

from snn_datasets.base.recordings import Waveform

MAX_SECONDS = 60
MAX_INT16 = 32767


def encode_wav(recording: Waveform) -> bytes:
    """Encode a recording as a 16-bit WAV file of at most one minute; more than two channels are averaged.

    A recording that exceeds full scale is attenuated, not clipped.
    """
    samples = recording.samples[:, : MAX_SECONDS * recording.rate].astype(np.float64)
    if len(samples) > 2:
        samples = samples.mean(0, keepdims=True)
    peak = max(1.0, float(np.abs(samples).max()))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(recording.rate)
        file.writeframes((samples.T / peak * MAX_INT16).round().astype("<i2").tobytes())
    return buffer.getvalue()
