"""Convert figures to inline SVG that uses the page's colors and refers to nothing outside itself."""

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
REFERENCE = re.compile(r"#(\w+)")
MAX_PIXELS = 320
"""Width and height of an embedded image; about the size at which a page displays it."""


def inline_svg(figure: Figure, *, name: str, alt: str) -> Markup:
    """Return a figure as an `<svg>` element without background, with black replaced by the text color.

    Labels stay text in the page's font. Embedded images become PNG files of at most 256 colors and 320 pixels per side.
    The CSS variable `--natural` is the width at which a label of n points is n CSS pixels high.

    Args:
        figure: drawn in black and in colors that are legible on light and dark backgrounds.
        name: prefix of the identifiers; unique in the page.
        alt: alternative text.
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = ElementTree.fromstring(buffer.getvalue())
    for element in drawing.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    referenced = {
        id_ for element in drawing.iter() for value in element.attrib.values() for id_ in REFERENCE.findall(value)
    }
    for parent in drawing.iter():
        for child in list(parent):
            # The style sheet of an inline SVG would apply to the whole page.
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    for element in drawing.iter():
        if (id_ := element.get("id")) is not None:
            if id_ in referenced:
                element.set("id", f"{name}-{id_}")
            else:
                del element.attrib["id"]
        for key in ("href", "clip-path"):
            if key in element.attrib:
                element.set(key, REFERENCE.sub(rf"#{name}-\1", element.attrib[key]))
        if element.tag == "image":
            element.set("href", _shrink_image(element.attrib["href"]))
            # Width and height still give the displayed size, whatever the number of pixels.
            element.set("preserveAspectRatio", "none")
        if "style" in element.attrib:
            element.set("style", FONT.sub("", BLACK.sub("currentColor", element.attrib["style"])))
    _, _, width, height = drawing.attrib["viewBox"].split()
    drawing.attrib.clear()
    drawing.attrib |= {
        "viewBox": f"0 0 {width} {height}",
        # matplotlib omits the fill of black shapes.
        "fill": "currentColor",
        "style": f"--natural:{float(width):.0f}px",
        "role": "img",
        "aria-label": alt,
    }
    return Markup(ElementTree.tostring(drawing, encoding="unicode"))


def _shrink_image(url: str) -> str:
    """Reduce the image in a data URL to 256 colors and 320 pixels per side; a smaller one keeps its pixels."""
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")
    size = (min(image.width, MAX_PIXELS), min(image.height, MAX_PIXELS))
    image = image.resize(size, Image.Resampling.BOX)
    if image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    # Pillow quantizes images with an alpha channel by no other method.
    method = Image.Quantize.FASTOCTREE if image.mode == "RGBA" else Image.Quantize.MEDIANCUT
    colors = len(image.getcolors(256) or range(256))
    png = io.BytesIO()
    image.quantize(colors, method, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return data_url(png.getvalue(), "image/png")


def data_url(content: bytes, media_type: str) -> str:
    """Return a file's content as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
