"""Modules by modality name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def modality_dict(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Return a `ModuleDict` of these modules.

    Raises:
        ValueError: a name that PyTorch cannot hold, because it is an attribute of its modules or has a dot.
    """
    empty = nn.ModuleDict()  # an instance has attributes that the class lacks, such as training
    for name in modules:
        if hasattr(empty, name) or "." in name or not name:
            raise ValueError(f"{name!r} cannot name a modality, because PyTorch modules cannot hold it; choose another")
    return nn.ModuleDict(dict(modules))
