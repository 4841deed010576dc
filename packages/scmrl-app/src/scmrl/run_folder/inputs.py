"""Save and load the inputs of a run: classes, readers and stages, and a fingerprint of the data.

`inputs.json` names the reader and the stages of each modality as used in training: classes of snn_datasets, or of
packages that register datasets, readers or codings, with their fields. Files of a run are always read this way, even if
the first training file has changed since.
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

from scmrl.run_folder.checksummed import read_checksummed, write_checksummed
from scmrl.run_folder.files import INPUTS
from scmrl.run_folder.fingerprint import fingerprint, sample_order, stamp
from snn_datasets import DatasetSplits, Modality, ModalityInfo, Reader, RecordedDataset, Stage
from snn_datasets.base.stage import Fingerprinted
from snn_fusion.specs.explain import error_lines

FORMAT_VERSION = 2
GROUPS = ("snn_datasets.datasets", "snn_datasets.readers", "snn_datasets.codings")

V = TypeVar("V", bound=Fingerprinted)


@dataclass(frozen=True)
class Inputs:
    """Inputs and classes of a run's model, and how files become inputs."""

    classes: tuple[str, ...]
    """Class names by index."""
    infos: dict[str, ModalityInfo]
    """Kind and shape of each model input."""
    modalities: dict[str, Modality]
    """Readers and stages without augmentation; empty if samples are not read from files."""
    seed: int
    """Seed of the data, for corrupting stages."""
    fingerprint: dict[str, Any]
    """Fingerprint of all splits, see `scmrl.run_folder.fingerprint`."""
    stamp: str | None
    """Paths, sizes and modification times of all files in training."""
    order: str
    """Hash of the order of training samples."""


def save_inputs(splits: DatasetSplits, folder: Path, *, seed: int) -> None:
    """Write inputs.json.

    Args:
        splits: all samples, including those excluded by a fraction of the training data.
        folder: folder of the run.
        seed: seed of the data.
    """
    dataset = splits.train
    readers = dataset.modalities if isinstance(dataset, RecordedDataset) else {}
    content = {
        "format_version": FORMAT_VERSION,
        "classes": splits.info.classes,
        "seed": seed,
        "from_files": bool(readers),
        "modalities": {
            name: {"info": asdict(info), **(describe_modality(readers[name]) if name in readers else {})}
            for name, info in splits.info.modalities.items()
        },
        "fingerprint": fingerprint(splits),
        "stamp": stamp(splits),
        "order": sample_order(splits),
    }
    write_checksummed(folder / INPUTS, content)


def load_inputs(folder: Path) -> Inputs:
    """Read inputs.json.

    Raises:
        ValueError: the file is missing, damaged, of another version, or names a class that must not be loaded.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {INPUTS}, which describes its training data; restore it, or train again")
    content = read_checksummed(path)
    try:
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {content['format_version']}, not {FORMAT_VERSION}")
        stored = cast("dict[str, dict[str, Any]]", content["modalities"])
        infos = {name: _info(each["info"]) for name, each in stored.items()}
        modalities = {
            name: Modality(
                reader=_load(each["reader"], Reader),
                info=infos[name],
                cached=tuple(_load(stage, Stage) for stage in each["cached"]),
                per_read=tuple(_load(stage, Stage) for stage in each["per_read"]),
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
        faults = error_lines(error.errors()) if isinstance(error, ValidationError) else [str(error)]
        reason = "; ".join(faults) or type(error).__name__
        raise ValueError(f"{path} cannot be read by this version of scmrl: {reason}") from error


def describe_modality(modality: Modality) -> dict[str, Any]:
    """Return reader and stages of a modality, without augmentation, as JSON."""
    content = {
        "reader": _describe(modality.reader),
        "cached": [_describe(stage) for stage in modality.cached],
        "per_read": [_describe(stage) for stage in modality.per_read],
    }
    return cast("dict[str, Any]", json.loads(json.dumps(content)))


def _describe(value: Fingerprinted) -> dict[str, Any]:
    kind = type(value)
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": value.model_dump(mode="json")}


def _load(stored: Mapping[str, Any], base: type[V]) -> V:
    """Load the reader or stage that `_describe` wrote."""
    module, _, name = cast(str, stored["class"]).partition(":")
    cls: Any = _import(module)
    for attribute in name.split("."):
        cls = getattr(cls, attribute)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"{stored['class']} is not a {base.__name__}")
    return cls.model_validate_json(json.dumps(stored["fields"]))


def _import(name: str) -> Any:
    """Import a module of a package that registers readers or stages; importing any other could run arbitrary code."""
    allowed = {"snn_datasets"} | {
        entry.module.partition(".")[0] for group in GROUPS for entry in entry_points(group=group)
    }
    if name.partition(".")[0] not in allowed and name not in sys.modules:
        raise ValueError(
            f"the module {name!r} belongs to no installed package that registers datasets, readers or codings; install "
            "the package that the run was trained with"
        )
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"the module {name!r} cannot be imported ({error})") from error


def _info(stored: dict[str, Any]) -> ModalityInfo:
    return replace(ModalityInfo(**stored), shape=tuple(stored["shape"]))
