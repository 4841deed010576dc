"""The packages that a saved model's spec needs in addition to this library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points, packages_distributions, version
from typing import Any, cast

from pydantic import BaseModel

GROUPS = ("snn_fusion.encoders", "snn_fusion.methods", "snn_fusion.neurons", "snn_fusion.alignments")
"""The entry-point groups of the registries."""


def plugins_of(spec: BaseModel) -> list[dict[str, str]]:
    """Return module, distribution and version of the parts of a spec that come from other packages."""
    modules = sorted(
        {type(part).__module__ for part in _specs_in(spec) if not type(part).__module__.startswith("snn_fusion.")}
    )
    return [{"module": module, **distribution_of(module)} for module in modules]


def install_hint(document: Mapping[str, Any]) -> str:
    """Return what to install for a spec that was saved with plug-ins; empty if it needs none."""
    needed: list[str] = []
    for plugin in cast("list[dict[str, Any]]", document.get("plugins") or []):
        if "distribution" in plugin:
            needed.append(f"install {plugin['distribution']} (it was {plugin.get('version')})")
        else:
            needed.append(f"import {plugin.get('module')} first")
    return f"; the model was saved with plug-ins: {', '.join(needed)}" if needed else ""


def distribution_of(module: str) -> dict[str, str]:
    """Return the distribution of a module as `distribution` and `version`; empty if it belongs to none."""
    top = module.partition(".")[0]
    entries = [entry for group in GROUPS for entry in entry_points(group=group)]
    names = {entry.dist.name for entry in entries if entry.dist and entry.module.split(".")[0] == top}
    names = names or set(packages_distributions().get(top, ()))
    return {"distribution": min(names), "version": version(min(names))} if names else {}


def _specs_in(value: object) -> Iterator[BaseModel]:
    """Iterate over a spec and all specs within it."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _specs_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in cast("Mapping[object, object]", value).values():
            yield from _specs_in(each)
    elif isinstance(value, (list, tuple)):
        for each in cast("list[object]", value):
            yield from _specs_in(each)
