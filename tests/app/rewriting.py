"""Rewrite files of a run folder with valid checksums."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scmrl.run_folder.checksummed import read_checksummed, write_checksummed


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a run folder and update its checksum."""
    content = json.loads(json.dumps(read_checksummed(path)))
    change(content)
    write_checksummed(path, content)
