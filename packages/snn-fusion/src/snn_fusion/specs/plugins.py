"""Plug-ins: modules of other distributions that register specs when they are imported.

A distribution names them in the entry-point group `snn_fusion.plugins`:

    [project.entry-points."snn_fusion.plugins"]
    my-method = "my_package.specs"

They are imported when a registry is asked for something that it does not have yet, a kind or the list of all, and not
before: importing specs stays instant, and a plug-in may import anything of this library.
"""

from __future__ import annotations

from importlib.metadata import entry_points, packages_distributions, version
from threading import RLock

GROUP = "snn_fusion.plugins"
"""The entry-point group."""

_lock = RLock()
_failures: list[str] | None = None


def load_plugins() -> tuple[str, ...]:
    """Import every installed plug-in, once a process.

    One that fails keeps no other from being loaded.

    Returns:
        a sentence for each that failed: which distribution, which module, and why.
    """
    global _failures
    with _lock:
        if _failures is None:
            # Set first: a plug-in that asks a registry while it is imported must not start this again.
            _failures = []
            for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.value, entry.name)):
                try:
                    entry.load()
                except Exception as error:
                    distribution = "an unnamed distribution" if entry.dist is None else entry.dist.name
                    _failures.append(
                        f"the plug-in {entry.value} of {distribution} failed to load: {type(error).__name__}: {error}"
                    )
        return tuple(_failures)


def distribution_of(module: str) -> dict[str, str]:
    """The distribution that brings a module, as `distribution` and `version`; empty for one that none brings."""
    top = module.partition(".")[0]
    names = {entry.dist.name for entry in entry_points(group=GROUP) if entry.dist and entry.module.split(".")[0] == top}
    names = names or set(packages_distributions().get(top, ()))
    return {"distribution": min(names), "version": version(min(names))} if names else {}
