"""One training of a study: what differs from the study's experiment, and how it is told apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scmrl.experiment import Experiment
from scmrl.overlay import load


@dataclass(frozen=True)
class Point:
    """One training of a study."""

    variant: str
    """What it is called in tables; points that differ in nothing but the seed share it."""
    settings: Mapping[str, str]
    """Options in place of the experiment's, as on the command line: `{"model.fusion.alpha": "1.5"}`."""
    seed: int
    """Seed of the training; the data keep theirs, so that all points see the same samples."""

    @property
    def key(self) -> str:
        """Its name in the work list and in the study's folder, unique within the study."""
        return f"{slug(self.variant)}-seed{self.seed}"

    def experiment(self, base: Experiment, folder: Path) -> Experiment:
        """The experiment of this point, whose run folder is `folder`.

        Raises:
            OptionError: settings that the experiment does not take.
        """
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        options += [f"--seed={self.seed}", f"--out={folder}", "--resume"]
        given = {name: getattr(base, name) for name in Experiment.model_fields if name not in ("seed", "out", "resume")}
        return load(Experiment, options, defaults=given, defaults_from=f"point {self.variant}")


def slug(text: str) -> str:
    """A name for folders: letters, digits, `.`, `+`, `=` and `-`."""
    return re.sub(r"[^A-Za-z0-9.+=]+", "-", text).strip("-.") or "point"


def refuse_twins(points: Iterable[Point]) -> None:
    """Every point has a key of its own.

    Raises:
        ValueError: two have the same.
    """
    seen: dict[str, Point] = {}
    for point in points:
        other = seen.setdefault(point.key, point)
        if other is not point:
            raise ValueError(f"two points of the study are called {point.key}: {other.settings} and {point.settings}")


def where_runs_lie(folder: Path, keys: Iterable[str]) -> str:
    """Which run folders of its points a study's folder holds: what others trained for a shared list lies elsewhere."""
    every = list(keys)
    here = sum((folder / "points" / key).is_dir() for key in every)
    if here == len(every):
        return "one run folder a point in points/"
    return (
        f"the run folders of {here} of {len(every)} points in points/; the others lie where they were trained, "
        "in other folders with the same storage"
    )
