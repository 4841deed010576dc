"""Checksums stored inside a file, so that damage is detected wherever a write was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

FIELD = "sha256"
"""Field of a JSON document that holds the checksum of the others."""


def json_checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its checksum field; independent of field order and whitespace."""
    content = {name: value for name, value in document.items() if name != FIELD}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def with_checksum(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with the field `sha256` at its end."""
    # Encoded and decoded once, so that the checksum is that of what a reader gets: tuples become lists.
    content: dict[str, Any] = json.loads(json.dumps({**document, FIELD: None}))
    del content[FIELD]
    return {**content, FIELD: json_checksum(content)}


def tensors_checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
