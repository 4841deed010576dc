"""Find runs on a single modality that a multimodal run can be compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmrl.report.folders import RunFiles, read_run
from scmrl.results.run import Score
from scmrl.run_folder.files import INPUTS, differences
from scmrl.run_folder.fingerprint import fingerprint_changes

MAX_FOLDERS = 200
"""Neighboring run folders that are read at most, newest first."""
IGNORED_SETTINGS = (
    "out",
    "resume",
    "data.modalities",
    "data.columns",
    "model.fusion",
    "model.alignment",
    "model.encoders",
)
"""Settings that must differ, or have no effect with one modality."""


@dataclass(frozen=True)
class UnimodalRun:
    """A run on one modality of the same data."""

    modality: str
    folder: Path
    accuracy: float
    score: Score | None
    """Test accuracy with its interval; None if the run was not evaluated."""
    differing: tuple[str, ...]
    """Other settings that differ from those of the multimodal run."""


def unimodal_runs(run: RunFiles, others: Iterable[RunFiles] = ()) -> list[UnimodalRun]:
    """Return comparable runs on one modality each: same data, classes, test split and epoch selection.

    Candidates are `others` and the finished runs in the parent folder of the run. Among several runs on the same
    modality, the one with the fewest differing settings is chosen, and among equals the newest. Unreadable folders are
    skipped.
    """
    modalities = run.summary.modalities
    if len(modalities) < 2:
        return []
    by_modality: dict[str, UnimodalRun] = {}
    for other in [*others, *_neighbors(run.folder)]:
        if len(other.summary.modalities) != 1 or other.summary.modalities[0] not in modalities:
            continue
        differing = _differing(run, other)
        if differing is None:
            continue
        score = other.evaluation.accuracy if other.evaluation and other.evaluation.split == "test" else None
        name = other.summary.modalities[0]
        candidate = UnimodalRun(name, other.folder, other.summary.test.accuracy, score, differing)
        if name not in by_modality or len(differing) < len(by_modality[name].differing):
            by_modality[name] = candidate
    return [by_modality[name] for name in modalities if name in by_modality]


def _neighbors(folder: Path) -> Iterable[RunFiles]:
    finished = [path for path in folder.resolve().parent.glob("*/summary.json") if path.parent != folder.resolve()]
    for path in sorted(finished, key=lambda path: -path.stat().st_mtime_ns)[:MAX_FOLDERS]:
        try:
            yield read_run(path.parent)
        except (ValueError, OSError):
            continue


def _differing(run: RunFiles, other: RunFiles) -> tuple[str, ...] | None:
    """Return the settings that differ besides the modalities; None if the runs are not comparable."""
    ours, theirs = (
        (summary.data, summary.classes, summary.selection, summary.test.n) for summary in (run.summary, other.summary)
    )
    if ours != theirs or not _same_samples(run.folder, other.folder):
        return None

    before, after = (each.experiment.model_dump(mode="json") for each in (run, other))
    names = [name for name, *_ in differences(before, after) if not _is_ignored(name)]
    if any(name.startswith("data.") for name in names):
        return None
    return tuple(names)


def _same_samples(folder: Path, other: Path) -> bool:
    """Return whether the data fingerprints of two runs agree; True if either run has none."""
    before, after = (_fingerprint(each) for each in (folder, other))
    if before is None or after is None:
        return True
    try:
        return not fingerprint_changes(before, after)
    except (KeyError, TypeError, ValueError):  # a damaged fingerprint
        return False


def _fingerprint(folder: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        return content["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_ignored(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in IGNORED_SETTINGS)


def modalities_without_run(modalities: Sequence[str], runs: Sequence[UnimodalRun]) -> list[str]:
    """Return the modalities that none of the unimodal runs was trained on."""
    return [name for name in modalities if name not in {run.modality for run in runs}]
