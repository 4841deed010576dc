"""Options of `scmrl data check` and `scmrl data prepare`: those of the dataset and those of the command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, create_model
from rich.console import Group, RenderableType
from rich.text import Text

from scmrl.config.overlay import help_table, load
from snn_datasets import DATASETS, DataSpec

Own = TypeVar("Own", bound=BaseModel)


class CheckOptions(BaseModel):
    """Options of `scmrl data check` besides those of the dataset."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    hashes: bool = False
    """Verify published checksums (reads all files)."""
    read: Literal["none", "some", "all"] = "some"
    """Recordings to read and prepare as for training: none, 32 per modality, or all."""


class PrepareOptions(BaseModel):
    """Options of `scmrl data prepare` besides those of the dataset."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    workers: int | None = Field(default=None, ge=0, le=256)
    """Number of processes that prepare samples; short for --prepare-workers."""


def read_options(kind: str, options: Sequence[str], own: type[Own]) -> tuple[DataSpec, Own]:
    """Parse the options of the dataset and of the command; errors of both are reported together.

    Options of the dataset may have the prefix `data.`, as in `scmrl train`.

    Raises:
        ValueError: an unknown kind, or invalid options.
    """
    spec_type = DATASETS[kind]
    options = [re.sub(r"^--(no-)?data\.", r"--\1", option) for option in options]
    both = load(_merge(spec_type, own), options)
    values = {name: getattr(both, name) for name in both.model_fields_set}
    spec = spec_type.model_validate({name: value for name, value in values.items() if name not in own.model_fields})
    return spec, own.model_validate({name: value for name, value in values.items() if name in own.model_fields})


def command_help(command: str, kind: str | None, own: type[BaseModel]) -> RenderableType:
    """Return the help of a command for one kind of dataset, or in general."""
    usage = Text(f"Usage: scmrl data {command} {kind or 'KIND'} [OPTIONS]\n")
    if kind is None:
        kinds = Text(f"For the options of a dataset, give KIND, one of {', '.join(DATASETS)}.\n")
        return Group(usage, kinds, help_table(own))
    return Group(usage, help_table(_merge(DATASETS[kind], own)))


def _merge(spec_type: type[DataSpec], own: type[BaseModel]) -> type[BaseModel]:
    """Add the command's fields to the dataset's spec, so that all options are parsed at once."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in own.model_fields.items()}
    return cast("type[BaseModel]", create_model(spec_type.__name__, __base__=spec_type, **fields))
