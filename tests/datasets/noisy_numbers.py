"""A reader and stages for tests: a text file of numbers as a series."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from snn_datasets import Draw, Reader, ReadError, Series, Source, Stage
from snn_datasets.base.kinds import RecordingKind


class NumbersReader(Reader):
    """One number a line."""

    gives: ClassVar[RecordingKind] = "series"
    kind: Literal["numbers"] = "numbers"

    def read(self, source: Source) -> Series:
        path = self.open_file(source)
        try:
            values = np.array([float(line) for line in path.read_text().split()], dtype=np.float32)
        except ValueError as error:
            raise ReadError(f"{path} holds a value that is not a number: {error}") from error
        return Series(values[:, None], np.arange(len(values), dtype=np.float64))


class Times(Stage):
    """Multiply."""

    factor: float

    def __call__(self, value: Series, draw: Draw) -> Series:
        return Series(value.values * np.float32(self.factor), value.times)


class Jitter(Stage):
    """Add noise."""

    draws: ClassVar[bool] = True
    width: float

    def __call__(self, value: Series, draw: Draw) -> Series:
        noise = torch.randn(value.values.shape, generator=draw.generator()).numpy()
        return Series(value.values + np.float32(self.width) * noise, value.times)


class Undeclared(Jitter):
    """Draws without saying so."""

    draws: ClassVar[bool] = False


class AsSteps(Stage):
    """The values as [T, C]."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        return torch.from_numpy(value.values)
