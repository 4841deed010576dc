"""A trained model as a folder: `spec.json` says how to build it, `model.safetensors` holds its weights."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from snn_fusion.model import FusionModel
from snn_fusion.specs import ModelSpec

FORMAT_VERSION = 1
"""Written into spec.json; raised when an older reader could no longer read what is written."""


def save_pretrained(model: FusionModel, spec: ModelSpec, folder: Path | str) -> None:
    """Write `spec.json` and `model.safetensors` into `folder`, which is made if needed.

    Each file is written beside its place and renamed, so an interruption leaves the old one or the new one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"format_version": FORMAT_VERSION, "model": spec.model_dump(mode="json")}
    beside = folder / "model.safetensors.part"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, beside)
    beside.replace(folder / "model.safetensors")
    beside = folder / "spec.json.part"
    beside.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / "spec.json")


def from_pretrained(folder: Path | str) -> FusionModel:
    """The model that `save_pretrained` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: the folder lacks one of the two files.
        ValueError: spec.json is of a newer format or not a model's spec, or the weights do not fit it; the message
            names what is missing, unexpected or of another shape.
    """
    folder = Path(folder)
    for name in ("spec.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; a model's folder is what save_pretrained wrote")
    model = _read_spec(folder / "spec.json").build()
    expected = model.state_dict()
    found = load_file(folder / "model.safetensors")
    faults = [f"missing: {name}" for name in expected.keys() - found.keys()]
    faults += [f"unexpected: {name}" for name in found.keys() - expected.keys()]
    faults += [
        f"{name}: {tuple(found[name].shape)} in the file, {tuple(expected[name].shape)} in the model"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    if faults:
        raise ValueError(f"the weights in {folder} do not fit their spec: " + "; ".join(sorted(faults)))
    model.load_state_dict(found)
    return model.eval()


def _read_spec(path: Path) -> ModelSpec:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, content = document["format_version"], document["model"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a model's spec: {error!r}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format version {version}, this snn-fusion reads version {FORMAT_VERSION}; upgrade snn-fusion"
        )
    try:
        return ModelSpec.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"{path} is not a model's spec: {faults}") from error
