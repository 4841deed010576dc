"""Stages: the steps from a recording to the input of a model, as values that can be compared, stored and pickled."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Generator


@dataclass(frozen=True, slots=True)
class Draw:
    """The source of a stage's random numbers, independent of the number of workers and the order of samples.

    The numbers depend only on these fields. With an epoch of None they are the same in every epoch, as for a corruption
    that is drawn once per sample; an augmentation is drawn again in each epoch.
    """

    seed: int
    sample: str
    """The sample's id."""
    modality: str
    epoch: int | None = None
    stage: str = ""
    """Position and class of the stage, so that two stages draw different numbers."""
    may_draw: bool = True
    """Whether the stage may draw."""

    def of(self, stage: Stage, position: str) -> Draw:
        """Return the draw of one stage at a position such as "augment 0"."""
        return replace(self, stage=f"{position} {type(stage).__name__}", may_draw=stage.draws)

    def generator(self) -> Generator:
        """Return a new CPU generator; every call returns the same random stream.

        Raises:
            ValueError: the stage does not declare that it draws, so its cache would not depend on the seed.
        """
        if not self.may_draw:
            raise ValueError(f"stage {self.stage!r} draws random numbers; declare it in its class: draws = True")
        import torch

        key = json.dumps([self.seed, self.sample, self.modality, self.epoch, self.stage])
        digest = hashlib.sha256(key.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


class Fingerprinted(BaseModel, ABC):
    """Frozen, typed data with behavior, identified by a fingerprint of its fields and its module's source."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    relies_on: ClassVar[tuple[str, ...]] = ()
    """Further modules whose source is part of the fingerprint."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the output: class, fields, and a hash of the code, so that changes invalidate caches.

        Raises:
            ValueError: a field cannot be serialized, such as a function.
        """
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        try:
            fields = self.model_dump(mode="json")
        except ValueError as error:
            raise ValueError(
                f"{kind} has a field that cannot be serialized ({error}), so a cache could not detect its changes; use "
                "plain fields (numbers, text, tuples), and put code into a method"
            ) from error
        return {"kind": kind, "fields": fields, "code": _code_of(type(self))}


class Stage(Fingerprinted):
    """A step from a recording or tensor to a recording or tensor.

    Subclasses add fields and `__call__`. All randomness comes from `draw`.
    """

    draws: ClassVar[bool] = False
    """Whether the stage uses `draw`."""

    @abstractmethod
    def __call__(self, value: Any, draw: Draw) -> Any:
        """Return the new value; the input is not modified.

        Raises:
            ValueError: the stage does not take such a value.
        """


def require_stages(stages: tuple[object, ...], slot: str) -> None:
    """Refuse functions and other objects that are not stages.

    Raises:
        ValueError: one of them is not a `Stage`.
    """
    for stage in stages:
        if not isinstance(stage, Stage):
            name = getattr(stage, "__qualname__", repr(stage))
            raise ValueError(
                f"{name} among the stages of {slot!r} is not a Stage: a function or lambda can neither be compared "
                "with the one that filled a cache nor sent to a worker process; write a subclass of snn_datasets.Stage "
                "with fields and __call__(self, value, draw)"
            )


@cache
def _code_of(cls: type[Fingerprinted]) -> str:
    """Return a hash of the source of a class's module and of those it relies on; of the class if it has no file."""
    source = _source_of(sys.modules.get(cls.__module__)) or _source_of(cls)
    if source is None:
        raise ValueError(
            f"the source of {cls.__qualname__} cannot be found, so a cache could not detect its changes; "
            "define it in a file, or build the dataset with cache='off'"
        )
    code = hashlib.sha256(source.encode())
    for name in cls.relies_on:
        code.update(inspect.getsource(import_module(name)).encode())
    return code.hexdigest()[:16]


def _source_of(owner: ModuleType | type | None) -> str | None:
    try:
        return None if owner is None else inspect.getsource(owner)
    except (OSError, TypeError):
        return None
