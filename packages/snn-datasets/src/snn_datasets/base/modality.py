"""One modality of a dataset: read -> cached -> augment -> per_read."""

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
    cached: tuple[Stage, ...] = ()
    """Stages that are the same in every epoch; their result is cached."""
    augment: tuple[Stage, ...] = ()
    """Random stages, drawn again in every epoch, for training samples only."""
    per_read: tuple[Stage, ...] = ()
    """Stages at each read, to a float tensor, [T, ...] or static [...] as `info` states."""

    def __post_init__(self) -> None:
        for name in ("cached", "augment", "per_read"):
            require_stages(getattr(self, name), name)

    def load(self, source: Source, draw: Draw) -> Any:
        """Read and prepare one recording; raise what the reader raises."""
        return _apply(self.cached, "prepare", self.reader.read(source), draw)

    def encode_input(self, prepared: Any, draw: Draw, *, augmented: bool) -> Tensor:
        """Turn a prepared recording into a model's input; only augmentation depends on the draw's epoch."""
        if augmented:
            prepared = _apply(self.augment, "augment", prepared, draw)
        without_epoch = Draw(draw.seed, draw.sample, draw.modality)
        value = _apply(self.per_read, "encode", prepared, without_epoch)
        expected = self.info.input_shape
        if not isinstance(value, Tensor) or value.shape != expected:
            actual = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"modality {draw.modality!r} of sample {draw.sample!r} gives {actual}, but its ModalityInfo states a "
                f"tensor of shape {expected}; correct its stages or its ModalityInfo"
            )
        return value


def _apply(stages: Iterable[Stage], key: str, value: Any, draw: Draw) -> Any:
    # The keys seed the draws: another key would change every random number.
    for number, stage in enumerate(stages):
        value = stage(value, draw.of(stage, f"{key} {number}"))
    return value
