"""The kinds of studies, and reading a study from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scmrl.study.ablation.spec import AblationSpec
from scmrl.study.noise.spec import NoiseSpec
from scmrl.study.scaling.spec import ScalingSpec
from scmrl.study.sensitivity.spec import SensitivitySpec
from scmrl.study.spec import StudySpec
from scmrl.study.tune.spec import TuneSpec

KINDS: Mapping[str, type[StudySpec]] = MappingProxyType(
    {spec.kind: spec for spec in (AblationSpec, SensitivitySpec, TuneSpec, NoiseSpec, ScalingSpec)}
)
"""Study specs by their name on the command line."""


def read_study(folder: Path) -> tuple[StudySpec, str, str | Path]:
    """Read a study's spec, its name in the storage, and the storage: a database address or a journal file.

    A database address may hold a password, so it is read from the environment variable SCMRL_STORAGE and not from the
    folder.

    Raises:
        ValueError: the folder holds no study or one that this version cannot read, or SCMRL_STORAGE is not set.
    """
    content = read_content(folder)
    try:
        spec = KINDS[content["kind"]].model_validate(content["spec"])
        name, storage = str(content["name"]), content["storage"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'study.json'} cannot be read by this version of scmrl: {error}") from error
    if storage is None:
        return spec, name, folder / "journal.log"
    if "SCMRL_STORAGE" not in os.environ:
        raise ValueError(f"the study in {folder} is stored in the database {storage}: set SCMRL_STORAGE to its address")
    return spec, name, os.environ["SCMRL_STORAGE"]


def read_content(folder: Path) -> dict[str, Any]:
    """Read study.json without validating its fields.

    Raises:
        ValueError: the folder holds no study.json, or the file is damaged.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no study (no study.json); name a folder that `scmrl study` created")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or choose another --out") from error
