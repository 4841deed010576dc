"""The process that decodes one uploaded file and exits; `sandbox` starts it."""

# PyTorch leaves some of its functions untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from scmrl.demo.limits import MEMORY, limit_process
from scmrl.engine.predict import read_file
from scmrl.run_folder.inputs import Inputs
from snn_datasets import Draw

DECODERS = ("PIL.Image", "av", "soundfile")
"""Imported once for all files if installed; a reader without its decoder raises its own error."""

for _name in DECODERS:
    with suppress(ImportError):
        import_module(_name)


def decode_file(
    connection: Connection[bytes, bytes], inputs: Inputs, files: Mapping[str, str], id_: str, seconds: float
) -> None:
    """Limit this process, decode, and send the result: an empty message at the start, then JSON and the tensors.

    Args:
        connection: to the server.
        inputs: how the run reads files.
        files: by modality, the path of the file.
        id_: of the clip; seeds random stages.
        seconds: processor time limit.
    """
    os.setsid()  # so that child processes can be killed with it
    # Decoders print what they read, and terminals interpret escape codes.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    connection.send_bytes(b"")
    limit_process(seconds)
    tensors, faults = _decode(inputs, files, id_)
    connection.send_bytes(json.dumps({"faults": faults}).encode() + b"\n" + save(tensors))


def _decode(inputs: Inputs, files: Mapping[str, str], id_: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the decoded inputs by modality, and the reasons for those that failed."""
    tensors: dict[str, Tensor] = {}
    faults: dict[str, str] = {}
    for name, path in files.items():
        try:
            value = read_file(inputs.modalities[name], Path(path), Draw(inputs.seed, id_, name))
            tensors[name] = value.float().contiguous()
        except Exception as error:  # whatever a file does to a decoder, the other modalities are decoded
            is_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
            too_large = f"reading it needs more than {MEMORY >> 30} GB of memory; make it smaller"
            faults[name] = too_large if is_memory else str(error) or type(error).__name__
    return tensors, faults
