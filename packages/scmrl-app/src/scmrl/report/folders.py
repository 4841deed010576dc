"""What a report reads: the folders of runs and of studies, checked before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from scmrl.config.data_access import DataAccess
from scmrl.config.experiment import Experiment
from scmrl.report.stored import Energy, Environment, Evaluation, Results, Summary
from scmrl.run_folder.files import read_experiment

M = TypeVar("M", bound=BaseModel)
HISTORY = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class RunFiles:
    """What lies in the folder of a finished run; what may be missing is None or empty."""

    folder: Path
    access: DataAccess | None
    """How its data are reached."""
    experiment: Experiment
    summary: Summary
    environment: Environment | None
    history: Sequence[dict[str, float]]
    """metrics.jsonl: one mapping an epoch."""
    evaluation: Evaluation | None
    energy: Energy | None


@dataclass(frozen=True)
class StudyFiles:
    """What lies in the folder of a study."""

    folder: Path
    results: Results


def read_folder(folder: Path, access: DataAccess | None = None) -> list[RunFiles | StudyFiles]:
    """The run or the study in a folder; both where it holds both. Of a study that is not finished, what is done.

    Raises:
        ValueError: it holds neither, or a run that is not finished, or a file is damaged; one line that names it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name one that `scmrl train` or a study made")
    found: list[RunFiles | StudyFiles] = []
    study, run, finished = (folder / name for name in ("results.json", "experiment.json", "summary.json"))
    if finished.is_file() or (run.is_file() and not study.is_file()):
        found.append(read_run(folder, access))
    if study.is_file():
        found.append(StudyFiles(folder, read_file(study, Results)))
    if not found and (folder / "study.json").is_file():
        from scmrl.report.running import results_so_far

        found.append(StudyFiles(folder, results_so_far(folder)))
    if not found:
        raise ValueError(
            f"{folder} is neither a run nor a study: it holds no experiment.json and no results.json; name a folder "
            "that `scmrl train` or a study made"
        )
    return found


def read_run(folder: Path, access: DataAccess | None = None) -> RunFiles:
    """The files of a finished run.

    Raises:
        ValueError: as `read_folder`.
    """
    experiment = _experiment(folder, access)
    if not (folder / "summary.json").is_file():
        raise ValueError(
            f"the run in {folder} is not finished: it holds no summary.json; finish it by its own command with "
            f"--resume --out {folder}"
        )
    return RunFiles(
        folder,
        access,
        experiment,
        read_file(folder / "summary.json", Summary),
        _optional(folder / "environment.json", Environment),
        _history(folder / "metrics.jsonl"),
        _optional(folder / "evaluation.json", Evaluation),
        _optional(folder / "energy.json", Energy),
    )


def read_file(path: Path, kind: type[M]) -> M:
    """A JSON file as what it should hold.

    Raises:
        ValueError: it is damaged, or holds something else; one line that names it and the first fault.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is damaged: {_fault(error)}; make it anew, or take it away") from None


def _optional(path: Path, kind: type[M]) -> M | None:
    return read_file(path, kind) if path.is_file() else None


def _experiment(folder: Path, access: DataAccess | None) -> Experiment:
    """The settings, with faults in one line."""
    try:
        return read_experiment(folder, access)
    except ValueError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        path = folder / "experiment.json"
        raise ValueError(f"{path} cannot be read by this version of scmrl: {_fault(error.__cause__)}") from None


def _history(path: Path) -> list[dict[str, float]]:
    """One mapping an epoch, none where there is no such file."""
    if not path.is_file():
        return []
    epochs: list[dict[str, float]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            epochs.append(HISTORY.validate_python(json.loads(line)))
            if "epoch" not in epochs[-1]:
                raise ValueError("it names no epoch")
        except (ValueError, RecursionError) as error:
            reason = _fault(error) if isinstance(error, ValidationError) else str(error)
            raise ValueError(f"{path} is damaged in line {number}: {reason}") from None
    return epochs


def _fault(error: ValidationError) -> str:
    """The first fault in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return " ".join(f"{place}: {first['msg']}".removeprefix(": ").split())
