"""The files of one checkpoint: written without pickle, read only if their checksums match.

checkpoints/step-000123-0004/
    position.json         progress of the run
    rank-0.safetensors    tensors of rank 0: model, optimizer, averaged weights, generators
    rank-0.json           other state of rank 0: generators of Python and NumPy, gradient scaler, platform
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

from scmrl.run_folder.files import write_json

FORMAT_VERSION = 1
"""Format version in checksums.json; increased when older versions could not read the files."""
POSITION, CHECKSUMS = "position.json", "checksums.json"
LARGEST_CHECKSUMS = 2**24
"""Largest checksums.json that is read, in bytes."""

Checksum = dict[str, Any]
"""`bytes` and `sha256` of a file."""


class DamagedCheckpoint(Exception):  # noqa: N818  it is caught, and the checkpoint before it is used
    """A checkpoint that is incomplete or was changed; the message says why."""


def tensor_file(rank: int) -> str:
    """File name of a rank's tensors."""
    return f"rank-{rank}.safetensors"


def state_file(rank: int) -> str:
    """File name of a rank's other state."""
    return f"rank-{rank}.json"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors that are contiguous and on the CPU.

    Raises:
        OSError: the file cannot be written, for example on a full disk.
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
    """Write checksums.json, which completes a checkpoint."""
    write_json(checkpoint / CHECKSUMS, {"format_version": FORMAT_VERSION, "files": dict(checksums)})


def verify(checkpoint: Path, names: Sequence[str]) -> None:
    """Verify the checksums of files of a checkpoint.

    Raises:
        DamagedCheckpoint: a file is missing or has changed, or the format version differs.
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
            raise DamagedCheckpoint(f"{CHECKSUMS} has no checksum for {name}")
        try:
            actual = checksum(checkpoint / name)
        except OSError as error:
            raise DamagedCheckpoint(f"{name} cannot be read: {error.strerror or error}") from error
        if actual != expected:
            raise DamagedCheckpoint(f"{name} does not match its checksum")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DamagedCheckpoint: the file cannot be read or is not a JSON object.
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
        raise DamagedCheckpoint(f"{path.name} is not a JSON object")
    return cast("dict[str, Any]", content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file to the CPU.

    Raises:
        DamagedCheckpoint: the file cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error}") from error
