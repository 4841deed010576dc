"""Changing what a run folder says of itself, as only its own program does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scmrl.run_folder.checksummed import read_checksummed, write_checksummed


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a run folder and give it the checksum of what it holds then."""
    content = json.loads(json.dumps(read_checksummed(path)))
    change(content)
    write_checksummed(path, content)
