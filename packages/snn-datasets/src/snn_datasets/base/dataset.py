"""Define a dataset: its description, its three splits, and the spec that builds them.

Does not import torch, so that commands list and check datasets without delay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from snn_datasets.base.card import DatasetCard
from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.registry import Registry

if TYPE_CHECKING:
    from snn_datasets.base.sample import SampleDataset

Split = Literal["train", "val", "test"]
"""The three splits."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")

ReportProgress = Callable[[int, int], None]
"""Callback `progress(done, total)` during preparation."""


def pass_progress(progress: ReportProgress | None, number: int, passes: int, length: int) -> ReportProgress | None:
    """Return a callback that reports one of several passes of equal length as part of the total."""
    return progress and (lambda done, _total: progress(number * length + done, passes * length))


@dataclass(frozen=True)
class ModalityInfo:
    """Properties of one modality that a model needs."""

    kind: RecordingKind
    """Kind of recording."""
    shape: tuple[int, ...]
    """Shape of one input without batch and time axes: (channels, height, width), (channels, length) or (channels,)."""
    time_steps: int | None = None
    """T if an input is [T, *shape]; None if it is static."""
    unit: str = ""
    """Unit of the values."""
    synthetic: bool = False
    """Whether it is computed rather than recorded."""

    @property
    def is_timed(self) -> bool:
        """Whether the first axis of an input is time."""
        return self.time_steps is not None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without a batch axis: [T, *shape], or `shape` if it is static."""
        return self.shape if self.time_steps is None else (self.time_steps, *self.shape)


@dataclass(frozen=True)
class DatasetInfo:
    """Properties of a dataset that a model needs."""

    name: str
    """Short name for reports."""

    classes: tuple[str, ...]
    """Class names; a label is an index into them."""

    modalities: dict[str, ModalityInfo]
    """Modalities in the selected order."""

    notes: tuple[str, ...] = ()
    """Caveats for results on these splits, such as speakers in both; printed at load time."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one input by modality, without batch and time axes."""
        return {name: modality.shape for name, modality in self.modalities.items()}

    @property
    def synthetic(self) -> tuple[str, ...]:
        """Modalities that are computed rather than recorded."""
        return tuple(name for name, modality in self.modalities.items() if modality.synthetic)


@dataclass(frozen=True)
class DatasetSplits:
    """Training, validation and test samples of one dataset."""

    info: DatasetInfo
    train: SampleDataset
    val: SampleDataset
    test: SampleDataset


def _split_names(value: object) -> object:
    """Accept "image,audio" for ("image", "audio"), as written on a command line."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",")) if value.strip() else ()
    return value


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if "" in names:
        raise ValueError(f"a modality name is empty in {names}; remove the stray comma")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"modalities {repeated} occur more than once in {names}; list each once")
    return names


Modalities = Annotated[tuple[str, ...], BeforeValidator(_split_names), AfterValidator(_check_names)]
"""Modality names in order; a comma-separated string is accepted as well."""


class DataSpec(BaseModel, ABC):
    """Flat spec of a dataset; `build` makes it. Subclasses add a `card` and, to be registered, a `kind` literal."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    card: ClassVar[DatasetCard]
    """Description of the dataset."""

    modalities: Modalities = ()
    """Modalities to read, in this order; empty means all."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random in the data; the model has a separate one."""

    @abstractmethod
    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Prepare all samples and return the splits; `progress(done, total)` is called meanwhile.

        Raises:
            FileNotFoundError: a file is missing; the message says what to fetch.
            ReadError: a file is damaged, unless the spec says otherwise.
            ValueError: options or files contradict each other, or a split is empty.
            ImportError: an optional package is missing; the message names the extra to install.
        """

    def selected_modalities(self) -> tuple[str, ...]:
        """Return the modalities to read: `modalities`, or all of the card if empty.

        Raises:
            ValueError: the dataset does not have one of them.
        """
        known = tuple(self.card.modalities)
        unknown = [name for name in self.modalities if name not in known]
        if unknown and known:  # if the card names none, the files determine them
            raise ValueError(f"{self.card.kind} has no modality {unknown[0]!r}; choose among {', '.join(known)}")
        return self.modalities or known

    @model_validator(mode="after")
    def _check_modalities(self) -> Self:
        self.selected_modalities()
        return self


class FileDataSpec(DataSpec):
    """A dataset of files on disk."""

    root: Path
    """Folder of the dataset; `scmrl data show <kind>` prints the expected layout."""

    on_error: Literal["stop", "missing"] = "stop"
    """What to do about a missing or unreadable file: stop with an error, or treat the modality as absent."""

    cache: Literal["auto", "hash", "off"] = "auto"
    """How the cache detects changed files: auto by size and modification time, hash by content; off disables it and
    prepares samples each time they are needed."""

    cache_folder: Path | None = None
    """Folder for all caches; none: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""

    cache_limit_gb: float = Field(default=50.0, gt=0)
    """Maximum cache size of this dataset in GB (10^9 bytes); a larger one is rejected before it is written."""

    prepare_workers: int = Field(default=0, ge=0, le=256)
    """Number of processes that fill the cache; 0 uses the main process."""

    def check_tables(self) -> tuple[str, ...]:
        """Check the table that lists the recordings, if there is one, without opening a recording; return notes.

        Raises:
            ValueError, FileNotFoundError: the table has a mistake, or names a missing file.
        """
        return ()


DATASETS: Registry[DataSpec] = Registry("dataset", "snn_datasets.datasets", default="digits")
"""Datasets by `kind`."""

AnyDataSpec = Annotated[DataSpec, DATASETS]
"""Any dataset, discriminated by `kind`; for a field of another spec."""
