"""A stage: one step from a recording to what a model takes, as a value that can be compared, stored and pickled."""

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
    """Where a stage's random numbers come from: the same for any number of workers, in any order.

    They are decided by these values alone. An epoch of None is the same in every epoch: that is how a corruption is
    drawn once a sample, and an augmentation anew each time.
    """

    seed: int
    sample: str
    """The sample's id."""
    modality: str
    epoch: int | None = None
    place: str = ""
    """Of the stage among the others, so that two stages draw different numbers."""
    allowed: bool = True
    """Whether the stage may draw at all."""

    def of(self, stage: Stage, place: str) -> Draw:
        """The draw of one stage."""
        return replace(self, place=f"{place} {type(stage).__name__}", allowed=stage.draws)

    def generator(self) -> Generator:
        """A generator on the CPU; every call starts it anew.

        Raises:
            ValueError: the stage did not say that it draws, so a cache would not depend on the seed.
        """
        if not self.allowed:
            raise ValueError(f"stage {self.place!r} draws random numbers; say so in its class: draws = True")
        import torch

        key = json.dumps([self.seed, self.sample, self.modality, self.epoch, self.place])
        digest = hashlib.sha256(key.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


class Value(BaseModel, ABC):
    """Frozen, typed data with behavior. Its fields and the source of its module are its fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    relies_on: ClassVar[tuple[str, ...]] = ()
    """Modules that compute for this class, beside its own: their source is part of the fingerprint, too."""

    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome: class, fields, and a hash of the code, so that no cache outlives a change.

        Raises:
            ValueError: a field cannot be written down, such as a function.
        """
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        try:
            fields = self.model_dump(mode="json")
        except ValueError as error:
            raise ValueError(
                f"{kind} holds something that cannot be written down ({error}), so a cache could not tell when it "
                "changes; give it plain fields (numbers, text, tuples), and put what a function does into a method"
            ) from error
        return {"kind": kind, "fields": fields, "code": _code_of(type(self))}


class Stage(Value):
    """One step: a recording or tensor in, a recording or tensor out.

    Subclasses add fields and `__call__`. Whatever is random in them comes from `draw`.
    """

    draws: ClassVar[bool] = False
    """Whether the stage uses `draw`."""

    @abstractmethod
    def __call__(self, value: Any, draw: Draw) -> Any:
        """Do the step; the value that comes in is not changed."""


def refuse_what_is_no_stage(stages: tuple[object, ...], where: str) -> None:
    """Explain why a function cannot stand among stages.

    Raises:
        ValueError: one of them is no `Stage`.
    """
    for stage in stages:
        if not isinstance(stage, Stage):
            name = getattr(stage, "__qualname__", repr(stage))
            raise ValueError(
                f"{name} stands among the stages of {where!r}, but it is no Stage: a function, and a lambda above all, "
                "cannot be compared with the one that filled a cache, nor sent to a worker process; write a subclass "
                "of snn_datasets.Stage whose fields say what it does, with __call__(self, value, draw)"
            )


@cache
def _code_of(cls: type[Value]) -> str:
    """A hash of the source of the modules a class is from and relies on; of the class alone where it has no file."""
    source = _source_of(sys.modules.get(cls.__module__)) or _source_of(cls)
    if source is None:
        raise ValueError(
            f"the source of {cls.__qualname__} cannot be found, so a cache could not tell when it changes; "
            "define it in a file, or build the dataset with cache='off'"
        )
    code = hashlib.sha256(source.encode())
    for name in cls.relies_on:
        code.update(inspect.getsource(import_module(name)).encode())
    return code.hexdigest()[:16]


def _source_of(thing: ModuleType | type | None) -> str | None:
    try:
        return None if thing is None else inspect.getsource(thing)
    except (OSError, TypeError):
        return None
