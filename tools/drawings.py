"""Draw the two figures of docs/design.md.

    python tools/drawings.py            write docs/images/packages.svg and docs/images/batch.svg
    python tools/drawings.py --check    exit with code 1 if they are not up to date

The packages and their layers are read from the import contracts in pyproject.toml, so the first figure is what
import-linter enforces.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
INK, PAPER, LINE = "#1f2328", "#ffffff", "#57606a"
COLORS = {"scmrl": "#ffe8cc", "snn_fusion": "#d3f0dc", "snn_datasets": "#d6e6ff", "snn_core": "#eadcff"}
FONT = 'font-family="system-ui, sans-serif"'
MONO = 'font-family="ui-monospace, monospace"'


class Station(NamedTuple):
    """One step of a batch from file to loss."""

    package: str
    folder: str
    """Folder or module below the package."""
    step: str
    result: str
    """What the step returns, with its shape."""


STATIONS = (
    Station("snn_datasets", "modalities", "read a file", "Recording"),
    Station("snn_datasets", "stages", "prepare and augment", "tensor per modality"),
    Station("snn_datasets", "cache", "cache", "memory-mapped store"),
    Station("snn_datasets", "loading", "load a batch", "inputs, labels [B], ids"),
    Station("scmrl", "engine", "training step", "inputs on the device"),
    Station("snn_fusion", "encoders", "encode", "tokens [T, B, N, C]"),
    Station("snn_fusion", "methods", "fuse modalities", "fused tokens, residuals"),
    Station("snn_fusion", "readout.py", "read out", "logits [B, K]"),
    Station("snn_fusion", "alignment.py", "align by class", "alignment loss"),
    Station("scmrl", "engine", "add losses, backward", "loss"),
)


class Svg:
    """Shapes of a drawing, in order."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label="{escape(title)}">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, fill: str, *, border: str = LINE) -> None:
        self.lines.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{border}"/>'
        )

    def text(self, x: int, y: int, text: str, *, size: int = 12, font: str = FONT, weight: str = "normal") -> None:
        self.lines.append(
            f'<text x="{x}" y="{y}" {font} font-size="{size}" font-weight="{weight}" fill="{INK}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int]) -> None:
        path = " L".join(f"{x} {y}" for x, y in points)
        self.lines.append(f'<path d="M{path}" fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#tip)"/>')

    def __str__(self) -> str:
        return "\n".join([*self.lines, "</svg>", ""])


def package_layers() -> dict[str, list[list[str]]]:
    """Return the layers of each package, the highest first, each with its modules."""
    layers: dict[str, list[list[str]]] = {package: [] for package in COLORS}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        for package in contract.get("containers", []):
            layers[package] = [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]
    return layers


def panel(svg: Svg, package: str, layers: list[list[str]], x: int, y: int, width: int) -> None:
    """Draw one package with a row of boxes per layer."""
    height = panel_height(layers)
    svg.box(x, y, width, height, COLORS[package])
    svg.text(x + width // 2, y + 20, package, size=15, font=MONO, weight="bold")
    for row, modules in enumerate(layers):
        gap, left, space = 6, x + 10, width - 20
        box = (space - gap * (len(modules) - 1)) // len(modules)
        for column, module in enumerate(modules):
            at, top = left + column * (box + gap), y + 30 + row * 26
            svg.box(at, top, box, 21, PAPER, border="#afb8c1")
            svg.text(at + box // 2, top + 15, module, size=11, font=MONO)


def panel_height(layers: list[list[str]]) -> int:
    return 36 + 26 * len(layers)


def draw_packages() -> str:
    """Draw the packages: the application on top, the two libraries below it, and the core."""
    layers = package_layers()
    width, half, gap = 960, 470, 34
    top = 10
    middle = top + panel_height(layers["scmrl"]) + gap
    left_end = middle + panel_height(layers["snn_fusion"])
    bottom = left_end + gap
    right_end = middle + panel_height(layers["snn_datasets"])
    height = max(bottom + panel_height(layers["snn_core"]), right_end) + 10
    svg = Svg(width + 20, height, "The four packages and their layers; a module imports only modules below it")
    panel(svg, "scmrl", layers["scmrl"], 10, top, width)
    panel(svg, "snn_fusion", layers["snn_fusion"], 10, middle, half)
    panel(svg, "snn_datasets", layers["snn_datasets"], 500, middle, half)
    panel(svg, "snn_core", layers["snn_core"], 10, bottom, half)
    for x, start, end in ((245, middle - gap, middle), (735, middle - gap, middle), (245, left_end, bottom)):
        svg.arrow((x, start + 4), (x, end - 4))
    return str(svg)


def draw_batch() -> str:
    """Draw the stations of a batch, five a row."""
    columns, box, height, gap = 5, 166, 84, 34
    svg = Svg(20 + columns * box + (columns - 1) * gap, 250, "The way of one batch from file to loss")
    for number, (package, folder, step, result) in enumerate(STATIONS):
        row, column = divmod(number, columns)
        x, y = 10 + column * (box + gap), 20 + row * 128
        middle = x + box // 2
        svg.box(x, y, box, height, COLORS[package])
        svg.text(middle, y + 22, step, size=12, weight="bold")
        svg.text(middle, y + 43, f"{package}/{folder}", size=11, font=MONO)
        svg.text(middle, y + 67, f"→ {result}", size=12)
        if column:
            svg.arrow((x - gap + 3, y + height // 2), (x - 3, y + height // 2))
        elif row:
            above = y - (128 - height)
            last = 10 + (columns - 1) * (box + gap) + box // 2
            svg.arrow((last, above + 3), (last, y - 22), (middle, y - 22), (middle, y - 3))
    return str(svg)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    options = parser.parse_args()
    drawings = {IMAGES / "packages.svg": draw_packages(), IMAGES / "batch.svg": draw_batch()}
    if not options.check:
        for path, text in drawings.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [path.name for path, text in drawings.items() if not path.is_file() or path.read_text("utf-8") != text]
    if old:
        print(f"{', '.join(old)} in docs/images is out of date; run `python tools/drawings.py`")
    return 1 if old else 0


if __name__ == "__main__":
    raise SystemExit(main())
