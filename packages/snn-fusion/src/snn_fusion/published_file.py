"""Reading the weights in a checkpoint file that somebody else's training script wrote, as data only."""

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
    """The state dict in a checkpoint, without `module.` before its names.

    The file is a state dict or holds one as `state_dict` or `model`, or, with `ema`, as `state_dict_ema` or
    `model_ema`. Code in it is refused, except for the `argparse.Namespace` of training options, which is mere data.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, a damaged one, one with code in it, or one without weights.
    """
    stored = _load(path)
    wanted = ("state_dict_ema", "model_ema") if ema else ("state_dict", "model")
    found = next((stored[key] for key in wanted if key in stored), None)
    if found is None and not ema and any(isinstance(value, Tensor) for value in stored.values()):
        found = stored
    if not isinstance(found, Mapping) or not found:
        keys = ", ".join(str(key) for key in list(stored)[:8]) or "nothing"
        raise ValueError(f"{path} holds no weights under {' or '.join(wanted)}; it holds {keys}")
    for name, value in cast(Mapping[object, object], found).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} holds no state dict: {name!r} is of type {type(value).__name__}, not a tensor")
    weights = cast(Mapping[str, Tensor], found)
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _load(path: Path) -> Mapping[Any, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(64)
    # torch.save writes a zip archive, before PyTorch 1.6 a pickle.
    if not head.startswith((b"PK\x03\x04", b"\x80\x02")):
        page = "; it is a web page: download the file itself" if head.lstrip().startswith(b"<") else ""
        raise ValueError(f"{path} is not a checkpoint of PyTorch: it begins with {head[:20]!r}{page}")
    if _is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript program, which holds code, not a checkpoint; if you trust where it is from, save "
            f'its weights alone by torch.save(torch.jit.load("{path.name}", map_location="cpu").state_dict(), '
            '"weights.pt"), and give that file'
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            stored: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise ValueError(f"{path} is not a checkpoint of PyTorch, or it is damaged") from error
        raise ValueError(
            f"{path} holds more than data, namely {refused[1]}, and reading that could run any code; if you trust the "
            "file, load it yourself and save its state dict alone"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or ["it ends too early"])[0]
        raise ValueError(f"{path} is not a checkpoint of PyTorch, or it is damaged: {reason}") from error
    if not isinstance(stored, Mapping):
        raise ValueError(f"{path} holds an object of type {type(stored).__name__}, not a state dict")
    return cast(Mapping[Any, Any], stored)


def _is_torchscript(path: Path) -> bool:
    """Whether a file is what `torch.jit.save` writes: its archive holds a table of constants beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
