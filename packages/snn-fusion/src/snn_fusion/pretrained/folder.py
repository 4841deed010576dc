"""Save and load a trained model as a folder: `spec.json` describes it, `model.safetensors` holds its weights.

Both files have checksums: `spec.json` in its field `sha256`; the weights in their file's metadata, with the checksum of
the matching spec. A wrong checksum is an error. Files without one, as other programs write them, are loaded unchecked
unless checksums are required.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from snn_core.distributed import is_sharded
from snn_fusion.model import FusionModel
from snn_fusion.pretrained.checksum import FIELD, json_checksum, tensors_checksum, with_checksum
from snn_fusion.pretrained.plugins import install_hint, plugins_of
from snn_fusion.specs.explain import error_lines
from snn_fusion.specs.model import ModelSpec

FORMAT_VERSION = 1
"""Version in spec.json; increased when older readers can no longer read the format."""
SPEC, WEIGHTS = "spec.json", "model.safetensors"
RESTORE = "restore it from a backup, or save or train the model again"


def save_pretrained(model: nn.Module, spec: ModelSpec, folder: Path | str) -> None:
    """Write `spec.json` and `model.safetensors` into `folder`, which is created if needed.

    Both files are written completely before either is renamed, so a failure leaves the folder unchanged.

    Args:
        model: a `FusionModel`, also compiled, parametrized (weight norm), or inside `DataParallel`,
            `DistributedDataParallel` or `AveragedModel`; the weights of the inner model are written.
        spec: the spec that the model was built from.
        folder: the output folder.

    Raises:
        ValueError: the weights are not those of the spec, so the folder could not be loaded; nothing is written.
        OSError: a file cannot be written, for example on a full disk; the message names it.
    """
    weights = _weights_of(model, spec)
    document: dict[str, Any] = {"format_version": FORMAT_VERSION, "model": spec.model_dump(mode="json")}
    if plugins := plugins_of(spec):
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
        raise OSError(f"{written} cannot be written: {reason}; existing files are unchanged") from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def from_pretrained(folder: Path | str, *, require_checksums: bool = False) -> FusionModel:
    """Load the model that `save_pretrained` wrote, in evaluation mode.

    Nothing in the folder is executed. The spec's shapes are compared with those of the stored weights before memory is
    allocated for the model.

    Args:
        folder: written by `save_pretrained`.
        require_checksums: refuse files without a checksum, which are otherwise loaded unchecked.

    Raises:
        FileNotFoundError: the folder lacks one of the two files.
        ValueError: spec.json has a newer format or is not a model's spec, a file is damaged or belongs to another
            model, or the weights do not match the spec; the message names missing, unexpected and misshapen tensors.
    """
    folder = Path(folder)
    for name in (SPEC, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; a model's folder is written by save_pretrained")
    document = _read_document(folder / SPEC)
    weights, metadata = _read_weights(folder / WEIGHTS)
    _verify(folder, document, weights, metadata, require=require_checksums)
    spec = _spec_of(document, folder / SPEC)
    try:
        # On the meta device, shapes of any size can be compared without allocating memory.
        if (expected := _shapes(spec)) is not None:
            _refuse_misfits(folder, expected, weights)
        model = spec.build()
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        raise ValueError(f"{folder / SPEC} describes a model that cannot be built: {_one_line(error)}") from error
    if expected is None:
        _refuse_misfits(folder, {name: tuple(value.shape) for name, value in model.state_dict().items()}, weights)
    model.load_state_dict(weights)
    return model.eval()


def read_weights(folder: Path | str) -> dict[str, Tensor]:
    """Return the weights in a model's folder by their dotted names.

    Raises:
        FileNotFoundError: the folder has no `model.safetensors`.
        ValueError: the file is damaged.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {path.name}; a model's folder is written by save_pretrained")
    weights, metadata = _read_weights(path)
    _compare(path, metadata.get("weights_sha256"), tensors_checksum(weights), require=False)
    return weights


def _weights_of(model: nn.Module, spec: ModelSpec) -> dict[str, Tensor]:
    """Return the tensors of a spec's model by their names in it.

    Raises:
        ValueError: the model has other tensors.
    """
    plain = _unwrapped(model)
    stored = cast("dict[str, Tensor]", plain.state_dict())
    # Compiled parts add a prefix to names; a parametrized tensor is stored as its inputs.
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
        if is_sharded(value):
            raise ValueError("the model's weights are sharded over ranks; gather them first, nothing was saved")
        weights[name] = value.detach().contiguous()
    faults = _misfits(
        shapes, {name: tuple(value.shape) for name, value in weights.items()}, surplus=plain_names - shapes.keys()
    )
    if faults:
        listed = "; ".join([*faults[:8], *(["..."] if len(faults) > 8 else [])])
        raise ValueError(
            f"the model is not the one that its spec describes, so the folder could not be loaded again ({listed}); "
            "nothing was saved: pass the spec that it was built from, or unwrap its layers"
        )
    return {name: weights[name] for name in sorted(weights)}


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside PyTorch's wrappers."""
    while not isinstance(model, FusionModel):
        if isinstance(model, (DataParallel, DistributedDataParallel, AveragedModel)):
            model = cast(nn.Module, model.module)
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            raise ValueError(f"save_pretrained takes a FusionModel, not {type(model).__name__}; nothing was saved")
    return model


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]] | None:
    """Return the tensor shapes of a spec's model, without allocating them; None if a plug-in needs values."""
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
        raise ValueError(f"the weights in {folder} do not match their spec: " + "; ".join(faults))


def _misfits(
    expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]], *, surplus: set[str]
) -> list[str]:
    faults = [f"missing: {name}" for name in expected.keys() - actual.keys()]
    faults += [f"unexpected: {name}" for name in surplus]
    faults += [
        f"{name}: {actual[name]} in the file, {expected[name]} in the model"
        for name in expected.keys() & actual.keys()
        if actual[name] != expected[name]
    ]
    return sorted(faults)


def _read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in spec.json and check its format version."""
    try:
        document: Any = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(document, dict):
            raise TypeError("it is not a JSON object")
        content = cast("dict[str, Any]", document)
        version, _ = content["format_version"], content["model"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reasons: dict[type[Exception], str] = {
            KeyError: f"it has no field {error}",
            RecursionError: "it is nested too deeply",
        }
        reason = reasons.get(type(error)) or _one_line(error)
        raise ValueError(f"{path} is not a model's spec: {reason}; {RESTORE}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this snn-fusion reads version {FORMAT_VERSION}; upgrade snn-fusion"
        )
    return content


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors in a file and its metadata."""
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            metadata = cast("dict[str, str] | None", file.metadata())  # pyright: ignore[reportUnknownMemberType]
        return load_file(path), metadata or {}
    except OSError:
        raise
    except Exception as error:  # safetensors raises many types for a damaged file
        raise ValueError(f"{path} is damaged: {_one_line(error)}; {RESTORE}") from error


def _verify(
    folder: Path,
    document: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    require: bool,
) -> None:
    """Verify the stored checksums.

    Raises:
        ValueError: one does not match, or is missing although required.
    """
    computed = json_checksum(document)
    _compare(folder / SPEC, document.get(FIELD), computed, require=require)
    _compare(folder / WEIGHTS, metadata.get("weights_sha256"), tensors_checksum(weights), require=require)
    if metadata.get("spec_sha256", computed) != computed:
        raise ValueError(
            f"{folder / SPEC} is not the spec that its weights were saved with, or it is damaged or was edited; "
            f"{RESTORE}"
        )


def _compare(path: Path, stated: object, computed: str, *, require: bool) -> None:
    if stated is None and require:
        raise ValueError(f"{path} has no checksum, so it is damaged or was not written by save_pretrained; {RESTORE}")
    if stated not in (None, computed):
        raise ValueError(f"{path} is damaged or was edited: its checksum does not match; {RESTORE}")


def _spec_of(document: Mapping[str, Any], path: Path) -> ModelSpec:
    try:
        return ModelSpec.model_validate(document["model"])
    except ValidationError as error:
        faults = "; ".join(error_lines(error.errors()))
        raise ValueError(f"{path} is not a model's spec: {faults}{install_hint(document)}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not a model's spec: it is nested too deeply; {RESTORE}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
