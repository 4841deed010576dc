"""The table of studies: the `STUDY` of every folder beside this file that has one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import scmrl.study
from scmrl.study.kind import StudyKind


def _find_kinds() -> dict[str, StudyKind]:
    folders = [module.name for module in pkgutil.iter_modules(scmrl.study.__path__) if module.ispkg]
    packages = {name: import_module(f"scmrl.study.{name}") for name in folders}
    return {name: package.STUDY for name, package in packages.items() if hasattr(package, "STUDY")}


KINDS: Mapping[str, StudyKind] = MappingProxyType(_find_kinds())
"""Kinds of studies by name: that of the folder, the command, and the `kind` of the spec."""
