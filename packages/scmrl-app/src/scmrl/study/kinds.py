"""Every kind of study, and a study read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from scmrl.study.ablation import AblationSpec
from scmrl.study.spec import StudySpec

KINDS: Mapping[str, type[StudySpec]] = MappingProxyType({spec.kind: spec for spec in (AblationSpec,)})
"""Studies by the name that the command line knows them by."""


def read_study(folder: Path) -> tuple[StudySpec, str, str | Path]:
    """A study's settings, its name in the storage, and the storage: an address or a journal file.

    Raises:
        ValueError: the folder holds no study, or one that this version cannot read.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no study: there is no study.json; name a folder that `scmrl study` made")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        spec = KINDS[content["kind"]].model_validate(content["spec"])
        return spec, str(content["name"]), spec.storage or folder / "journal.log"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read by this version of scmrl: {error}") from error
