"""One modality of a dataset: read -> prepare -> augment -> encode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snn_datasets.base.dataset import ModalityInfo
from snn_datasets.base.reader import Reader, Source
from snn_datasets.base.stage import Draw, Stage, require_stages


@dataclass(frozen=True)
class Modality:
    """The steps from a file to a model's input."""

    reader: Reader
    """File -> recording."""
    info: ModalityInfo
    """Kind and shape of the input."""
    prepare: tuple[Stage, ...] = ()
    """The same in every epoch; the result is cached."""
    augment: tuple[Stage, ...] = ()
    """Random, new in every epoch, applied to training samples only."""
    encode: tuple[Stage, ...] = ()
    """To a float tensor, [T, ...] or static [...] as `info` states."""

    def __post_init__(self) -> None:
        for name in ("prepare", "augment", "encode"):
            require_stages(getattr(self, name), name)

    def load(self, source: Source, draw: Draw) -> Any:
        """Read and prepare one recording; raise what the reader raises."""
        return _apply(self.prepare, "prepare", self.reader.read(source), draw)

    def encode_input(self, prepared: Any, draw: Draw, *, augmented: bool) -> Tensor:
        """Turn a prepared recording into a model's input; only augmentation depends on the draw's epoch."""
        if augmented:
            prepared = _apply(self.augment, "augment", prepared, draw)
        without_epoch = Draw(draw.seed, draw.sample, draw.modality)
        value = _apply(self.encode, "encode", prepared, without_epoch)
        expected = self.info.shape if self.info.time_steps is None else (self.info.time_steps, *self.info.shape)
        if not isinstance(value, Tensor) or value.shape != expected:
            actual = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"modality {draw.modality!r} of sample {draw.sample!r} gives {actual}, but its ModalityInfo states a "
                f"tensor of shape {expected}; correct its stages or its ModalityInfo"
            )
        return value


def _apply(stages: Iterable[Stage], name: str, value: Any, draw: Draw) -> Any:
    for number, stage in enumerate(stages):
        value = stage(value, draw.of(stage, f"{name} {number}"))
    return value
