"""The folder of a study: create it, write and read its settings."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from scmrl.results.study import StudyFile
from scmrl.run_folder.files import differences
from scmrl.study.kinds import KINDS
from scmrl.study.queue.storage import hide_password
from scmrl.study.spec import StudySpec
from scmrl.study.tables import PART, write_shared_text
from snn_fusion.specs.explain import error_lines


def study_folder(spec: StudySpec) -> Path:
    """Return the study's folder; create it if it is new.

    Raises:
        ValueError: it holds something else, or a study with other settings.
    """
    folder = spec.out or Path("studies") / f"{datetime.now():%Y%m%d-%H%M%S}-{spec.kind}"
    if (folder / "study.json").is_file():
        file = read_study_file(folder)
        if file.kind != spec.kind:
            raise ValueError(f"{folder} holds a study of another kind, {file.kind}; choose another folder with --out")
        faults = [
            f"{field} was {old} and is now {new}" for field, old, new in differences(file.settings, spec.settings())
        ]
        if faults:
            raise ValueError(
                f"the study in {folder} has other settings: {'; '.join(faults)}; use the same settings to resume it, "
                "or another --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(not p.name.startswith(PART) for p in folder.iterdir())):
        raise ValueError(f"--out {folder} exists and is not a study; choose a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_study_file(spec: StudySpec, folder: Path) -> str:
    """Write study.json; return the study's name in the storage, which depends on its settings."""
    settings = spec.settings()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    file = StudyFile(
        kind=spec.kind,
        name=f"{spec.kind}-{digest[:16]}",
        storage=spec.storage and hide_password(spec.storage),
        spec=spec.model_dump(mode="json", exclude={"storage"}),
        settings=settings,
    )
    write_shared_text(folder / "study.json", json.dumps(file.model_dump(mode="json"), indent=2) + "\n")
    return file.name


def read_study(folder: Path) -> tuple[StudySpec, str, str | Path]:
    """Read a study's spec, its name in the storage, and the storage: a database address or a journal file.

    A database address may hold a password, so it is read from the environment variable SCMRL_STORAGE and not from the
    folder.

    Raises:
        ValueError: the folder holds no study or one that this version cannot read, or SCMRL_STORAGE is not set.
    """
    file = read_study_file(folder)
    try:
        spec = KINDS[file.kind].spec_type().model_validate(file.spec)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'study.json'} cannot be read by this version of scmrl: {error}") from error
    if file.storage is None:
        return spec, file.name, folder / "journal.log"
    if "SCMRL_STORAGE" not in os.environ:
        raise ValueError(
            f"the study in {folder} is stored in the database {file.storage}: set SCMRL_STORAGE to its address"
        )
    return spec, file.name, os.environ["SCMRL_STORAGE"]


def read_study_file(folder: Path) -> StudyFile:
    """Read study.json.

    Raises:
        ValueError: the folder holds no study.json, or the file is damaged.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no study (no study.json); name a folder that `scmrl study` created")
    try:
        return StudyFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        reason = error_lines(error.errors())[0]
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise ValueError(f"{path} is damaged ({reason}); restore it, or choose another --out")
