"""What a dataset is: its description, its three splits, and the specification that builds them.

Nothing here imports torch, so that a command line can list and check datasets without waiting for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from snn_datasets.sample import SampleDataset

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while samples are prepared."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a model has to know before it sees the first sample."""

    name: str
    """Short name for reports."""

    classes: tuple[str, ...]
    """Class names; a label is an index into them."""

    shapes: dict[str, tuple[int, ...]]
    """Modality -> shape of one static input without the batch axis, for example (1, 16, 16)."""

    synthetic: tuple[str, ...]
    """The modalities that were computed rather than recorded."""


@dataclass(frozen=True)
class DatasetSplits:
    """Training, validation and test samples of one dataset."""

    info: DatasetInfo
    train: SampleDataset
    val: SampleDataset
    test: SampleDataset


class DataSpec(BaseModel, ABC):
    """Flat description of a dataset; `build` makes it. Subclasses add a `kind` literal and register themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @abstractmethod
    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Prepare every sample, calling `progress(done, total)` on the way."""


SpecT = TypeVar("SpecT", bound=type[DataSpec])


class DatasetRegistry(Mapping[str, type[DataSpec]]):
    """Dataset specifications by their `kind`."""

    def __init__(self) -> None:
        self._specs: dict[str, type[DataSpec]] = {}

    def register(self, spec: SpecT) -> SpecT:
        """Add a specification under the default of its `kind` field; use as a class decorator."""
        field = spec.model_fields.get("kind")
        if field is None or not isinstance(field.default, str):
            raise ValueError(f'{spec.__name__} needs a field such as `kind: Literal["mine"] = "mine"` to be registered')
        if field.default in self._specs:
            taken = self._specs[field.default].__name__
            raise ValueError(f"dataset kind {field.default!r} is already taken by {taken}; choose another kind")
        self._specs[field.default] = spec
        return spec

    def __getitem__(self, kind: str) -> type[DataSpec]:
        """Return the specification of that kind."""
        if kind not in self._specs:
            raise ValueError(f"unknown dataset kind {kind!r}; known kinds: {', '.join(sorted(self._specs))}")
        return self._specs[kind]

    def __contains__(self, kind: object) -> bool:
        """Say whether the kind is known. `Mapping` would wait for a KeyError that never comes."""
        return kind in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


DATASETS = DatasetRegistry()
"""The datasets that can be asked for by `kind`."""
