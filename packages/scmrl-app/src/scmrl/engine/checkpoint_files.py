"""The files of one checkpoint: written without pickle, and read only where their checksums are right.

checkpoints/step-000123-0004/
    position.json         how far the run is
    rank-0.safetensors    tensors of process 0: model, optimizer, averaged weights, generators
    rank-0.json           its other state: generators of Python and NumPy, gradient scaler, platform
    checksums.json        size and SHA-256 of every other file, and the format version; written last
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from scmrl.engine.run_folder import write_json

FORMAT_VERSION = 1
"""Written into checksums.json; raised when an older reader could no longer read what is written."""
POSITION, CHECKSUMS = "position.json", "checksums.json"
LARGEST_CHECKSUMS = 2**24
"""Bytes of checksums.json that are read at most."""

Checksum = dict[str, Any]
"""`bytes` and `sha256` of a file."""


class DamagedCheckpoint(Exception):  # noqa: N818  it is caught, and the checkpoint before it is used
    """A checkpoint that is incomplete or not as it was written; the text says why."""


def tensor_file(rank: int) -> str:
    """Name of the file with the tensors of a process."""
    return f"rank-{rank}.safetensors"


def state_file(rank: int) -> str:
    """Name of the file with the other state of a process."""
    return f"rank-{rank}.json"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, contiguous and on the CPU.

    Raises:
        OSError: the disk is full, or the like.
    """
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error


def checksum(path: Path) -> Checksum:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def write_checksums(checkpoint: Path, checksums: Mapping[str, Checksum]) -> None:
    """Complete a checkpoint: from then on it can be read."""
    write_json(checkpoint / CHECKSUMS, {"format_version": FORMAT_VERSION, "files": dict(checksums)})


def verify(checkpoint: Path, names: Sequence[str]) -> None:
    """Compare files of a checkpoint with their checksums.

    Raises:
        DamagedCheckpoint: a file is missing or has changed, or the checkpoint is of another format.
    """
    path = checkpoint / CHECKSUMS
    if not path.is_file():
        old = " (an earlier version of scmrl, whose checkpoints cannot be read, wrote none)"
        raise DamagedCheckpoint(f"{CHECKSUMS} is missing{old if (checkpoint / '.metadata').is_file() else ''}")
    content = read_json(path)
    version, files = content.get("format_version"), content.get("files")
    if version != FORMAT_VERSION:
        raise DamagedCheckpoint(f"{CHECKSUMS} has format version {str(version)[:20]}, not {FORMAT_VERSION}")
    for name in names:
        expected = cast("dict[str, object]", files).get(name) if isinstance(files, dict) else None
        if expected is None:
            raise DamagedCheckpoint(f"{CHECKSUMS} has no checksum of {name}")
        try:
            actual = checksum(checkpoint / name)
        except OSError as error:
            raise DamagedCheckpoint(f"{name} cannot be read: {error.strerror or error}") from error
        if actual != expected:
            raise DamagedCheckpoint(f"{name} does not match its checksum")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DamagedCheckpoint: there is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_CHECKSUMS + 1)
        if len(text) > LARGEST_CHECKSUMS:
            raise DamagedCheckpoint(f"{path.name} is too long")
        content: object = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise DamagedCheckpoint(f"{path.name} holds no JSON object")
    return cast("dict[str, Any]", content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, on the CPU.

    Raises:
        DamagedCheckpoint: they cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error}") from error
