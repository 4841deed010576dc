"""A made-up dataset of files: the smallest that has everything a dataset can have."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Image, Series
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.loading.recorded import Row, build_splits

HEIGHT, WIDTH, SENSORS = 3, 4, 2
CLASSES = ("calm", "storm")
COUNTS: dict[Split, int] = {"train": 6, "val": 2, "test": 4}
CARD = DatasetCard(
    kind="made-up",
    title="Images and traces of weather",
    version="2",
    license="CC0-1.0",
    citation="nobody",
    sources=("a drawer",),
    files=(
        FileSet(pattern="images/*.raw", what="gray images", count=12, modalities=("image",)),
        FileSet(pattern="traces/*.txt", what="pressure and wind", count=12, modalities=("trace",)),
        FileSet(pattern="diary.md", what="what was seen", required=False),
    ),
    classes=CLASSES,
    modalities={
        "image": ModalityCard(kind="image", shape="[1, 3, 4]", unit="brightness, 0 to 1"),
        "trace": ModalityCard(kind="series", shape="[T, 2]", unit="of the sensors"),
    },
    splits="as the names of the files say",
)


class RawReader(Reader):
    """Twelve bytes, row by row."""

    gives: ClassVar[RecordingKind] = "image"
    kind: Literal["raw"] = "raw"

    def read(self, source: Source) -> Image:
        data = self.open_file(source).read_bytes()
        if len(data) != HEIGHT * WIDTH:
            raise ReadError(f"{source.path} has {len(data)} bytes instead of {HEIGHT * WIDTH}; draw it again")
        return Image(np.frombuffer(data, np.uint8).reshape(1, HEIGHT, WIDTH))


class TraceReader(Reader):
    """A line a second, a column a sensor."""

    gives: ClassVar[RecordingKind] = "series"
    kind: Literal["trace"] = "trace"

    def read(self, source: Source) -> Series:
        try:
            values = np.loadtxt(self.open_file(source), dtype=np.float32, ndmin=2)
        except ReadError:
            raise
        except ValueError as error:
            raise ReadError(f"{source.path} holds no table ({error}); measure again") from error
        return Series(values, np.arange(len(values), dtype=np.float64))


class Brightness(Stage):
    """0 to 1."""

    def __call__(self, value: Image, draw: Draw) -> Tensor:
        return torch.from_numpy(value.pixels.copy()).float() / 255


class Flicker(Stage):
    """Each time somewhat brighter or darker."""

    draws: ClassVar[bool] = True

    def __call__(self, value: Image, draw: Draw) -> Image:
        shift = int(torch.randint(-9, 10, (), generator=draw.generator()))
        return Image((value.pixels.astype(np.int64) + shift).clip(0, 255).astype(np.uint8))


class FirstSeconds(Stage):
    """The first lines."""

    steps: int

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        return torch.from_numpy(value.values[: self.steps].copy())


class MadeUpSpec(FileDataSpec):
    """Images and traces of weather."""

    kind: Literal["made-up"] = "made-up"

    time_steps: int = Field(default=5, ge=1, le=7)
    """Seconds of each trace."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        root, chosen = self.root.expanduser(), self.selected_modalities()
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        folders = {"image": ("images", ".raw"), "trace": ("traces", ".txt")}
        first, ending = folders[chosen[0]]
        for path in sorted((root / first).glob(f"*{ending}")):
            split, label, _ = path.stem.split("_")
            sources = {name: Source(root / folders[name][0] / f"{path.stem}{folders[name][1]}") for name in chosen}
            rows[cast("Split", split)].append(Row(path.stem, CLASSES.index(label), sources))
        every = {
            "image": Modality(
                RawReader(), ModalityInfo("image", (1, HEIGHT, WIDTH)), augment=(Flicker(),), per_read=(Brightness(),)
            ),
            "trace": Modality(
                TraceReader(),
                ModalityInfo("series", (SENSORS,), time_steps=self.time_steps),
                cached=(FirstSeconds(steps=self.time_steps),),
            ),
        }
        modalities = {name: every[name] for name in chosen}
        return build_splits(self, classes=CLASSES, rows=rows, modalities=modalities, progress=progress)


def write_made_up(root: Path) -> None:
    """Twelve images and traces, brighter and windier with their number."""
    for folder in ("images", "traces"):
        (root / folder).mkdir(parents=True)
    number = 0
    for split, count in COUNTS.items():
        for index in range(count):
            number += 1
            stem = f"{split}_{CLASSES[index % 2]}_{index}"
            (root / "images" / f"{stem}.raw").write_bytes(bytes(range(10 * number, 10 * number + HEIGHT * WIDTH)))
            lines = [f"{1000 + second} {number + second / 10}" for second in range(7)]
            (root / "traces" / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
