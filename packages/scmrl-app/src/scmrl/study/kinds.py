"""Every kind of study, and a study read back from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scmrl.study.ablation import AblationSpec
from scmrl.study.noise import NoiseSpec
from scmrl.study.scaling import ScalingSpec
from scmrl.study.sensitivity import SensitivitySpec
from scmrl.study.spec import StudySpec
from scmrl.study.tune import TuneSpec

KINDS: Mapping[str, type[StudySpec]] = MappingProxyType(
    {spec.kind: spec for spec in (AblationSpec, SensitivitySpec, TuneSpec, NoiseSpec, ScalingSpec)}
)
"""Studies by the name that the command line knows them by."""


def read_study(folder: Path) -> tuple[StudySpec, str, str | Path]:
    """A study's settings, its name in the storage, and the storage: an address or a journal file.

    A database's address may hold a password, so it is in the environment variable SCMRL_STORAGE rather than in the
    folder.

    Raises:
        ValueError: the folder holds no study, or one that this version cannot read, or the address is missing.
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
        raise ValueError(f"the study in {folder} is in a database, {storage}: give its address in SCMRL_STORAGE")
    return spec, name, os.environ["SCMRL_STORAGE"]


def read_content(folder: Path) -> dict[str, Any]:
    """What a study's folder says of the study, unchecked.

    Raises:
        ValueError: the folder holds no study, or its file is damaged.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no study: there is no study.json; name a folder that `scmrl study` made")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); put back the one that was there, or name another --out"
        ) from error
