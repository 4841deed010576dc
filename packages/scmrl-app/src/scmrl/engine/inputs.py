"""What a run was trained on, kept in its folder: classes, how files become inputs, and a fingerprint of the data.

`inputs.json` names, for each modality, the reader and the stages of preparation and encoding that training settled on:
classes of snn_datasets, or of packages that offer datasets, readers or encoders to it, and their fields. Whoever opens
the run reads files in the same way, whatever the first training file looks like by then.
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

from scmrl.engine.checksummed import read_checksummed, write_checksummed
from scmrl.engine.fingerprint import fingerprint, order_of, stamp
from scmrl.engine.run_folder import INPUTS
from snn_datasets import DatasetSplits, Modality, ModalityInfo, Reader, RecordedDataset, Stage
from snn_datasets.stage import Value

FORMAT_VERSION = 2
GROUPS = ("snn_datasets.datasets", "snn_datasets.readers", "snn_datasets.encoders")

V = TypeVar("V", bound=Value)


@dataclass(frozen=True)
class Inputs:
    """What a run's model takes, how files become that, and what its answers mean."""

    classes: tuple[str, ...]
    """Class names by index."""
    infos: dict[str, ModalityInfo]
    """What the model takes, by modality."""
    modalities: dict[str, Modality]
    """Readers and stages, without augmentation; empty where the samples are not read from files."""
    seed: int
    """Of the data: what corrupting stages draw."""
    fingerprint: dict[str, Any]
    """Of all splits, see `scmrl.engine.fingerprint`."""
    stamp: str | None
    """Paths, sizes and times of all files in training."""
    order: str
    """Of the training samples."""


def save_inputs(splits: DatasetSplits, folder: Path, *, seed: int) -> None:
    """Write inputs.json.

    Args:
        splits: all samples, also those that a share of the training data leaves out.
        folder: of the run.
        seed: of the data.
    """
    dataset = splits.train
    readers = dataset.modalities if isinstance(dataset, RecordedDataset) else {}
    content = {
        "format_version": FORMAT_VERSION,
        "classes": splits.info.classes,
        "seed": seed,
        "from_files": bool(readers),
        "modalities": {
            name: {"info": asdict(info), **(described(readers[name]) if name in readers else {})}
            for name, info in splits.info.modalities.items()
        },
        "fingerprint": fingerprint(splits),
        "stamp": stamp(splits),
        "order": order_of(splits),
    }
    write_checksummed(folder / INPUTS, content)


def load_inputs(folder: Path) -> Inputs:
    """Read inputs.json.

    Raises:
        ValueError: it is not there, damaged, not what this version writes, or names what must not be loaded.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise ValueError(f"{folder} holds no {INPUTS}, which says what it was trained on; restore it, or train again")
    content = read_checksummed(path)
    try:
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {content['format_version']}, not {FORMAT_VERSION}")
        stored = cast("dict[str, dict[str, Any]]", content["modalities"])
        infos = {name: _info(each["info"]) for name, each in stored.items()}
        modalities = {
            name: Modality(
                reader=_loaded(each["reader"], Reader),
                info=infos[name],
                prepare=tuple(_loaded(stage, Stage) for stage in each["prepare"]),
                encode=tuple(_loaded(stage, Stage) for stage in each["encode"]),
            )
            for name, each in (stored.items() if content["from_files"] else ())
        }
        return Inputs(
            tuple(content["classes"]),
            infos,
            modalities,
            content["seed"],
            content["fingerprint"],
            content["stamp"],
            content["order"],
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = _faults(error) if isinstance(error, ValidationError) else str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read by this version of scmrl: {reason}") from error


def described(modality: Modality) -> dict[str, Any]:
    """Reader and stages of a modality, without augmentation, as JSON."""
    content = {
        "reader": _described(modality.reader),
        "prepare": [_described(stage) for stage in modality.prepare],
        "encode": [_described(stage) for stage in modality.encode],
    }
    return cast("dict[str, Any]", json.loads(json.dumps(content)))


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
