"""`scmrl study sensitivity`: the effect of settings, and which values are as good as the best."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import ClassVar

from pydantic import field_validator

from scmrl.config.overlay import OptionError
from scmrl.study.points import Point, check_unique_keys
from scmrl.study.ranges import dump_experiment, find_faults, group_by_field, parse_values, short_names
from scmrl.study.spec import StudySpec

BASE = "base"
"""Variant of the unchanged experiment, among points that differ from it in one field each."""


class SensitivitySpec(StudySpec):
    """Accuracy over the values of some settings: all combinations, or one setting at a time."""

    kind: ClassVar[str] = "sensitivity"
    repeated: ClassVar[tuple[str, str] | None] = ("vary", "model.fusion.alpha=0,0.5,1")

    vary: tuple[str, ...] = ()
    """FIELD=VALUES, once per setting: any option of the experiment and its values, separated by commas, or by | if the
    values contain commas."""
    one_at_a_time: bool = False
    """Vary one setting at a time and keep the others at the experiment's values, instead of all combinations."""

    @field_validator("vary", mode="before")
    @classmethod
    def _group_by_field(cls, value: object) -> tuple[str, ...]:
        return group_by_field(value)

    def points(self) -> list[Point]:
        """Return every combination with every seed, seed by seed.

        Raises:
            ValueError: nothing to vary, or invalid values or combinations.
        """
        combinations, base = self._combinations(), self.base()
        names = short_names(list(self.values()))
        faults: list[str] = []
        for settings in combinations if len(names) > 1 else ():
            faults += [f"{_as_options(settings)}: {fault}" for fault in find_faults(base, settings)]
        if faults:
            raise OptionError(list(dict.fromkeys(faults)))
        variants = [
            (" ".join(f"{names[field]}={value}" for field, value in settings.items()) or BASE, settings)
            for settings in combinations
        ]
        points = [Point(variant, settings, seed) for seed in self.all_seeds for variant, settings in variants]
        check_unique_keys(points)
        return points

    def values(self) -> dict[str, tuple[str, ...]]:
        """Return the values to try, by field.

        Raises:
            ValueError: nothing to vary, or invalid values.
        """
        if not self.vary:
            raise ValueError("--vary is required, for example --vary model.fusion.alpha=0,0.5,1,1.5")
        return parse_values(self.base(), self.vary)

    def _combinations(self) -> list[dict[str, str]]:
        """Return the distinct settings of all points; with one_at_a_time, the unchanged experiment comes first."""
        values = self.values()
        if not self.one_at_a_time:
            return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
        base = self.base()
        unchanged = dump_experiment(base, {})
        single = [{field: value} for field, texts in values.items() for value in texts]
        return [{}, *(settings for settings in single if dump_experiment(base, settings) != unchanged)]


def _as_options(settings: Mapping[str, str]) -> str:
    return " ".join(f"--{field} {value}" for field, value in settings.items())
