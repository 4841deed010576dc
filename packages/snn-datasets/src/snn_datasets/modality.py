"""One sense of a dataset: read -> prepare -> augment -> encode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snn_datasets.dataset import ModalityInfo
from snn_datasets.reader import Reader, Source
from snn_datasets.stage import Draw, Stage, refuse_what_is_no_stage


@dataclass(frozen=True)
class Modality:
    """How a file becomes what a model takes."""

    reader: Reader
    """From the file to a recording."""
    info: ModalityInfo
    """What comes out at the end."""
    prepare: tuple[Stage, ...] = ()
    """The same in every epoch; what comes out is cached."""
    augment: tuple[Stage, ...] = ()
    """Random, anew in every epoch, on training samples alone."""
    encode: tuple[Stage, ...] = ()
    """To a float tensor [T, ...], or a static one [...], as `info` says."""

    def __post_init__(self) -> None:
        for name in ("prepare", "augment", "encode"):
            refuse_what_is_no_stage(getattr(self, name), name)

    def load(self, source: Source, draw: Draw) -> Any:
        """Read and prepare one recording; raises what the reader raises."""
        return _through(self.prepare, "prepare", self.reader.read(source), draw)

    def encode_input(self, prepared: Any, draw: Draw, *, augmented: bool) -> Tensor:
        """From what was prepared to the input of a model; the draw's epoch is for the augmentation alone."""
        if augmented:
            prepared = _through(self.augment, "augment", prepared, draw)
        once = Draw(draw.seed, draw.sample, draw.modality)
        value = _through(self.encode, "encode", prepared, once)
        expected = self.info.shape if self.info.time_steps is None else (self.info.time_steps, *self.info.shape)
        if not isinstance(value, Tensor) or value.shape != expected:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"modality {draw.modality!r} of sample {draw.sample!r} ends as {got}, but its description promises a "
                f"tensor of shape {expected}; correct its stages or its ModalityInfo"
            )
        return value


def _through(stages: Iterable[Stage], name: str, value: Any, draw: Draw) -> Any:
    for number, stage in enumerate(stages):
        value = stage(value, draw.of(stage, f"{name} {number}"))
    return value
