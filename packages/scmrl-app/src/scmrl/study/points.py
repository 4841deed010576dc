"""One training of a study: how it differs from the study's experiment, and its key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import load

Results = Mapping[str, Mapping[str, Any]]
"""Measurements by the key of the point."""


@dataclass(frozen=True)
class Point:
    """One training of a study."""

    variant: str
    """Its name in tables; points that differ only in the seed share it."""
    settings: Mapping[str, str]
    """Options that override the experiment's, as on the command line: `{"model.fusion.alpha": "1.5"}`."""
    seed: int
    """Training seed. The data seed is the experiment's, so that all points see the same samples."""

    @property
    def key(self) -> str:
        """Its name in the work queue and in the study's folder, unique within the study."""
        return f"{slug(self.variant)}-seed{self.seed}"

    def experiment(self, base: Experiment, folder: Path) -> Experiment:
        """Return the experiment of this point, with the run folder `folder`.

        Raises:
            OptionError: invalid settings.
        """
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        options += [f"--seed={self.seed}", f"--out={folder}", "--resume"]
        defaults = {
            name: getattr(base, name) for name in Experiment.model_fields if name not in ("seed", "out", "resume")
        }
        return load(Experiment, options, defaults=defaults, defaults_from=f"point {self.variant}")


def slug(text: str) -> str:
    """Return text reduced to characters for folder names: letters, digits, `.`, `+`, `=` and `-`."""
    return re.sub(r"[^A-Za-z0-9.+=]+", "-", text).strip("-.") or "point"


def check_unique_keys(points: Iterable[Point]) -> None:
    """Verify that every point has a different key.

    Raises:
        ValueError: two points have the same key.
    """
    by_key: dict[str, Point] = {}
    for point in points:
        other = by_key.setdefault(point.key, point)
        if other is not point:
            raise ValueError(f"two points of the study have the key {point.key}: {other.settings} and {point.settings}")


def group_by_variant(points: Iterable[Point], results: Results) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Return the results of the finished points by variant and seed, in the order of the points."""
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point.key in results:
            by_variant.setdefault(point.variant, {})[point.seed] = results[point.key]
    return by_variant


def describe_run_folders(folder: Path, keys: Iterable[str]) -> str:
    """Say which run folders are in a study's folder; other machines keep theirs in their own."""
    all_keys = list(keys)
    local = sum((folder / "points" / key).is_dir() for key in all_keys)
    if local == len(all_keys):
        return "one run folder per point in points/"
    return (
        f"run folders of {local} of {len(all_keys)} points in points/; the others are where they were trained, in "
        "other folders that use the same storage"
    )
