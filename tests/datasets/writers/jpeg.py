"""JPEG files with a known image."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_jpeg(path: Path, *, height: int, width: int, left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    """An image whose left half has one color (red, green, blue) and whose right half another."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG", quality=95, subsampling=0)
