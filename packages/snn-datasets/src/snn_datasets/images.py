"""Image files to pictures, and what is done to pictures and to the frames of videos."""

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

from snn_datasets.file_signature import foreign_format
from snn_datasets.kinds import RecordingKind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Image, Video
from snn_datasets.stage import Draw, Stage

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""What is read, whatever the name of the file. Pillow reads more, some of it by running other programs."""

_DESCRIPTIONS = {"a PNG image", "a JPEG image", "a BMP image", "a WebP image", "a TIFF image", "a GIF image"}
"""What `file_signature` calls them."""

SUBFILE_TYPE, PREVIEW = 254, 1
"""A tag of TIFF, and its value where a picture is a smaller version of another one in the file."""

LARGEST_PIXELS = 60_000_000
"""Pixels of the largest picture; a small file can claim any size, and memory is taken before it is seen to be wrong."""


class ImageReader(Reader):
    """Reads a picture: PNG, JPEG, BMP, WebP, TIFF, PPM or GIF (of an animation the first frame).

    It is put upright as its EXIF data say, transparent parts are put on white, as a viewer shows them, and 16 bits of
    gray are scaled to 8.
    """

    kind: Literal["image"] = "image"
    """Picture files."""
    gives: ClassVar[RecordingKind] = "image"

    channels: Literal[1, 3] | None = None
    """1 (gray) or 3 (red, green, blue), converting the others; none leaves each file as it is."""

    fit: int | None = Field(default=None, ge=1)
    """Number of pixels that both sides need afterwards: a JPEG much larger than that is decoded at a half, a quarter or
    an eighth of its size, which is faster. None decodes it in full."""

    def read(self, source: Source) -> Image:
        """Read one picture; see `Reader.read`."""
        path = self.open_file(source)
        try:
            return Image(_pixels(_open(path, fit=self.fit), self.channels, path))
        except ReadError:
            raise
        except Exception as error:  # Pillow raises errors of many types: decoding, turning upright, converting.
            if instead := foreign_format(path, _DESCRIPTIONS):
                raise ReadError(f"{path} cannot be read as a picture: {instead}") from error
            raise ReadError(f"{path} cannot be read as a picture: {error}; replace or convert the file") from error


def _open(path: Path, *, fit: int | None = None) -> Pillow.Image:
    """Decode a file in full and put it upright."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    with warnings.catch_warnings():
        # Pillow's own limit is larger than the one below, which says what to do.
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
                f"{path} begins with a preview of its picture, as raw files of cameras do; develop it, and save it as "
                "TIFF or PNG"
            )
        if fit is not None:
            image.draft(None, (fit, fit))
        image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _pixels(image: Pillow.Image, channels: Literal[1, 3] | None, path: Path) -> NDArray[np.uint8]:
    """[channels, H, W] of a decoded picture; its own number of channels if none is given."""
    if image.mode.startswith("I"):
        # Rounded up from a half, as 65535 / 255 = 257 steps each.
        gray = ((_gray_levels(image, path) * 255) + 0.5).astype(np.uint8)
        return np.repeat(gray[None], channels or 1, axis=0)
    return _bytes_of(image, channels or _channels_of(image), path)


def _channels_of(image: Pillow.Image) -> int:
    return 1 if image.mode in {"1", "L"} or image.mode.startswith("I") else 3


def _gray_levels(image: Pillow.Image, path: Path) -> NDArray[np.float32]:
    """[H, W] in 0..1 of a picture with 16 bits, which Pillow would clip to 8 rather than scale."""
    gray = np.asarray(image, dtype=np.float32) / np.float32(65535)
    if gray.min() < 0 or gray.max() > 1:
        raise ReadError(f"{path} has gray levels outside 0..65535; store it with 8 or 16 bits")
    return gray


def _bytes_of(image: Pillow.Image, channels: int, path: Path) -> NDArray[np.uint8]:
    """[channels, H, W], a view of pixels that lie in memory as they were decoded, channels last."""
    if image.mode == "F":
        raise ReadError(f"{path} has floating point pixels of unknown range; store it with 8 or 16 bits")
    if image.has_transparency_data:
        from PIL import Image as Pillow

        paper = Pillow.new("RGB", image.size, "white")
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        paper.paste(image, mask=image)
        image = paper
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow knows no direct way to gray
    mode = "L" if channels == 1 else "RGB"
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch [..., C, H, W] to [..., C, height, width], bilinear; where it shrinks, every pixel counts."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    import torch

    frames = torch.from_numpy(pixels.reshape(-1, *pixels.shape[-3:]))
    stretched = torch.nn.functional.interpolate(frames, (height, width), mode="bilinear", antialias=True)
    return cast("NDArray[np.uint8]", stretched.numpy()).reshape(*pixels.shape[:-2], height, width)


def _pixels_of(picture: Image | Video, stage: str) -> NDArray[np.uint8]:
    if isinstance(picture, Image):
        return picture.pixels
    if not isinstance(cast(object, picture), Video):
        raise ValueError(f"{stage} takes an image or a video, but it was given {type(picture).__name__}")
    return picture.frames


def _with_pixels(picture: Image | Video, pixels: NDArray[np.uint8]) -> Image | Video:
    return Image(pixels) if isinstance(picture, Image) else replace(picture, frames=pixels)


class Resize(Stage):
    """Stretches a picture, or every frame of a video, to a height and a width; bilinear, averaging where it shrinks."""

    height: int = Field(ge=1, le=4096)
    """In pixels."""
    width: int = Field(ge=1, le=4096)
    """In pixels."""

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, height, width]."""
        pixels = _pixels_of(value, "Resize")
        return _with_pixels(value, resized(pixels, self.height, self.width))


class CenterCrop(Stage):
    """Cuts a square from the middle; a picture too small for it is enlarged first, keeping its proportions.

    A picture that is size x size already is left as it is. So the stage can stand among `encode` behind a
    `RandomResizedCrop` among `augment`, which runs on training samples alone.
    """

    size: int = Field(ge=1, le=4096)
    """Height and width in pixels of what is cut out."""
    shorter: int | None = Field(default=None, ge=1, le=4096)
    """The shorter side is first resized to so many pixels, at least `size`, keeping proportions; none: it is not."""

    @model_validator(mode="after")
    def _holds_the_crop(self) -> CenterCrop:
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
        pixels = resized(pixels, scaled[0], scaled[1])
        top, left = (round((side - self.size) / 2) for side in scaled)
        return _with_pixels(value, pixels[..., top : top + self.size, left : left + self.size])


class RandomResizedCrop(Stage):
    """Cuts out a random part, the same of every frame, and stretches it to a square (Szegedy et al. 2015).

    Only the part is resized, which costs less than resizing the whole. Where ten draws in a row do not fit into the
    picture, the largest central part of an allowed shape is taken, as torchvision does.
    """

    draws: ClassVar[bool] = True

    size: int = Field(ge=1, le=4096)
    """Height and width in pixels of the result."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of the part, as a share of the picture's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width of the part over its height."""

    @model_validator(mode="after")
    def _has_ranges(self) -> RandomResizedCrop:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} is a range of positive numbers, the smaller first, but it is {(low, high)}")
        if self.scale[1] > 1:
            raise ValueError(f"scale is a share of the area, at most 1, but it reaches {self.scale[1]}")
        return self

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, size, size]."""
        pixels = _pixels_of(value, "RandomResizedCrop")
        top, left, height, width = self.part(pixels.shape[-2], pixels.shape[-1], draw)
        pixels = pixels[..., top : top + height, left : left + width]
        return _with_pixels(value, resized(pixels, self.size, self.size))

    def part(self, height: int, width: int, draw: Draw) -> tuple[int, int, int, int]:
        """Top, left, height and width of the part of a picture of that height and width."""
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
    """Mirrors a picture, or all frames of a video, left to right in some of the draws."""

    draws: ClassVar[bool] = True

    chance: float = Field(default=0.5, ge=0, le=1)
    """How often."""

    def __call__(self, value: Image | Video, draw: Draw) -> Image | Video:
        """[C, H, W] -> [C, H, W]."""
        import torch

        pixels = _pixels_of(value, "RandomFlip")
        if float(torch.rand((), generator=draw.generator())) >= self.chance:
            return value
        return _with_pixels(value, np.ascontiguousarray(pixels[..., ::-1]))


class Normalize(Stage):
    """Takes a mean from each channel and divides it by a standard deviation."""

    mean: tuple[float, ...] = Field(min_length=1)
    """By channel."""
    std: tuple[float, ...] = Field(min_length=1)
    """By channel, positive."""

    @model_validator(mode="after")
    def _matches(self) -> Normalize:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} need as many entries, one a channel, and std > 0")
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
                f"[..., {len(self.mean)}, H, W]; give mean and std of as many channels"
            )
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (value - mean) / std


IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The mean and the deviation of ImageNet's pictures, as red, green and blue in 0..1; what the literature takes."""
