"""Read and validate the folders of runs and studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from scmrl.config.data_access import DataAccess
from scmrl.config.experiment import Experiment
from scmrl.results.run import EnergyFile, EnvironmentFile, EvaluationFile, SummaryFile
from scmrl.results.study import StudyResults
from scmrl.run_folder.files import read_experiment
from snn_fusion.specs.explain import error_lines

M = TypeVar("M", bound=BaseModel)
HISTORY = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished run; optional ones are None or empty."""

    folder: Path
    access: DataAccess | None
    """Overrides of where the data are."""
    experiment: Experiment
    summary: SummaryFile
    environment: EnvironmentFile | None
    history: Sequence[dict[str, float]]
    """metrics.jsonl: one mapping per epoch."""
    evaluation: EvaluationFile | None
    energy: EnergyFile | None


@dataclass(frozen=True)
class StudyFiles:
    """The results of a study."""

    folder: Path
    results: StudyResults


def read_folder(folder: Path, access: DataAccess | None = None) -> list[RunFiles | StudyFiles]:
    """Read the run, the study, or both from a folder. Of an unfinished study, read what is done.

    Raises:
        ValueError: the folder holds neither, the run is not finished, or a file is damaged; one line with the path.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one that `scmrl train` or a study wrote")
    contents: list[RunFiles | StudyFiles] = []
    study, run, finished = (folder / name for name in ("results.json", "experiment.json", "summary.json"))
    if finished.is_file() or (run.is_file() and not study.is_file()):
        contents.append(read_run(folder, access))
    if study.is_file():
        contents.append(StudyFiles(folder, read_file(study, StudyResults)))
    if not contents and (folder / "study.json").is_file():
        from scmrl.report.unfinished_study import partial_results

        contents.append(StudyFiles(folder, partial_results(folder)))
    if not contents:
        raise ValueError(
            f"{folder} is neither a run nor a study: it holds no experiment.json and no results.json; name a folder "
            "that `scmrl train` or a study wrote"
        )
    return contents


def read_run(folder: Path, access: DataAccess | None = None) -> RunFiles:
    """Read the files of a finished run.

    Raises:
        ValueError: as `read_folder`.
    """
    experiment = _experiment(folder, access)
    if not (folder / "summary.json").is_file():
        raise ValueError(
            f"the run in {folder} is not finished: it holds no summary.json; finish it by repeating its command with "
            f"--resume --out {folder}"
        )
    return RunFiles(
        folder,
        access,
        experiment,
        read_file(folder / "summary.json", SummaryFile),
        _optional(folder / "environment.json", EnvironmentFile),
        _history(folder / "metrics.jsonl"),
        _optional(folder / "evaluation.json", EvaluationFile),
        _optional(folder / "energy.json", EnergyFile),
    )


def read_file(path: Path, model: type[M]) -> M:
    """Read a JSON file into a model.

    Raises:
        ValueError: the file is damaged or does not match; one line with the path and the first error.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} is damaged: {error_lines(error.errors())[0]}; create it again, or delete it"
        ) from None


def _optional(path: Path, model: type[M]) -> M | None:
    return read_file(path, model) if path.is_file() else None


def _experiment(folder: Path, access: DataAccess | None) -> Experiment:
    """Read the settings; an error is one line."""
    try:
        return read_experiment(folder, access)
    except ValueError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        path = folder / "experiment.json"
        message = f"{path} cannot be read by this version of scmrl: {error_lines(error.__cause__.errors())[0]}"
        raise ValueError(message) from None


def _history(path: Path) -> list[dict[str, float]]:
    """Read one mapping per epoch; empty if there is no such file."""
    if not path.is_file():
        return []
    epochs: list[dict[str, float]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            epochs.append(HISTORY.validate_python(json.loads(line)))
            if "epoch" not in epochs[-1]:
                raise ValueError("it has no epoch")
        except (ValueError, RecursionError) as error:
            reason = error_lines(error.errors())[0] if isinstance(error, ValidationError) else str(error)
            raise ValueError(f"{path} is damaged in line {number}: {reason}") from None
    return epochs
