"""How a run reads files, kept in its folder, so that new ones are read in the same way without the training data.

`inputs.json` names, for each modality, the reader and the stages of preparation and encoding that training settled on:
classes of snn_datasets, or of packages that offer datasets, readers or encoders to it, and their fields.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from scmrl.engine.run_folder import INPUTS, inputs_file, write_json
from snn_datasets import DatasetSplits, Modality, ModalityInfo, Reader, RecordedDataset, Stage
from snn_datasets.stage import Value

FORMAT_VERSION = 1
GROUPS = ("snn_datasets.datasets", "snn_datasets.readers", "snn_datasets.encoders")

V = TypeVar("V", bound=Value)


@dataclass(frozen=True)
class Inputs:
    """How files become what a run's model takes, and what its answers mean."""

    classes: tuple[str, ...]
    """Class names by index."""
    modalities: dict[str, Modality]
    """Readers and stages, without augmentation."""
    seed: int
    """Of the data: what corrupting stages draw."""


def save_inputs(splits: DatasetSplits, folder: Path) -> bool:
    """Write inputs.json, if the dataset is read from files at all; whether it was written."""
    dataset = splits.test
    if not isinstance(dataset, RecordedDataset):
        return False
    content = {
        "format_version": FORMAT_VERSION,
        "classes": splits.info.classes,
        "seed": dataset.seed,
        "modalities": {
            name: {
                "info": asdict(modality.info),
                "reader": _described(modality.reader),
                "prepare": [_described(stage) for stage in modality.prepare],
                "encode": [_described(stage) for stage in modality.encode],
            }
            for name, modality in dataset.modalities.items()
        },
    }
    write_json(folder / INPUTS, content)
    return True


def load_inputs(folder: Path) -> Inputs:
    """Read inputs.json.

    Raises:
        ValueError: it is not there, or not what this version writes, or names what must not be loaded.
    """
    path = inputs_file(folder)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {content['format_version']}, not {FORMAT_VERSION}")
        modalities = {
            name: Modality(
                reader=_loaded(stored["reader"], Reader),
                info=_info(stored["info"]),
                prepare=tuple(_loaded(stage, Stage) for stage in stored["prepare"]),
                encode=tuple(_loaded(stage, Stage) for stage in stored["encode"]),
            )
            for name, stored in content["modalities"].items()
        }
        return Inputs(tuple(content["classes"]), modalities, content["seed"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = _faults(error) if isinstance(error, ValidationError) else str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read by this version of scmrl: {reason}") from error


def _described(value: Value) -> dict[str, Any]:
    kind = type(value)
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": value.model_dump(mode="json")}


def _loaded(stored: Mapping[str, Any], base: type[V]) -> V:
    """The reader or stage that `_described` wrote."""
    module, _, name = cast(str, stored["class"]).partition(":")
    found: Any = _module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{stored['class']} is no {base.__name__}")
    return found.model_validate_json(json.dumps(stored["fields"]))


def _module(name: str) -> Any:
    """A module that may hold readers and stages: importing any that a file names would run whatever it holds."""
    offered = {"snn_datasets"} | {
        entry.module.partition(".")[0] for group in GROUPS for entry in entry_points(group=group)
    }
    if name.partition(".")[0] not in offered and name not in sys.modules:
        raise ValueError(
            f"it names the module {name!r}, which belongs to no installed package that offers datasets, readers or "
            "encoders; install the package that the run was trained with"
        )
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"the module {name!r} cannot be imported ({error})") from error


def _info(stored: dict[str, Any]) -> ModalityInfo:
    return replace(ModalityInfo(**stored), shape=tuple(stored["shape"]))


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
