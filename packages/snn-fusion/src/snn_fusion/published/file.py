"""Read the weights in a checkpoint file of another training script, as data only."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor


def read_state_dict(path: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint, without the prefix `module.` of its names.

    The file is a state dict or has one as `state_dict` or `model`, or, with `ema`, as `state_dict_ema` or `model_ema`.
    Code in it is refused, except for the `argparse.Namespace` of training options, which is only data.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, a damaged one, one with code, or one without weights.
    """
    stored = _load(path)
    keys = ("state_dict_ema", "model_ema") if ema else ("state_dict", "model")
    state_dict = next((stored[key] for key in keys if key in stored), None)
    if state_dict is None and not ema and any(isinstance(value, Tensor) for value in stored.values()):
        state_dict = stored
    if not isinstance(state_dict, Mapping) or not state_dict:
        contents = ", ".join(str(key) for key in list(stored)[:8]) or "nothing"
        raise ValueError(f"{path} holds no weights under {' or '.join(keys)}; it holds {contents}")
    for name, value in cast(Mapping[object, object], state_dict).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} holds no state dict: {name!r} is of type {type(value).__name__}, not a tensor")
    weights = cast(Mapping[str, Tensor], state_dict)
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _load(path: Path) -> Mapping[Any, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(64)
    # torch.save writes a zip archive; before PyTorch 1.6 it wrote a pickle.
    if not head.startswith((b"PK\x03\x04", b"\x80\x02")):
        hint = "; it is a web page: download the file itself" if head.lstrip().startswith(b"<") else ""
        raise ValueError(f"{path} is not a PyTorch checkpoint: it begins with {head[:20]!r}{hint}")
    if _is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript program, which contains code, not a checkpoint; if you trust its source, save "
            f'only its weights with torch.save(torch.jit.load("{path.name}", map_location="cpu").state_dict(), '
            '"weights.pt") and pass that file'
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            stored: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise ValueError(f"{path} is not a PyTorch checkpoint, or it is damaged") from error
        raise ValueError(
            f"{path} holds more than data, namely {refused[1]}, and loading that could run arbitrary code; if you "
            "trust the file, load it yourself and save only its state dict"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or ["it is truncated"])[0]
        raise ValueError(f"{path} is not a PyTorch checkpoint, or it is damaged: {reason}") from error
    if not isinstance(stored, Mapping):
        raise ValueError(f"{path} holds an object of type {type(stored).__name__}, not a state dict")
    return cast(Mapping[Any, Any], stored)


def _is_torchscript(path: Path) -> bool:
    """Return whether `torch.jit.save` wrote the file: its archive has a table of constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
