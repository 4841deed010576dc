"""Runs on one modality alone that lie beside a run: what fusion is to be compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmrl.report.folders import RunFiles, read_run
from scmrl.report.stored import Score
from scmrl.run_folder.files import INPUTS, differences
from scmrl.run_folder.fingerprint import fingerprint_changes

MOST_FOLDERS = 200
"""Folders that are looked into, the newest ones."""
MAY_DIFFER = ("out", "resume", "data.modalities", "data.columns", "model.fusion", "model.alignment", "model.modalities")
"""Settings that have to differ, or mean nothing with one modality."""


@dataclass(frozen=True)
class AloneRun:
    """A run on one modality, on the same data."""

    modality: str
    folder: Path
    accuracy: float
    score: Score | None
    """The accuracy with its interval, where it was evaluated."""
    differing: tuple[str, ...]
    """Other settings in which it differs from the run that it is compared with."""


def runs_alone(run: RunFiles, others: Iterable[RunFiles] = ()) -> list[AloneRun]:
    """The comparable runs on one modality each: same data, classes, split and way to select an epoch.

    They are looked for beside the run's folder and among `others`. Of several on the same modality the one whose
    settings differ least is taken, and of those the newest. Folders that cannot be read are passed over.
    """
    modalities = run.summary.modalities
    if len(modalities) < 2:
        return []
    by_modality: dict[str, AloneRun] = {}
    for other in [*others, *_beside(run.folder)]:
        if len(other.summary.modalities) != 1 or other.summary.modalities[0] not in modalities:
            continue
        differing = _differing(run, other)
        if differing is None:
            continue
        score = other.evaluation.accuracy if other.evaluation and other.evaluation.split == "test" else None
        name = other.summary.modalities[0]
        each = AloneRun(name, other.folder, other.summary.test.accuracy, score, differing)
        if name not in by_modality or len(differing) < len(by_modality[name].differing):
            by_modality[name] = each
    return [by_modality[name] for name in modalities if name in by_modality]


def _beside(folder: Path) -> Iterable[RunFiles]:
    finished = [path for path in folder.resolve().parent.glob("*/summary.json") if path.parent != folder.resolve()]
    for path in sorted(finished, key=lambda path: -path.stat().st_mtime_ns)[:MOST_FOLDERS]:
        try:
            yield read_run(path.parent)
        except (ValueError, OSError):
            continue


def _differing(run: RunFiles, other: RunFiles) -> tuple[str, ...] | None:
    """Settings in which two runs differ besides the modalities; None where they cannot be compared at all."""
    mine, theirs = run.summary, other.summary
    if (mine.data, mine.classes, mine.selection, mine.test.n) != (
        theirs.data,
        theirs.classes,
        theirs.selection,
        theirs.test.n,
    ):
        return None
    if not _same_samples(run.folder, other.folder):
        return None

    before, now = (each.experiment.model_dump(mode="json") for each in (run, other))
    names = [name for name, *_ in differences(before, now) if not _may_differ(name)]
    if any(name.startswith("data.") for name in names):
        return None
    return tuple(names)


def _same_samples(folder: Path, other: Path) -> bool:
    """Whether two runs saw the same samples, as far as the fingerprints in their folders tell."""
    before, now = (_fingerprint(each) for each in (folder, other))
    if before is None or now is None:  # of older versions, which kept none
        return True
    try:
        return not fingerprint_changes(before, now)
    except (KeyError, TypeError, ValueError):  # a damaged one
        return False


def _fingerprint(folder: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        return content["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _may_differ(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in MAY_DIFFER)


def missing_alone(modalities: Sequence[str], alone: Sequence[AloneRun]) -> list[str]:
    """Modalities for which there is no such run."""
    return [name for name in modalities if name not in {each.modality for each in alone}]
