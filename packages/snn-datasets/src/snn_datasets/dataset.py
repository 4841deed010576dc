"""What a dataset is: its description, its three splits, and the specification that builds them.

Nothing here imports torch, so that a command line can list and check datasets without waiting for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from snn_datasets.card import DatasetCard
from snn_datasets.kinds import RecordingKind
from snn_datasets.registry import Registry

if TYPE_CHECKING:
    from snn_datasets.sample import SampleDataset

Split = Literal["train", "val", "test"]
"""The three splits."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while samples are prepared."""


@dataclass(frozen=True)
class ModalityInfo:
    """What a model has to know of one sense."""

    kind: RecordingKind
    """What it was recorded as."""
    shape: tuple[int, ...]
    """Of one input without batch and time axes: (channels, height, width), (channels, length) or (channels,)."""
    time_steps: int | None = None
    """T where an input is [T, *shape]; None where it is static."""
    unit: str = ""
    """Of its values."""
    synthetic: bool = False
    """Whether it was computed rather than recorded."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a model has to know before it sees the first sample."""

    name: str
    """Short name for reports."""

    classes: tuple[str, ...]
    """Class names; a label is an index into them."""

    modalities: dict[str, ModalityInfo]
    """The senses, in the order asked for."""

    notes: tuple[str, ...] = ()
    """What whoever reads numbers on these splits has to know, such as speakers who are in both; shown at load time."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one input by modality, without batch and time axes."""
        return {name: modality.shape for name, modality in self.modalities.items()}

    @property
    def synthetic(self) -> tuple[str, ...]:
        """The modalities that were computed rather than recorded."""
        return tuple(name for name, modality in self.modalities.items() if modality.synthetic)


@dataclass(frozen=True)
class DatasetSplits:
    """Training, validation and test samples of one dataset."""

    info: DatasetInfo
    train: SampleDataset
    val: SampleDataset
    test: SampleDataset


def _split_names(value: object) -> object:
    """Let "image,audio" stand for ("image", "audio"), as one writes it on a command line."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",")) if value.strip() else ()
    return value


def _refuse_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if "" in names:
        raise ValueError(f"a modality name is empty in {names}; remove the stray comma")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"modalities {repeated} are listed more than once in {names}; list each of them once")
    return names


Modalities = Annotated[tuple[str, ...], BeforeValidator(_split_names), AfterValidator(_refuse_repeats)]
"""Modality names in order; also read from one comma separated string."""


class DataSpec(BaseModel, ABC):
    """Flat description of a dataset; `build` makes it. Subclasses add a `kind` literal and register themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    modalities: Modalities = ()
    """Senses to read, in this order; empty means all there are."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides whatever is drawn at random in the data; a model has a seed of its own."""

    @classmethod
    @abstractmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""

    @abstractmethod
    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Prepare every sample, calling `progress(done, total)` on the way."""

    def selected_modalities(self) -> tuple[str, ...]:
        """The senses to read: those asked for, or all of the card.

        Raises:
            ValueError: one that the dataset does not have.
        """
        known = tuple(self.card().modalities)
        unknown = [name for name in self.modalities if name not in known]
        if unknown and known:  # the files decide where the card names none
            raise ValueError(f"{self.card().kind} has no modality {unknown[0]!r}; choose among {', '.join(known)}")
        return self.modalities or known

    @model_validator(mode="after")
    def _refuse_unknown_modalities(self) -> Self:
        self.selected_modalities()
        return self


class FileDataSpec(DataSpec):
    """A dataset of files on disk."""

    root: Path
    """Folder that holds the dataset; `scmrl data show <kind>` says how it must lie there."""

    on_error: Literal["stop", "missing"] = "stop"
    """What a missing or unreadable file does: stop with a message, or count as an absent modality."""

    cache: Literal["auto", "hash", "off"] = "auto"
    """Where prepared samples are kept: auto tells changed files by size and time, hash reads them all to tell, off
    prepares samples anew each time they are needed."""

    cache_folder: Path | None = None
    """Folder of the caches of all datasets; none: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""

    cache_limit_gb: float = Field(default=50.0, gt=0)
    """Largest cache of this dataset in GB (10^9 bytes); a larger one is refused before it is written."""

    prepare_workers: int = Field(default=0, ge=0, le=256)
    """Processes that fill the cache; 0 does it in this one."""

    def check_tables(self) -> tuple[str, ...]:
        """Check what lists the recordings, where there is such a table, without opening one; notes on it.

        Raises:
            ValueError, FileNotFoundError: a mistake in the table, or a file that it names is not there.
        """
        return ()


DATASETS: Registry[DataSpec] = Registry("dataset", "snn_datasets.datasets", default="digits")
"""The datasets that can be asked for by `kind`."""

AnyDataSpec = Annotated[DataSpec, DATASETS]
"""Any dataset, told apart by `kind`; for a field of another spec."""
