"""Registries of the readers, stages and codings that a spec may name. Importing this loads none of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from snn_datasets.base.reader import Reader
from snn_datasets.base.registry import Registry
from snn_datasets.base.stage import Stage

READERS: Registry[Reader] = Registry("reader", "snn_datasets.readers")
"""Readers by `kind`; a spec's field is `Annotated[Reader, READERS]`."""

CODINGS: Registry[Stage] = Registry("coding", "snn_datasets.codings")
"""Stages that turn a recording into a float tensor, by `kind`; a spec's field is `Annotated[Stage, CODINGS]`."""

STAGES: Registry[Stage] = Registry("stage", "snn_datasets.stages")
"""Stages that prepare or augment a recording, by `kind`; a spec's field is `Stages`."""


def _parse_stages(value: object) -> object:
    """Parse stages from mappings, JSON text, or JSON text that was split at its commas."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in cast(list[object], value)):
        value = ",".join(cast(list[str], value))
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise PydanticCustomError(
                "stages",
                "stages must be JSON, such as {example}: {reason}",
                {"example": '[{"kind": "torchvision", "transform": "RandomErasing"}]', "reason": str(error)},
            ) from None
    if isinstance(value, Mapping):
        value = [cast(Mapping[str, Any], value)]
    return [_stage(item) for item in cast(list[Any], value)] if isinstance(value, list | tuple) else value


def _stage(value: object) -> Stage:
    try:
        return STAGES.parse(value)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" if fault["loc"] else fault["msg"]
            for fault in error.errors()
        ]
        reason = "; ".join(fault.removeprefix("Value error, ") for fault in faults)
        raise PydanticCustomError("stage", "{reason}", {"reason": reason}) from None


Stages = Annotated[tuple[Annotated[Stage, STAGES], ...], BeforeValidator(_parse_stages)]
"""Stages in order, each by its `kind`; JSON text is accepted as well, for the command line."""
