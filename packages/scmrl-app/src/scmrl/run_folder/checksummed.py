"""JSON files with their own checksum, so that a damaged one is never used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from scmrl.run_folder.atomic import write_text
from snn_fusion.pretrained.checksum import FIELD, json_checksum, with_checksum

RESTORE = "restore it from a backup, or train again into another folder"


def write_checksummed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum in the field `sha256`."""
    write_text(path, json.dumps(with_checksum(content), indent=2, allow_nan=False) + "\n")


def read_checksummed(path: Path) -> dict[str, Any]:
    """Read and verify what `write_checksummed` wrote, without the checksum.

    Raises:
        ValueError: the file is damaged, was edited, or has no checksum.
        OSError: it cannot be read.
    """
    try:
        content: Any = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} is damaged: {reason}; {RESTORE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object; {RESTORE}")
    document = cast("dict[str, Any]", content)
    checksum = document.pop(FIELD, None)
    if checksum is None:
        raise ValueError(
            f"{path} has no checksum: it is damaged, was edited, or an older version of scmrl wrote it; {RESTORE}"
        )
    if checksum != json_checksum(document):
        raise ValueError(f"{path} is damaged or was edited: its checksum does not match; {RESTORE}")
    return document
