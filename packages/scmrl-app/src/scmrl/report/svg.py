"""Figures as part of a page: SVG that takes the page's colors and refers to nothing outside itself."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

BLACK = re.compile(r"#000000\b")
FONT = re.compile(r"font-family:[^;]*;?\s*")
USE = re.compile(r"#(\w+)")
MOST_PIXELS = 320
"""Of a picture's width and of its height: about what a page shows of it."""


def inline(figure: Figure, *, name: str, alt: str) -> Markup:
    """A figure as an `<svg>` element without a background, whose black is the color of the text around it.

    The labels stay text in the page's font, and it refers to nothing outside itself: pictures within it are small
    PNG files of at most 256 colors and 320 pixels a side. The style `--natural` is the width at which a label of
    n points is n CSS pixels high.

    Args:
        figure: drawn in black and in colors that are legible on light and dark paper.
        name: unique in the page; begins the identifiers within.
        alt: what the figure shows, for those who do not see it.
    """
    FigureCanvasSVG(figure)
    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = ElementTree.fromstring(written.getvalue())
    for each in drawing.iter():
        each.tag = each.tag.rpartition("}")[2]
        for key in list(each.attrib):
            each.attrib[key.rpartition("}")[2]] = each.attrib.pop(key)
    used = {found for each in drawing.iter() for value in each.attrib.values() for found in USE.findall(value)}
    for parent in drawing.iter():
        for child in list(parent):
            # The only style sheet would hold for the whole page.
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    for each in drawing.iter():
        if (own := each.get("id")) is not None:
            if own in used:
                each.set("id", f"{name}-{own}")
            else:
                del each.attrib["id"]
        for key in ("href", "clip-path"):
            if key in each.attrib:
                each.set(key, USE.sub(rf"#{name}-\1", each.attrib[key]))
        if each.tag == "image":
            each.set("href", _small(each.attrib["href"]))
            # Its width and height say how large it is drawn, however many pixels are left of it.
            each.set("preserveAspectRatio", "none")
        if "style" in each.attrib:
            each.set("style", FONT.sub("", BLACK.sub("currentColor", each.attrib["style"])))
    _, _, width, height = drawing.attrib["viewBox"].split()
    drawing.attrib.clear()
    drawing.attrib |= {
        "viewBox": f"0 0 {width} {height}",
        # What matplotlib leaves without a color is black to it.
        "fill": "currentColor",
        "style": f"--natural:{float(width):.0f}px",
        "role": "img",
        "aria-label": alt,
    }
    return Markup(ElementTree.tostring(drawing, encoding="unicode"))


def _small(address: str) -> str:
    """A picture in an address with at most 256 colors and 320 pixels a side; one that has no more stays as it is."""
    written = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGBA")
    size = (min(picture.width, MOST_PIXELS), min(picture.height, MOST_PIXELS))
    picture = picture.resize(size, Image.Resampling.BOX)
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    # For what is transparent Pillow knows no other way.
    method = Image.Quantize.FASTOCTREE if picture.mode == "RGBA" else Image.Quantize.MEDIANCUT
    colors = len(picture.getcolors(256) or range(256))
    picture.quantize(colors, method, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return data_address(written.getvalue(), "image/png")


def data_address(content: bytes, media_type: str) -> str:
    """A file's content as an address, so that the page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
