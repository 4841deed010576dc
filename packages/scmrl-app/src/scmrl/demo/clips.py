"""The clips of the demo: recent uploads, and samples of the run's test split."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from scmrl.console.printable import printable
from scmrl.demo.errors import RefusedError
from scmrl.run_folder.clips import accepted_kinds
from snn_datasets.base.kinds import ENDINGS, RecordingKind, kinds_by_name
from snn_datasets.base.modality import Modality

CAPACITY = 16
"""Uploaded clips in memory; older ones have to be uploaded again."""


@dataclass(frozen=True, eq=False)
class DemoClip:
    """Inputs for one prediction."""

    inputs: dict[str, Tensor]
    """By present modality, the model's input without a batch axis."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """By modality, the name of its file or sample."""
    label: int | None = None
    """Index of the true class, if known."""

    def with_file(self, name: str, inputs: Mapping[str, Tensor]) -> DemoClip:
        """Return a copy with the inputs of some modalities replaced by those of a file; its label is unknown."""
        return DemoClip({**self.inputs, **inputs}, {**self.names, **dict.fromkeys(inputs, name)})


class ClipStore:
    """The most recently used clips, by random tokens: only the uploader of a clip can request it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._clips: OrderedDict[str, DemoClip] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    def put(self, clip: DemoClip) -> str:
        """Store a clip and return its token; the least recently used clip is evicted if there are too many."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._clips[token] = clip
            while len(self._clips) > self._capacity:
                self._clips.popitem(last=False)
        return token

    def get(self, token: str) -> DemoClip:
        """Return the clip of a token.

        Raises:
            RefusedError: the token is unknown or its clip was evicted.
        """
        with self._lock:
            if token not in self._clips:
                raise RefusedError(
                    f"this clip is no longer stored (the newest {self._capacity} are); upload it again", 404
                )
            self._clips.move_to_end(token)
            return self._clips[token]


def modalities_for_file(
    name: str,
    modalities: Mapping[str, Modality],
    *,
    requested: str | None = None,
    present: Collection[str] = (),
    kinds: Sequence[RecordingKind] | None = None,
) -> tuple[str, ...]:
    """Return the modalities that a file is decoded for; manifests are not supported.

    A video provides images and sound, each for one modality; any other file provides one.

    Args:
        name: file name.
        modalities: of the run.
        requested: modality that the file is for; None: any that accepts it.
        present: modalities that the clip has already; others are preferred.
        kinds: what the file may hold, most likely first; None: whatever its file name extension allows.

    Raises:
        RefusedError: no modality accepts the file, or the requested one does not.
    """
    if requested is not None and requested not in modalities:
        raise RefusedError(f"the run has no modality {requested!r}; it has {', '.join(modalities)}")
    candidate_kinds = kinds_by_name(name) if kinds is None else kinds
    by_kind = (
        [m for m, modality in modalities.items() if kind in accepted_kinds(modality.reader) and requested in (None, m)]
        for kind in candidate_kinds
    )
    accepting = next(filter(None, by_kind), list[str]())
    selected: dict[str, str] = {}
    for each in [each for each in accepting if each not in present] or accepting:
        selected.setdefault(modalities[each].reader.gives, each)
    if not selected:
        accepted = "; ".join(f"{each}: {' '.join(file_endings(modality))}" for each, modality in modalities.items())
        contents = f" ({' or '.join(kinds)})" if kinds else ""
        raise RefusedError(f"{printable(name)}{contents} is not supported; supported files: {accepted}", 415)
    return tuple(selected.values())


def file_endings(modality: Modality) -> tuple[str, ...]:
    """Return the file name extensions that a modality accepts."""
    return tuple(
        ending for kind, endings in ENDINGS.items() if kind in accepted_kinds(modality.reader) for ending in endings
    )
