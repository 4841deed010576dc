"""The reader of image files, and stages on images and the frames of videos."""

# Pillow and torch leave some of their signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Image, Video
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.file_signature import explain_other_format

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""Formats that are read, whatever the file's name. Pillow reads more, some by running other programs."""

_DESCRIPTIONS = {"a PNG image", "a JPEG image", "a BMP image", "a WebP image", "a TIFF image", "a GIF image"}
"""Their names in `file_signature`."""

SUBFILE_TYPE, PREVIEW = 254, 1
"""A TIFF tag, and its value for an image that is a reduced version of another one in the file."""

LARGEST_PIXELS = 60_000_000
"""Pixels of the largest image. A small file can claim any size, and decoding allocates memory before it fails."""


class ImageReader(Reader):
    """Reads an image: PNG, JPEG, BMP, WebP, TIFF, PPM or GIF (the first frame of an animation).

    The EXIF orientation is applied, transparent pixels are blended with white, and 16-bit gray is scaled to 8 bits.
    """

    kind: Literal["image"] = "image"
    """Image files."""
    gives: ClassVar[RecordingKind] = "image"

    channels: Literal[1, 3] | None = None
    """1 (gray) or 3 (red, green, blue); other files are converted. None keeps the channels of each file."""

    fit: int | None = Field(default=None, ge=1)
    """Smallest side in pixels that is needed afterward. A much larger JPEG is decoded at a half, a quarter or an
    eighth of its size, which is faster. None decodes at full size."""

    def read(self, source: Source) -> Image:
        """Read one image; see `Reader.read`."""
        path = self.open_file(source)
        try:
            return Image(_pixels(_open(path, fit=self.fit), self.channels, path))
        except ReadError:
            raise
        except Exception as error:  # Pillow raises many types while decoding, rotating and converting.
            reason = explain_other_format(path, _DESCRIPTIONS) or f"{error}; replace or convert the file"
            raise ReadError(f"{path} cannot be read as an image: {reason}") from error


def _open(path: Path, *, fit: int | None = None) -> Pillow.Image:
    """Decode a file and apply its EXIF orientation."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    with warnings.catch_warnings():
        # The limit below is lower than Pillow's, and its message says what to do.
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        image = Pillow.open(path, formats=FORMATS)
    with image:
        if image.width * image.height > LARGEST_PIXELS:
            raise ReadError(
                f"{path} claims {image.width} x {image.height} pixels, more than {LARGEST_PIXELS:,}; "
                "reduce it or replace the file"
            )
        if image.format == "TIFF" and cast(Any, image).tag_v2.get(SUBFILE_TYPE, 0) == PREVIEW:
            raise ReadError(
                f"{path} begins with a preview image, as camera raw files do; develop it and save it as TIFF or PNG"
            )
        if fit is not None:
            image.draft(None, (fit, fit))
        image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _pixels(image: Pillow.Image, channels: Literal[1, 3] | None, path: Path) -> NDArray[np.uint8]:
    """Return [channels, H, W] of a decoded image; None keeps its number of channels."""
    if image.mode.startswith("I"):
        # Round half up: 65535 / 255 = 257 levels each.
        gray = ((_gray_levels(image, path) * 255) + 0.5).astype(np.uint8)
        return np.repeat(gray[None], channels or 1, axis=0)
    return _bytes_of(image, channels or _channels_of(image), path)


def _channels_of(image: Pillow.Image) -> int:
    return 1 if image.mode in {"1", "L"} or image.mode.startswith("I") else 3


def _gray_levels(image: Pillow.Image, path: Path) -> NDArray[np.float32]:
    """Return [H, W] in 0..1 of a 16-bit image, which Pillow would clip to 8 bits rather than scale."""
    gray = np.asarray(image, dtype=np.float32) / np.float32(65535)
    if gray.min() < 0 or gray.max() > 1:
        raise ReadError(f"{path} has gray levels outside 0..65535; store it with 8 or 16 bits")
    return gray


def _bytes_of(image: Pillow.Image, channels: int, path: Path) -> NDArray[np.uint8]:
    """Return [channels, H, W], a view of pixels stored channels last."""
    if image.mode == "F":
        raise ReadError(f"{path} has floating point pixels of unknown range; store it with 8 or 16 bits")
    if image.has_transparency_data:
        from PIL import Image as Pillow

        background = Pillow.new("RGB", image.size, "white")
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        background.paste(image, mask=image)
        image = background
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow cannot convert LAB to gray directly
    mode = "L" if channels == 1 else "RGB"
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize [..., C, H, W] to [..., C, height, width]: bilinear, with antialiasing."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    import torch

    frames = torch.from_numpy(pixels.reshape(-1, *pixels.shape[-3:]))
    stretched = torch.nn.functional.interpolate(frames, (height, width), mode="bilinear", antialias=True)
    return cast("NDArray[np.uint8]", stretched.numpy()).reshape(*pixels.shape[:-2], height, width)


def _pixels_of(value: Image | Video, stage: str) -> NDArray[np.uint8]:
    if isinstance(value, Image):
        return value.pixels
    if not isinstance(cast(object, value), Video):
        raise ValueError(f"{stage} takes an image or a video, not {type(value).__name__}")
    return value.frames


def _with_pixels(value: Image | Video, pixels: NDArray[np.uint8]) -> Image | Video:
    return Image(pixels) if isinstance(value, Image) else replace(value, frames=pixels)


class Resize(Stage):
    """Resizes an image, or every frame of a video, to a height and a width: bilinear, with antialiasing."""

    height: int = Field(ge=1, le=4096)
    """In pixels."""
    width: int = Field(ge=1, le=4096)
    """In pixels."""

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, height, width]."""
        pixels = _pixels_of(value, "Resize")
        return _with_pixels(value, resize(pixels, self.height, self.width))


class CenterCrop(Stage):
    """Crops a square from the center; a smaller image is enlarged first, keeping its aspect ratio.

    An image of size x size is returned unchanged, so the stage can follow a `RandomResizedCrop` that runs on training
    samples only.
    """

    size: int = Field(ge=1, le=4096)
    """Height and width of the crop in pixels."""
    shorter: int | None = Field(default=None, ge=1, le=4096)
    """Length in pixels, at least `size`, to which the shorter side is resized before cropping; None: no resizing."""

    @model_validator(mode="after")
    def _check_shorter(self) -> CenterCrop:
        if self.shorter is not None and self.shorter < self.size:
            raise ValueError(f"a side of {self.shorter} pixels cannot hold a crop of {self.size}; raise shorter")
        return self

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, size, size]."""
        pixels = _pixels_of(value, "CenterCrop")
        height, width = pixels.shape[-2:]
        if (height, width) == (self.size, self.size):
            return value
        shorter = self.shorter or max(self.size, min(height, width))
        # The longer side is rounded down, as torchvision's Resize does.
        scaled = [
            shorter if side == min(height, width) else shorter * side // min(height, width) for side in (height, width)
        ]
        pixels = resize(pixels, scaled[0], scaled[1])
        top, left = (round((side - self.size) / 2) for side in scaled)
        return _with_pixels(value, pixels[..., top : top + self.size, left : left + self.size])


class RandomResizedCrop(Stage):
    """Crops a random region, the same of every frame, and resizes it to a square (Szegedy et al. 2015).

    If ten draws in a row do not fit into the image, the largest central region of an allowed aspect ratio is taken, as
    in torchvision.
    """

    draws: ClassVar[bool] = True

    size: int = Field(ge=1, le=4096)
    """Height and width in pixels of the result."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of the region, as a fraction of the image."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio of the region, width over height."""

    @model_validator(mode="after")
    def _check_ranges(self) -> RandomResizedCrop:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range (low, high) with 0 < low <= high, not {(low, high)}")
        if self.scale[1] > 1:
            raise ValueError(f"scale is a fraction of the area, at most 1, but its upper bound is {self.scale[1]}")
        return self

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, size, size]."""
        pixels = _pixels_of(value, "RandomResizedCrop")
        top, left, height, width = self.region(pixels.shape[-2], pixels.shape[-1], draw)
        pixels = pixels[..., top : top + height, left : left + width]
        return _with_pixels(value, resize(pixels, self.size, self.size))

    def region(self, height: int, width: int, draw: Draw) -> tuple[int, int, int, int]:
        """Draw the region of an image of that height and width: top, left, height, width."""
        import torch

        numbers = cast("list[list[float]]", torch.rand(10, 4, generator=draw.generator()).tolist())
        low, high = (math.log(bound) for bound in self.ratio)
        for for_area, for_ratio, for_top, for_left in numbers:
            area = height * width * (self.scale[0] + for_area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + for_ratio * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(for_top * (height - h + 1)), int(for_left * (width - w + 1)), h, w
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
        return (height - h) // 2, (width - w) // 2, h, w


class RandomFlip(Stage):
    """Flips an image, or all frames of a video, horizontally with some probability."""

    draws: ClassVar[bool] = True

    chance: float = Field(default=0.5, ge=0, le=1)
    """Probability of a flip."""

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, H, W]."""
        import torch

        pixels = _pixels_of(value, "RandomFlip")
        if float(torch.rand((), generator=draw.generator())) >= self.chance:
            return value
        return _with_pixels(value, np.ascontiguousarray(pixels[..., ::-1]))


class Normalize(Stage):
    """Subtracts a mean from each channel and divides by a standard deviation."""

    mean: tuple[float, ...] = Field(min_length=1)
    """Per channel."""
    std: tuple[float, ...] = Field(min_length=1)
    """Per channel, positive."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Normalize:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} need one entry per channel each, and std > 0")
        return self

    def __call__(self, value: Any, draw: Draw) -> Tensor:
        """Float tensor [..., C, H, W] -> the same shape.

        Raises:
            ValueError: another number of channels.
        """
        import torch

        if value.dim() < 3 or value.shape[-3] != len(self.mean):
            raise ValueError(
                f"Normalize has {len(self.mean)} channels, but its input has shape {tuple(value.shape)}, not "
                f"[..., {len(self.mean)}, H, W]; give mean and std one entry per channel of the input"
            )
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (value - mean) / std


IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, RGB in 0..1, as used in the literature."""
