"""Video files, FLV among them, whose frames tell their number by their brightness."""

from pathlib import Path

import av
import numpy as np

from datasets.formats.wav import tone

CODECS = {
    ".flv": ("flv", "pcm_s16le"),
    ".mp4": ("mpeg4", "aac"),
    ".avi": ("mpeg4", "pcm_s16le"),
    ".mkv": ("mpeg4", "flac"),
}
"""Pictures and sound by ending; what CREMA-D has in its FLV files is the codec of that name, Sorenson's H.263."""


def write_video(
    path: Path, *, frames: int, rate: int, height: int, width: int, step: int = 4, hertz: float | None = None
) -> None:
    """Frame k is grey, k * step bright, with a white square in the upper left corner; with a tone, if hertz are given.

    The tone lasts as long as the pictures, at 22,050 Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for_pictures, for_sound = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(for_pictures, rate=rate)
        pictures.height, pictures.width, pictures.pix_fmt = height, width, "yuv420p"
        pictures.bit_rate = 8_000_000
        sound = container.add_stream(for_sound, rate=22_050, layout="mono") if hertz is not None else None
        for number in range(frames):
            pixels = np.full((height, width, 3), number * step, np.uint8)
            pixels[: height // 4, : width // 4] = 255
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(pictures.encode())
        if sound is not None:
            wave = tone(hertz, rate=22_050, seconds=frames / rate)
            resampler = av.AudioResampler(format=sound.format, layout="mono", rate=22_050, frame_size=1024)
            whole = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
            whole.sample_rate, whole.pts = 22_050, 0
            for block in [*resampler.resample(whole), *resampler.resample(None)]:
                container.mux(sound.encode(block))
            container.mux(sound.encode())
