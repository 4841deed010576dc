from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snn_datasets.images import count_channels, read_image


def halves(left: object, right: object, mode: str) -> Image.Image:
    """A picture 12 wide and 6 high of two colours."""
    image = Image.new(mode, (12, 6), left)  # pyright: ignore[reportArgumentType]
    image.paste(right, (6, 0, 12, 6))  # pyright: ignore[reportArgumentType]
    return image


def corners(pixels: torch.Tensor) -> tuple[list[float], list[float]]:
    """Colour at the left and the right edge."""
    return pixels[:, 0, 0].tolist(), pixels[:, 0, -1].tolist()


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_grey_files_have_one_channel_and_others_three(tmp_path: Path, mode: str, channels: int):
    Image.new(mode, (5, 4)).save(tmp_path / "x.png")
    assert count_channels(tmp_path / "x.png") == channels


def test_a_wide_picture_is_stretched_to_a_square_without_leaving_the_range(tmp_path: Path):
    halves(0, 255, "L").save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png", size=8, channels=1)
    assert pixels.shape == (1, 8, 8)
    assert pixels.dtype == torch.float32
    assert type(pixels) is torch.Tensor
    assert corners(pixels) == ([0.0], [1.0])


def test_shrinking_averages_rather_than_skips(tmp_path: Path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png", size=8, channels=1)
    torch.testing.assert_close(pixels, torch.full((1, 8, 8), 0.5), atol=0.03, rtol=0)


def test_colours_keep_their_channel(tmp_path: Path):
    halves((255, 0, 51), (0, 102, 0), "RGB").save(tmp_path / "x.png")
    left, right = corners(read_image(tmp_path / "x.png", size=6, channels=3))
    assert left == pytest.approx([1.0, 0.0, 0.2])
    assert right == pytest.approx([0.0, 0.4, 0.0])


def test_transparency_shows_white_paper(tmp_path: Path):
    halves((0, 0, 255, 255), (0, 0, 0, 0), "RGBA").save(tmp_path / "x.png")
    left, right = corners(read_image(tmp_path / "x.png", size=6, channels=3))
    assert left == pytest.approx([0.0, 0.0, 1.0])
    assert right == pytest.approx([1.0, 1.0, 1.0])


def test_a_palette_is_looked_up_and_its_transparent_entry_is_white(tmp_path: Path):
    image = halves(0, 1, "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=bytes([255, 0]))
    left, right = corners(read_image(tmp_path / "opaque.png", size=6, channels=3))
    assert left == pytest.approx([1.0, 0.0, 0.0])
    assert right == pytest.approx([0.0, 1.0, 0.0])
    left, right = corners(read_image(tmp_path / "clear.png", size=6, channels=3))
    assert left == pytest.approx([1.0, 0.0, 0.0])
    assert right == pytest.approx([1.0, 1.0, 1.0])


def test_sixteen_bits_are_scaled_rather_than_clipped(tmp_path: Path):
    Image.fromarray(np.full((6, 6), 32768, np.uint16)).save(tmp_path / "x.png")
    for channels in (1, 3):
        pixels = read_image(tmp_path / "x.png", size=6, channels=channels)
        torch.testing.assert_close(pixels, torch.full((channels, 6, 6), 0.5), atol=1e-4, rtol=0)


def test_files_of_the_other_kind_are_converted(tmp_path: Path):
    Image.new("RGB", (6, 6), (255, 255, 255)).save(tmp_path / "colour.png")
    Image.new("L", (6, 6), 51).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "colour.png", size=4, channels=1).unique().tolist() == [1.0]
    assert read_image(tmp_path / "grey.png", size=4, channels=3).shape == (3, 4, 4)


def test_a_photograph_taken_sideways_is_put_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves(0, 255, "L").save(tmp_path / "x.png", exif=exif)
    assert corners(read_image(tmp_path / "x.png", size=6, channels=1)) == ([1.0], [0.0])


def test_floating_point_pixels_are_refused(tmp_path: Path):
    Image.new("F", (6, 6), 0.5).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif has floating point pixels.*8 or 16 bits"):
        read_image(tmp_path / "x.tif", size=4, channels=1)


def test_grey_levels_of_unknown_range_are_refused(tmp_path: Path):
    Image.fromarray(np.full((6, 6), 70_000, np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"outside 0\.\.65535"):
        read_image(tmp_path / "x.tif", size=4, channels=1)


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"this is no picture")
    with pytest.raises(ValueError, match=r"cannot read image .*x\.png.*replace"):
        read_image(tmp_path / "x.png", size=4, channels=1)
