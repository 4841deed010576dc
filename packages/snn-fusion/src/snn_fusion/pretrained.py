"""A trained model as a folder: `spec.json` says how to build it, `model.safetensors` holds its weights.

Both carry checksums: `spec.json` in its field `sha256`, the weights in the metadata of their file, beside the checksum
of the spec that they belong to. A checksum that does not match is an error. Files without one, as other programs write
them, are loaded unchecked unless checksums are required.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from snn_fusion.checksum import FIELD, json_checksum, tensors_checksum, with_checksum
from snn_fusion.model import FusionModel
from snn_fusion.specs import ModelSpec
from snn_fusion.specs.plugins import distribution_of

FORMAT_VERSION = 1
"""Written into spec.json; raised when an older reader could no longer read what is written."""
SPEC, WEIGHTS = "spec.json", "model.safetensors"
RESTORE = "restore it from a backup, or save or train the model again"


def save_pretrained(model: nn.Module, spec: ModelSpec, folder: Path | str) -> None:
    """Write `spec.json` and `model.safetensors` into `folder`, which is made if needed.

    Both files are complete before either takes its place, so a failure leaves the folder as it was.

    Args:
        model: a `FusionModel`, also compiled, parametrized (weight norm), or inside `DataParallel`,
            `DistributedDataParallel` or `AveragedModel`; the weights of the model itself are written.
        spec: what the model was built from.
        folder: where to write.

    Raises:
        ValueError: the weights are not those of the spec, so that the folder could not be loaded; nothing is written.
        OSError: a file cannot be written, such as on a full disk; the text names it.
    """
    weights = _weights_of(model, spec)
    document: dict[str, Any] = {"format_version": FORMAT_VERSION, "model": spec.model_dump(mode="json")}
    if plugins := _plugins(spec):
        document["plugins"] = plugins
    document = with_checksum(document)
    metadata = {"format": "pt", "weights_sha256": tensors_checksum(weights), "spec_sha256": document[FIELD]}
    folder = Path(folder)
    parts = {name: folder / f"{name}.part" for name in (WEIGHTS, SPEC)}
    written = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / WEIGHTS
        save_file(weights, parts[WEIGHTS], metadata)
        written = folder / SPEC
        parts[SPEC].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        for name, part in parts.items():
            written = folder / name
            part.replace(written)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if "No space left on device" in reason:
            reason = "the disk is full: free some space"
        raise OSError(f"{written} cannot be written: {reason}; what was there before is unchanged") from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def from_pretrained(folder: Path | str, *, require_checksums: bool = False) -> FusionModel:
    """The model that `save_pretrained` wrote, in evaluation mode.

    Nothing in the folder is executed. The shapes that the spec asks for are compared with those in the file of weights
    before any memory is taken for the model.

    Args:
        folder: what `save_pretrained` wrote.
        require_checksums: refuse files that carry no checksum, which are loaded unchecked otherwise.

    Raises:
        FileNotFoundError: the folder lacks one of the two files.
        ValueError: spec.json is of a newer format or not a model's spec, a file is damaged or belongs to another model,
            or the weights do not fit the spec; the message names what is missing, unexpected or of another shape.
    """
    folder = Path(folder)
    for name in (SPEC, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; a model's folder is what save_pretrained wrote")
    document = _read_document(folder / SPEC)
    weights, metadata = _read_weights(folder / WEIGHTS)
    _verify(folder, document, weights, metadata, require=require_checksums)
    spec = _spec_of(document, folder / SPEC)
    try:
        # Without memory behind them, parameters of any size can be compared with those in the file.
        if (expected := _shapes(spec)) is not None:
            _refuse_misfits(folder, expected, weights)
        model = spec.build()
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        raise ValueError(f"{folder / SPEC} describes a model that cannot be built: {_line(error)}") from error
    if expected is None:
        _refuse_misfits(folder, {name: tuple(value.shape) for name, value in model.state_dict().items()}, weights)
    model.load_state_dict(weights)
    return model.eval()


def read_weights(folder: Path | str) -> dict[str, Tensor]:
    """The weights in a model's folder, by their dotted names.

    Raises:
        FileNotFoundError: the folder holds no `model.safetensors`.
        ValueError: the file is damaged.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {path.name}; a model's folder is what save_pretrained wrote")
    weights, metadata = _read_weights(path)
    _compare(path, metadata.get("weights_sha256"), tensors_checksum(weights), require=False)
    return weights


def _weights_of(model: nn.Module, spec: ModelSpec) -> dict[str, Tensor]:
    """The tensors that a model of the spec consists of, by their names in it.

    Raises:
        ValueError: the model has others.
    """
    plain = _unwrapped(model)
    stored = cast("dict[str, Tensor]", plain.state_dict())
    # A compiled part adds to the names; a parametrized tensor is stored as what it is computed from.
    plain_names = {name.replace("_orig_mod.", "") for name in stored if ".parametrizations." not in name}
    modules = cast("Iterator[tuple[str, nn.Module]]", plain.named_modules())
    computed = {
        f"{name.replace('_orig_mod.', '')}.{tensor}"
        for name, module in modules
        for tensor in cast("dict[str, Any]", getattr(module, "parametrizations", {}))
    }
    shapes = _shapes(spec)
    if shapes is None:
        shapes = {name: tuple(value.shape) for name, value in spec.build().state_dict().items()}
    weights: dict[str, Tensor] = {}
    for name in shapes.keys() & (plain_names | computed):
        value: Any = plain
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, DTensor):
            raise ValueError("the model's weights are distributed over processes; gather them first, nothing was saved")
        weights[name] = value.detach().contiguous()
    faults = _misfits(
        shapes, {name: tuple(value.shape) for name, value in weights.items()}, surplus=plain_names - shapes.keys()
    )
    if faults:
        listed = "; ".join([*faults[:8], *(["..."] if len(faults) > 8 else [])])
        raise ValueError(
            f"the model is not the one that its spec describes, so the folder could not be loaded again ({listed}); "
            "nothing was saved: give the spec that it was built from, or remove what was wrapped around its layers"
        )
    return {name: weights[name] for name in sorted(weights)}


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what PyTorch puts around it."""
    while not isinstance(model, FusionModel):
        if isinstance(model, (DataParallel, DistributedDataParallel, AveragedModel)):
            model = cast(nn.Module, model.module)
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            raise ValueError(f"save_pretrained takes a FusionModel, not {type(model).__name__}; nothing was saved")
    return model


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the tensors of a spec's model, found without memory for them; None where a plug-in needs values."""
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in spec.build().state_dict().items()}
    except (RuntimeError, TypeError) as error:
        if "meta" not in str(error):
            raise
        return None


def _refuse_misfits(folder: Path, expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if faults := _misfits(expected, shapes, surplus=shapes.keys() - expected.keys()):
        raise ValueError(f"the weights in {folder} do not fit their spec: " + "; ".join(faults))


def _misfits(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, surplus: set[str]
) -> list[str]:
    faults = [f"missing: {name}" for name in expected.keys() - found.keys()]
    faults += [f"unexpected: {name}" for name in surplus]
    faults += [
        f"{name}: {found[name]} in the file, {expected[name]} in the model"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    return sorted(faults)


def _read_document(path: Path) -> dict[str, Any]:
    """The JSON object in spec.json, of this format version."""
    try:
        document: Any = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(document, dict):
            raise TypeError("it holds no JSON object")
        content = cast("dict[str, Any]", document)
        version, _ = content["format_version"], content["model"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reasons: dict[type[Exception], str] = {
            KeyError: f"it has no field {error}",
            RecursionError: "it is nested too deep",
        }
        reason = reasons.get(type(error)) or _line(error)
        raise ValueError(f"{path} is not a model's spec: {reason}; {RESTORE}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format version {version}, this snn-fusion reads version {FORMAT_VERSION}; upgrade snn-fusion"
        )
    return content


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file and its metadata."""
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            metadata = cast("dict[str, str] | None", file.metadata())  # pyright: ignore[reportUnknownMemberType]
        return load_file(path), metadata or {}
    except OSError:
        raise
    except Exception as error:  # whatever damage makes of the file, it is one fault
        raise ValueError(f"{path} is damaged: {_line(error)}; {RESTORE}") from error


def _verify(
    folder: Path,
    document: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    require: bool,
) -> None:
    """Compare the checksums that the files carry with what they hold.

    Raises:
        ValueError: one does not match, or is missing where it is required.
    """
    computed = json_checksum(document)
    _compare(folder / SPEC, document.get(FIELD), computed, require=require)
    _compare(folder / WEIGHTS, metadata.get("weights_sha256"), tensors_checksum(weights), require=require)
    if metadata.get("spec_sha256", computed) != computed:
        raise ValueError(
            f"{folder / SPEC} is not the spec that the weights beside it were saved with, or it is damaged or was "
            f"edited; {RESTORE}"
        )


def _compare(path: Path, stated: object, computed: str, *, require: bool) -> None:
    if stated is None and require:
        raise ValueError(
            f"{path} carries no checksum, so it is damaged or was not written by save_pretrained; {RESTORE}"
        )
    if stated not in (None, computed):
        raise ValueError(f"{path} is damaged or was edited: its checksum does not match; {RESTORE}")


def _spec_of(document: Mapping[str, Any], path: Path) -> ModelSpec:
    try:
        return ModelSpec.model_validate(document["model"])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"{path} is not a model's spec: {faults}{_advice(document)}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not a model's spec: it is nested too deep; {RESTORE}") from error


def _plugins(spec: ModelSpec) -> list[dict[str, str]]:
    """Where the parts of a spec are from that this library does not bring: module, distribution and its version."""
    modules = sorted(
        {type(part).__module__ for part in _parts(spec) if not type(part).__module__.startswith("snn_fusion.")}
    )
    return [{"module": module, **distribution_of(module)} for module in modules]


def _parts(value: object) -> Iterator[BaseModel]:
    """Every spec within a spec, itself among them."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in cast("Mapping[object, object]", value).values():
            yield from _parts(each)
    elif isinstance(value, (list, tuple)):
        for each in cast("list[object]", value):
            yield from _parts(each)


def _advice(document: Mapping[str, Any]) -> str:
    """What to install for a spec that was saved with plug-ins."""
    needed: list[str] = []
    for plugin in cast("list[dict[str, Any]]", document.get("plugins") or []):
        if "distribution" in plugin:
            needed.append(f"install {plugin['distribution']} (it was {plugin.get('version')})")
        else:
            needed.append(f"import {plugin.get('module')} first")
    return f"; the model was saved with plug-ins: {', '.join(needed)}" if needed else ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
