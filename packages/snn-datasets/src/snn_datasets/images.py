"""Image files to tensors."""

# torchvision has no stubs.
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm"})


def count_channels(path: Path) -> int:
    """Return 1 for a file with grey levels, 3 for any other. Raises ValueError when it cannot be read."""
    image = _open(path)
    return 1 if image.mode in {"1", "L"} or image.mode.startswith("I") else 3


def read_image(path: Path, *, size: int, channels: int, corrupt: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Read one image, upright, and stretch it to a square; `corrupt` changes it before it is stretched.

    Transparent parts are put on white, as a viewer shows them. Of an animation the first frame is read.

    Shape: -> [channels, size, size], float in [0, 1]; channels is 1 (grey) or 3 (red, green, blue)
    """
    image = _open(path)
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits to 8 rather than scale them.
        grey = np.asarray(image, dtype=np.float32) / 65535
        if grey.min() < 0 or grey.max() > 1:
            raise ValueError(f"image {path} has grey levels outside 0..65535; store it with 8 or 16 bits")
        pixels = torch.as_tensor(grey)[None].repeat(channels, 1, 1)
    elif image.mode == "F":
        raise ValueError(f"image {path} has floating point pixels of unknown range; store it with 8 or 16 bits")
    else:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            paper = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(paper, image)
        bytes_ = np.array(image.convert("L" if channels == 1 else "RGB"))
        pixels = v2.to_dtype(v2.to_image(bytes_), torch.float32, scale=True).as_subclass(Tensor)
    if corrupt is not None:
        pixels = corrupt(pixels)
    return v2.resize(pixels, [size, size], antialias=True).clamp(0, 1)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)  # a copy, fully decoded
    except Exception as error:  # Pillow's decoders raise errors of many types on a broken file.
        raise ValueError(f"cannot read image {path}: {error}; replace or convert the file") from error
