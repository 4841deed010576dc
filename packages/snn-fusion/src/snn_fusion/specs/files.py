"""Specs as YAML and JSON files, and the JSON schema with which an editor completes and checks them."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from pydantic import BaseModel, ValidationError

from snn_fusion.specs.explain import explain_errors
from snn_fusion.specs.fault import Fault, SpecFileError, TextPosition, dotted
from snn_fusion.specs.model import ModelSpec

M = TypeVar("M", bound=BaseModel)


@overload
def load_spec(path: str | PathLike[str]) -> ModelSpec: ...


@overload
def load_spec(path: str | PathLike[str], spec_type: type[M]) -> M: ...


def load_spec(path: str | PathLike[str], spec_type: type[BaseModel] = ModelSpec) -> BaseModel:
    """Read a spec from a YAML or JSON file.

    Args:
        path: ends in .yaml, .yml or .json.
        spec_type: the model that the file describes.

    Raises:
        SpecFileError: the file is not valid YAML or JSON, or not such a spec; the message lists every fault with its
            line, field, value and what is allowed.
        ValueError: another suffix.
    """
    # PyYAML takes as long to import as everything else here together.
    from snn_fusion.specs.document import Document, FormatError

    is_json = _is_json(path)
    content = Path(path).read_bytes()
    try:
        document = Document(content.decode("utf-8-sig"), is_json=is_json)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        position = TextPosition(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        fault = Fault(position, "", f"this is not UTF-8: it has the byte {content[error.start]:#x}")
        raise SpecFileError(path, [fault]) from error
    except FormatError as error:
        raise SpecFileError(path, [error.fault]) from error
    try:
        spec = spec_type.model_validate(document.value)
    except ValidationError as error:
        known = {fault.field for fault in document.faults}
        located = [
            Fault(
                document.name_position(fault.path) if fault.is_unknown else document.position(fault.path),
                dotted(fault.path),
                fault.text,
            )
            for fault in explain_errors(error, document.value, spec_type.model_json_schema())
            if dotted(fault.path) not in known
        ]
        raise SpecFileError(path, [*document.faults, *located]) from None
    if document.faults:
        raise SpecFileError(path, document.faults)
    return spec


def dump_spec(spec: BaseModel, path: str | PathLike[str]) -> None:
    """Write a spec as YAML or JSON with every field, so that the file does not depend on defaults.

    Args:
        spec: any spec.
        path: ends in .yaml, .yml or .json.

    Raises:
        ValueError: another suffix.
    """
    is_json = _is_json(path)
    text = json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n" if is_json else to_yaml(spec)
    Path(path).write_text(text, encoding="utf-8")


def to_yaml(spec: BaseModel) -> str:
    """Return a spec as YAML text with every field."""
    from snn_fusion.specs.document import to_yaml

    return to_yaml(spec.model_dump(mode="json"))


def json_schema(spec_type: type[BaseModel] = ModelSpec) -> dict[str, Any]:
    """Return the JSON schema of a spec's file, with all registered kinds, including those of plug-ins."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **spec_type.model_json_schema()}
    return cast(dict[str, Any], schema)


def _is_json(path: str | PathLike[str]) -> bool:
    suffix = Path(path).suffix.lower()
    if suffix not in (".yaml", ".yml", ".json"):
        raise ValueError(f"a spec file must end in .yaml, .yml or .json, but this is {str(path)!r}")
    return suffix == ".json"
