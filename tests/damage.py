"""Files that are damaged or hostile, for the tests of what reads them."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

HOSTILE_JSON = (b"[" * 200_000, b"9" * 5000, b'{"format_version": 1e999}', b"null", b"", b"{}")
"""Nested too deep, numbers that are too large, and documents of another kind."""


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with a bit flipped, an end cut off, bytes deleted, inserted or overwritten, or other content."""
    damaged, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(8):
        case 0 | 1 | 2:
            damaged[at] ^= 1 << rng.randrange(8)
        case 3:
            del damaged[at:]
        case 4:
            del damaged[at : at + rng.randrange(1, 9)]
        case 5:
            damaged[at:at] = rng.randbytes(rng.randrange(1, 41))
        case 6:
            damaged[at : at + 4] = rng.randbytes(4)
        case _:
            return rng.choice(HOSTILE_JSON)
    return bytes(damaged)


class TouchesWhenLoaded:
    """Unpickling it makes the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.marker,)


def planted_pickle(marker: Path) -> bytes:
    """A pickle that makes the file `marker` where it is loaded, which is tried here: the test can fail."""
    planted = pickle.dumps(TouchesWhenLoaded(marker))
    pickle.loads(planted)
    assert marker.exists()
    marker.unlink()
    return planted
