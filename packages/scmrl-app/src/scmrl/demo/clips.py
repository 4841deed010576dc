"""The clips that people look at: those that were uploaded, newest kept, and samples of the run's test split."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from scmrl.console.printable import printable
from scmrl.demo.refused import RefusedError
from scmrl.run_folder.clips import accepted_kinds
from snn_datasets.base.kinds import ENDINGS, RecordingKind, kinds_by_name
from snn_datasets.base.modality import Modality

KEPT = 16
"""Clips that are remembered; an older one has to be uploaded again."""


@dataclass(frozen=True, eq=False)
class ShownClip:
    """One thing to ask the model about."""

    inputs: dict[str, Tensor]
    """By modality that is there, as the model takes it, without a batch axis."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """By modality what it is called: a file, or a sample."""
    label: int | None = None
    """Index of the true class, if it is known."""

    def with_file(self, name: str, inputs: Mapping[str, Tensor]) -> ShownClip:
        """The same with other inputs for some modalities, read from a file; whose class it is, is then unknown."""
        return ShownClip({**self.inputs, **inputs}, {**self.names, **dict.fromkeys(inputs, name)})


class KeptClips:
    """The newest clips by tokens that nobody guesses: who has not uploaded a clip cannot ask for it."""

    def __init__(self, size: int = KEPT) -> None:
        self._size = size
        self._clips: OrderedDict[str, ShownClip] = OrderedDict()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._clips)

    def put(self, clip: ShownClip) -> str:
        """Keep a clip, and tell its token; the oldest goes if there are too many."""
        token = secrets.token_urlsafe(16)
        with self._turn:
            self._clips[token] = clip
            while len(self._clips) > self._size:
                self._clips.popitem(last=False)
        return token

    def get(self, token: str) -> ShownClip:
        """The clip of a token.

        Raises:
            RefusedError: there is none, or no more.
        """
        with self._turn:
            if token not in self._clips:
                raise RefusedError(
                    f"this clip is no longer there (the newest {self._size} are kept); drop it again", 404
                )
            self._clips.move_to_end(token)
            return self._clips[token]


def senses_of(
    name: str,
    modalities: Mapping[str, Modality],
    *,
    wanted: str | None = None,
    there: Collection[str] = (),
    kinds: Sequence[RecordingKind] | None = None,
) -> tuple[str, ...]:
    """The modalities that a file is read for; it is never taken for a manifest.

    A video gives its pictures and its sound, each to one modality; another file fills one.

    Args:
        name: of the file.
        modalities: of the run.
        wanted: the one that it is for; none: whichever takes it.
        there: those that have something already; others go first.
        kinds: what the file may hold, the likeliest first; none: whatever the ending of its name allows.

    Raises:
        RefusedError: none takes it, or the one that is wanted does not.
    """
    if wanted is not None and wanted not in modalities:
        raise RefusedError(f"the run has no modality {wanted!r}; it has {', '.join(modalities)}")
    kinds_inside = kinds_by_name(name) if kinds is None else kinds
    by_kind = (
        [m for m, how in modalities.items() if kind in accepted_kinds(how.reader) and wanted in (None, m)]
        for kind in kinds_inside
    )
    takers = next(filter(None, by_kind), list[str]())
    chosen: dict[str, str] = {}
    for each in [each for each in takers if each not in there] or takers:
        chosen.setdefault(modalities[each].reader.gives, each)
    if not chosen:
        takes = "; ".join(f"{each}: {' '.join(endings(how))}" for each, how in modalities.items())
        holds = f" ({' or '.join(kinds)})" if kinds else ""
        raise RefusedError(f"{printable(name)}{holds} is not read here, but files that end so are: {takes}", 415)
    return tuple(chosen.values())


def endings(modality: Modality) -> tuple[str, ...]:
    """Endings of the names of files that a modality takes."""
    return tuple(
        ending for kind, endings in ENDINGS.items() if kind in accepted_kinds(modality.reader) for ending in endings
    )
