"""The options of `scmrl data check` and `scmrl data prepare`: those of the dataset, and some of the command's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, create_model
from rich.console import Group, RenderableType
from rich.text import Text

from scmrl.overlay import help_table, load
from snn_datasets import DATASETS, DataSpec

Own = TypeVar("Own", bound=BaseModel)


class CheckOptions(BaseModel):
    """What `scmrl data check` takes beside the options of the dataset."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    hashes: bool = False
    """Read every file whole and compare it with the hash that its source publishes."""
    read: Literal["none", "some", "all"] = "some"
    """How many recordings to read as a training would: none, 32 of each modality, or all."""


class PrepareOptions(BaseModel):
    """What `scmrl data prepare` takes beside the options of the dataset."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    workers: int | None = Field(default=None, ge=0, le=256)
    """Processes that prepare samples; short for --prepare-workers."""


def read_options(kind: str, options: Sequence[str], own: type[Own]) -> tuple[DataSpec, Own]:
    """The dataset and the command's own options; an OptionError tells the faults of both together.

    Options of the dataset may have `data.` before them, as `scmrl train` spells them.

    Raises:
        ValueError: an unknown kind, or options that do not fit.
    """
    spec_type = DATASETS[kind]
    options = [re.sub(r"^--(no-)?data\.", r"--\1", option) for option in options]
    both = load(_together(spec_type, own), options)
    said = {name: getattr(both, name) for name in both.model_fields_set}
    spec = spec_type.model_validate({name: value for name, value in said.items() if name not in own.model_fields})
    return spec, own.model_validate({name: value for name, value in said.items() if name in own.model_fields})


def help_of(command: str, kind: str | None, own: type[BaseModel]) -> RenderableType:
    """The help of a command for one kind of dataset, or for none in particular."""
    usage = Text(f"Usage: scmrl data {command} {kind or 'KIND'} [OPTIONS]\n")
    if kind is None:
        kinds = Text(f"The dataset has options too: give one of {', '.join(DATASETS)} as KIND to see them.\n")
        return Group(usage, kinds, help_table(own))
    return Group(usage, help_table(_together(DATASETS[kind], own)))


def _together(spec_type: type[DataSpec], own: type[BaseModel]) -> type[BaseModel]:
    """The specification of a dataset with the command's own fields: one reader then sees all options."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in own.model_fields.items()}
    return cast("type[BaseModel]", create_model(spec_type.__name__, __base__=spec_type, **fields))
