"""What runs in the process that reads one uploaded file, and ends with it; see `sandbox` for the other end."""

# torch leaves the types of some of its own functions open.
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

from scmrl.demo.limits import MEMORY, limit
from scmrl.engine.predict import read_file
from scmrl.run_folder.inputs import Inputs
from snn_datasets import Draw

DECODERS = ("PIL.Image", "av", "soundfile")
"""Loaded with this module where they are installed, once for all files; a reader that lacks one says so itself."""

for _name in DECODERS:
    with suppress(ImportError):
        import_module(_name)


def read_apart(
    answers: Connection[bytes, bytes], inputs: Inputs, files: Mapping[str, str], id_: str, seconds: float
) -> None:
    """Limit this process, read, and answer: first nothing, to say that it begins, then JSON and behind it the tensors.

    Args:
        answers: where to.
        inputs: how the run reads files.
        files: by modality the file to read.
        id_: of the clip, which decides what stages draw.
        seconds: that reading may take.
    """
    os.setsid()  # whatever it starts can be ended with it
    # Decoders quote what they read, and terminals obey.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    answers.send_bytes(b"")
    limit(seconds)
    found, faults = _read(inputs, files, id_)
    answers.send_bytes(json.dumps({"faults": faults}).encode() + b"\n" + save(found))


def _read(inputs: Inputs, files: Mapping[str, str], id_: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The inputs by modality of those files that could be read, and for the others why not."""
    found: dict[str, Tensor] = {}
    faults: dict[str, str] = {}
    for name, path in files.items():
        try:
            value = read_file(inputs.modalities[name], Path(path), Draw(inputs.seed, id_, name))
            found[name] = value.float().contiguous()
        except Exception as error:  # whatever a file makes of a decoder, the other senses go on
            scarce = isinstance(error, MemoryError) or "allocate memory" in str(error)
            needs = f"reading it needs more than {MEMORY >> 30} GB of memory; make it smaller"
            faults[name] = needs if scarce else str(error) or type(error).__name__
    return found, faults
