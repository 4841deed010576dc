"""The image reader, and the stages on images and videos compared with torchvision."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageCms, TiffImagePlugin
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms import v2

from datasets.writers.jpeg import write_jpeg
from snn_datasets import Draw, ReadError, Source
from snn_datasets.base.recordings import Image, Video
from snn_datasets.modalities.images import (
    IMAGENET,
    CenterCrop,
    ImageReader,
    Normalize,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)

DRAW = Draw(seed=0, sample="a", modality="m")


def drawn(epoch: int) -> Draw:
    return Draw(seed=0, sample="a", modality="m", epoch=epoch)


def halves(left: Any, right: Any, mode: str) -> Pillow.Image:
    """An image 12 wide and 6 high with two colors."""
    image = Pillow.new(mode, (12, 6), left)
    image.paste(right, (6, 0, 12, 6))
    return image


def read(path: Path, **fields: object) -> np.ndarray:
    return ImageReader.model_validate(fields).read(Source(path)).pixels


def corners(pixels: np.ndarray) -> tuple[list[int], list[int]]:
    """Color at the left and the right edge."""
    return pixels[:, 0, 0].tolist(), pixels[:, 0, -1].tolist()


def noise(height: int, width: int, channels: int = 3) -> Image:
    """A smooth random image."""
    pixels = np.random.default_rng(0).integers(0, 256, (channels, height // 8 + 1, width // 8 + 1), np.uint8)
    return Image(v2.functional.resize(torch.from_numpy(pixels), [height, width]).numpy())


def assert_same_to_a_level(pixels: np.ndarray, expected: torch.Tensor):
    """Torchvision rounds in another place on some processors."""
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels.astype(int), expected.numpy().astype(int), rtol=0, atol=1)


# Reading


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_gray_files_have_one_channel_and_others_three(tmp_path: Path, mode: str, channels: int):
    Pillow.new(mode, (5, 4)).save(tmp_path / "x.png")
    assert read(tmp_path / "x.png").shape == (channels, 4, 5)
    for requested in (1, 3):
        pixels = read(tmp_path / "x.png", channels=requested)
        assert pixels.shape == (requested, 4, 5)
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "tiff", "ppm", "gif", "jpg"])
def test_colors_keep_their_channel_in_all_formats(tmp_path: Path, ending: str):
    halves((255, 0, 51), (0, 102, 0), "RGB").save(tmp_path / f"x.{ending}", lossless=True, quality=100, subsampling=0)
    left, right = corners(read(tmp_path / f"x.{ending}", channels=3))
    assert left == pytest.approx([255, 0, 51], abs=2)
    assert right == pytest.approx([0, 102, 0], abs=2)


def test_transparency_shows_white_paper(tmp_path: Path):
    halves((0, 0, 255, 255), (0, 0, 0, 0), "RGBA").save(tmp_path / "x.png")
    assert corners(read(tmp_path / "x.png")) == ([0, 0, 255], [255, 255, 255])


def test_palette_colors_are_resolved_and_transparency_is_white(tmp_path: Path):
    image = halves(0, 1, "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=bytes([255, 0]))
    assert corners(read(tmp_path / "opaque.png")) == ([255, 0, 0], [0, 255, 0])
    assert corners(read(tmp_path / "clear.png")) == ([255, 0, 0], [255, 255, 255])


def test_sixteen_bits_are_scaled_rather_than_clipped(tmp_path: Path):
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    Pillow.fromarray(levels).save(tmp_path / "x.png")
    for channels in (1, 3):
        assert read(tmp_path / "x.png", channels=channels).tolist() == [[[0, 1, 128, 255]]] * channels


def test_the_exif_orientation_is_applied(tmp_path: Path):
    exif = Pillow.Exif()
    exif[0x0112] = 6  # its right is the top
    pixels = np.zeros((6, 12, 3), np.uint8)
    pixels[:, :6] = 255
    Pillow.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=100)
    upright = read(tmp_path / "x.jpg")
    assert upright.shape == (3, 12, 6)
    assert upright[:, :5].min() > 200
    assert upright[:, 7:].max() < 50


def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_requested_size(tmp_path: Path):
    write_jpeg(tmp_path / "x.jpg", height=360, width=480, left=(200, 0, 0), right=(0, 0, 200))
    assert read(tmp_path / "x.jpg").shape == (3, 360, 480)
    assert read(tmp_path / "x.jpg", fit=181).shape == (3, 360, 480)
    small = read(tmp_path / "x.jpg", fit=90)
    assert small.shape == (3, 90, 120)
    left, right = corners(small)
    assert left == pytest.approx([200, 0, 0], abs=3)
    assert right == pytest.approx([0, 0, 200], abs=3)


def test_a_file_is_read_by_its_content_not_its_extension(tmp_path: Path):
    halves((255, 0, 0), (0, 0, 255), "RGB").save(tmp_path / "x.jpg", "PNG")
    assert corners(read(tmp_path / "x.jpg")) == ([255, 0, 0], [0, 0, 255])


def test_formats_that_run_programs_are_refused(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ReadError, match=r"x\.png cannot be read as an image"):
        read(tmp_path / "x.png")


def test_floating_point_pixels_are_refused(tmp_path: Path):
    Pillow.new("F", (6, 6), 0.5).save(tmp_path / "x.tif")
    with pytest.raises(ReadError, match=r"x\.tif has floating point pixels.*8 or 16 bits"):
        read(tmp_path / "x.tif")


def test_gray_levels_of_unknown_range_are_refused(tmp_path: Path):
    Pillow.fromarray(np.full((6, 6), 70_000, np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(ReadError, match=r"outside 0\.\.65535"):
        read(tmp_path / "x.tif")


def test_an_image_that_claims_to_be_huge_is_refused_before_decoding(tmp_path: Path):
    head = b"P5 %d %d 255\n"
    (tmp_path / "x.pgm").write_bytes(head % (20_000, 4_000) + bytes(100))
    with pytest.raises(ReadError, match=r"claims 20000 x 4000 pixels, more than 60,000,000"):
        read(tmp_path / "x.pgm")
    (tmp_path / "x.pgm").write_bytes(head % (2**20, 2**20) + bytes(100))
    with pytest.raises(ReadError, match=r"x\.pgm cannot be read as an image: .*exceeds limit"):
        read(tmp_path / "x.pgm")


def test_files_that_are_not_images_are_refused(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"this is no picture")
    with pytest.raises(ReadError, match=r"x\.png cannot be read as an image: .*replace"):
        read(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read(tmp_path / "gone.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "gif", "bmp"])
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path, ending: str):
    Pillow.fromarray(noise(40, 56).pixels.transpose(1, 2, 0)).save(tmp_path / f"x.{ending}")
    whole = (tmp_path / f"x.{ending}").read_bytes()
    rng = np.random.default_rng(1)
    refusals: list[str] = []
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for index in rng.integers(0, len(damaged), 3):
            damaged[index] = rng.integers(256)
        (tmp_path / "y").write_bytes(damaged)
        try:
            assert read(tmp_path / "y").ndim == 3
        except ReadError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all(text.startswith(str(tmp_path / "y")) for text in refusals)


def test_importing_readers_imports_no_decoders():
    code = "import sys; from snn_datasets.modalities import audio, images, video; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "torchaudio", "PIL", "soundfile", "av"} & set(loaded)


# Stages


def pixels_of(value: Image | Video) -> np.ndarray:
    assert isinstance(value, Image)
    return value.pixels


def test_stretching_averages_rather_than_skips():
    stripes = np.zeros((1, 64, 48), np.uint8)
    stripes[:, :, ::2] = 255
    stretched = pixels_of(Resize(height=8, width=6)(Image(stripes), DRAW))
    assert stretched.shape == (1, 8, 6)
    assert stretched == pytest.approx(127.5, abs=8)


@pytest.mark.parametrize("to", [(128, 128), (224, 96), (7, 5), (360, 480), (500, 40)])
@pytest.mark.parametrize("how", ["as decoded", "channels first", "gray", "video", "a part"])
def test_stretching_is_that_of_torchvision_to_a_level(to: tuple[int, int], how: str):
    channels_first = np.random.default_rng(2).integers(0, 256, (4, 3, 360, 480), np.uint8)
    pixels = {
        "as decoded": np.ascontiguousarray(channels_first[0].transpose(1, 2, 0)).transpose(2, 0, 1),
        "channels first": channels_first[1],
        "gray": channels_first[1, :1],
        "video": channels_first,
        "a part": channels_first[2, :, 11:201, 50:333],
    }[how]
    expected = v2.functional.resize(torch.from_numpy(pixels), list(to), antialias=True)
    if how == "video":
        stretched = Resize(height=to[0], width=to[1])(Video(pixels, np.arange(4.0)), DRAW)
        assert isinstance(stretched, Video)
        assert_same_to_a_level(stretched.frames, expected)
    else:
        stretched = Resize(height=to[0], width=to[1])(Image(pixels), DRAW)
        assert isinstance(stretched, Image)
        assert_same_to_a_level(stretched.pixels, expected)


@pytest.mark.slow
def test_stretching_does_not_wait_for_torchvision_to_be_imported():
    code = (
        "import sys, numpy as np; from snn_datasets.modalities.images import resize;"
        "resize(np.zeros((3, 9, 8), np.uint8), 4, 4); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert "torchvision" not in loaded


def test_stages_do_not_modify_their_input():
    original = noise(40, 60)
    copy = original.pixels.copy()
    for stage in (Resize(height=20, width=30), CenterCrop(size=24), RandomResizedCrop(size=16), RandomFlip(chance=1.0)):
        stage(original, drawn(0))
        np.testing.assert_array_equal(original.pixels, copy)


@pytest.mark.parametrize(("height", "width"), [(360, 480), (480, 361), (100, 90)])
def test_center_crops_equal_torchvisions(height: int, width: int):
    original = noise(height, width)
    expected = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(128)])(torch.from_numpy(original.pixels))
    cut = CenterCrop(size=128, shorter=256)(original, DRAW)
    assert_same_to_a_level(pixels_of(cut), expected)
    assert CenterCrop(size=128, shorter=256)(cut, DRAW) is cut


def test_an_image_smaller_than_the_crop_is_enlarged():
    small = Image(np.full((3, 10, 30), 7, np.uint8))
    assert pixels_of(CenterCrop(size=20)(small, DRAW)).tolist() == np.full((3, 20, 20), 7).tolist()


def test_a_random_region_is_cropped_then_resized():
    stage = RandomResizedCrop(size=32)
    original = noise(90, 120)
    top, left, height, width = stage.region(90, 120, drawn(3))
    part = torch.from_numpy(original.pixels)[:, top : top + height, left : left + width]
    expected = v2.functional.resize(part, [32, 32], antialias=True)
    assert_same_to_a_level(pixels_of(stage(original, drawn(3))), expected)


def test_random_regions_respect_their_ranges_and_cover_the_image():
    stage = RandomResizedCrop(size=8, scale=(0.2, 0.6), ratio=(0.5, 2.0))
    torch.manual_seed(0)
    parts = np.array([stage.region(200, 300, drawn(epoch)) for epoch in range(500)])
    top, left, height, width = parts.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 300).all()
    area, ratio = height * width / 60_000, width / height
    assert 0.19 < area.min() < 0.22
    assert 0.58 < area.max() < 0.61
    assert 0.49 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.03
    assert top.min() == 0
    assert (top + height).max() > 198
    assert (left + width).max() > 297
    theirs = np.array(
        [TorchvisionCrop.get_params(torch.zeros(3, 200, 300), [0.2, 0.6], [0.5, 2.0]) for _ in range(500)]
    )
    np.testing.assert_allclose(parts.mean(0), theirs.mean(0), atol=8)


def test_the_center_is_taken_if_no_region_fits():
    stage = RandomResizedCrop(size=8, scale=(1.0, 1.0))
    assert stage.region(10, 100, DRAW) == (0, 43, 10, 13)  # 13 wide is 4/3 of 10 high
    assert stage.region(100, 10, DRAW) == (43, 0, 13, 10)


def test_all_frames_of_a_video_get_the_same_crop_and_flip():
    frames = np.stack([noise(60, 80).pixels] * 3)
    video = Video(frames, np.arange(3) / 10)
    for stage in (RandomResizedCrop(size=32), RandomFlip(), CenterCrop(size=48), Resize(height=30, width=20)):
        for epoch in range(4):
            out = stage(video, drawn(epoch))
            assert isinstance(out, Video)
            np.testing.assert_array_equal(out.times, video.times)
            alone = pixels_of(stage(Image(frames[0]), drawn(epoch)))
            for frame in out.frames:
                np.testing.assert_array_equal(frame, alone)


def test_half_of_the_images_are_flipped():
    original = noise(16, 24)
    mirrored = 0
    for epoch in range(400):
        out = pixels_of(RandomFlip()(original, drawn(epoch)))
        flipped = not np.array_equal(out, original.pixels)
        assert not flipped or np.array_equal(out, original.pixels[:, :, ::-1])
        mirrored += flipped
    assert 160 < mirrored < 240
    assert RandomFlip(chance=0.0)(original, DRAW) is original


def test_draws_change_only_with_the_epoch():
    original = noise(90, 120)
    stage = RandomResizedCrop(size=16)
    first, again, other = (pixels_of(stage(original, drawn(epoch))) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_channels_are_standardized_each_by_its_own():
    x = torch.rand(2, 3, 4, 5)
    expected = v2.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(IMAGENET(x, DRAW), expected)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"has 3 channels, but its input has shape \(1, 4, 5\)"):
        IMAGENET(torch.zeros(1, 4, 5), DRAW)
    with pytest.raises(ValueError, match="std > 0"):
        Normalize(mean=(0.5,), std=(0.0,))
    with pytest.raises(ValueError, match="a side of 100 pixels cannot hold a crop of 128"):
        CenterCrop(size=128, shorter=100)
    with pytest.raises(ValueError, match=r"at most 1, but its upper bound is 1\.5"):
        RandomResizedCrop(size=8, scale=(0.5, 1.5))
    with pytest.raises(ValueError, match="low <= high"):
        RandomResizedCrop(size=8, ratio=(2.0, 1.0))
    with pytest.raises(ValueError, match="takes an image or a video, not Tensor"):
        Resize(height=4, width=4)(torch.zeros(3, 8, 8), DRAW)  # pyright: ignore[reportArgumentType]


# Every failure names its file


def in_lab(path: Path, colors: np.ndarray) -> None:
    to_lab = ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(
        Pillow.fromarray(colors), ImageCms.createProfile("sRGB"), to_lab, outputMode="LAB"
    )
    assert picture is not None
    picture.save(path)


@pytest.mark.parametrize(
    "save",
    [
        in_lab,
        lambda path, colors: Pillow.fromarray(colors).convert("CMYK").save(path),
        lambda path, colors: Pillow.fromarray(colors).convert("YCbCr").save(path),
        lambda path, colors: Pillow.fromarray(colors).convert("RGBA").save(path),
        lambda path, colors: Pillow.fromarray(colors).save(
            path, save_all=True, append_images=[Pillow.new("L", (2, 2))]
        ),
    ],
    ids=["lab", "cmyk", "ycbcr", "rgba", "pages"],
)
def test_color_spaces_of_tiff_files_become_color_and_gray(tmp_path: Path, save: Callable[[Path, np.ndarray], None]):
    # LAB has fewer steps for colors that are saturated.
    colors = np.random.default_rng(0).integers(90, 170, (6, 8, 3), np.uint8)
    save(tmp_path / "x.tif", colors)
    color = ImageReader(channels=3).read(Source(tmp_path / "x.tif")).pixels
    np.testing.assert_allclose(color.transpose(1, 2, 0).astype(int), colors, atol=6)
    gray = ImageReader(channels=1).read(Source(tmp_path / "x.tif")).pixels
    np.testing.assert_allclose(gray[0].astype(int), np.asarray(Pillow.fromarray(colors).convert("L"), int), atol=6)


def test_every_error_of_pillow_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Pillow.new("RGB", (4, 4)).save(tmp_path / "x.png")
    for error in (RuntimeError("a"), KeyError("b"), ValueError("c"), SystemError("d"), MemoryError()):
        for step in ("convert", "load"):
            with monkeypatch.context() as patch:
                patch.setattr(Pillow.Image, step, lambda *_args, error=error, **_more: (_ for _ in ()).throw(error))
                with pytest.raises(ReadError, match=r"x\.png cannot be read as an image: .*replace or convert"):
                    ImageReader(channels=1).read(Source(tmp_path / "x.png"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"label": 3}', "it is a JSON file; replace"),
        (b"<?xml version='1.0'?><a/>", "it is an XML file; replace"),
        (gzip.compress(b"x", mtime=0), "it is a gzip archive; unpack it"),
        (b"PK\x05\x06" + bytes(18), "it is a zip archive; unpack it"),
        (b"\0\0\0\x1cftypM4A " + bytes(40), r"it is an M4A sound file \(MPEG-4\); "),
        (b"\0\0\0\x1cftypheic" + bytes(40), "it is an HEIC image; convert it to JPEG or PNG"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "it is a WAV sound file; "),
    ],
)
def test_an_error_names_the_actual_format(tmp_path: Path, content: bytes, what: str):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=rf"x\.png cannot be read as an image: {what}"):
        ImageReader().read(Source(path))


def test_the_preview_of_a_raw_file_is_refused(tmp_path: Path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for value, refused in ((0, False), (1, True)):
        tags[254] = value
        Pillow.new("RGB", (8, 8)).save(tmp_path / "x.tif", tiffinfo=tags)
        if refused:
            with pytest.raises(ReadError, match=r"x\.tif begins with a preview image, as camera raw files"):
                ImageReader().read(Source(tmp_path / "x.tif"))
        else:
            assert ImageReader().read(Source(tmp_path / "x.tif")).pixels.shape == (3, 8, 8)
