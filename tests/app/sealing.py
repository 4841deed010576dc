"""Changing what a run folder says of itself, as only its own program does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scmrl.engine.sealed import read_sealed, write_sealed


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a run folder and give it the checksum of what it holds then."""
    content = json.loads(json.dumps(read_sealed(path)))
    change(content)
    write_sealed(path, content)
