"""Options that all studies share. Imports no PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError
from scmrl.study.points import Point

EXECUTION_FIELDS = ("out", "resume", "seed", "jobs", "storage", "retry_failed")
"""Fields that change how a study is executed, not its results."""


class StudySpec(Experiment, ABC):
    """Many trainings that answer one question: an experiment, and what to vary in it.

    A study has the experiment's fields itself, so that its options are named as those of `scmrl train`. `kind` is no
    field: the command names it.
    """

    kind: ClassVar[str]
    """The study's name on the command line."""
    selectors: ClassVar[frozenset[str]] = frozenset({"seeds"})
    """Fields that select points without changing them. They may differ when a study is resumed."""
    repeated: ClassVar[tuple[str, str] | None] = None
    """A field that may be repeated on the command line, and an example of its value."""

    seeds: tuple[int, ...] | None = None
    """Training seeds, each used with every variant; none: seed and the next two."""
    jobs: int | None = Field(default=None, ge=0, le=256)
    """Parallel training processes on this machine; none: one per GPU, or one per core without a GPU; 0: train nothing,
    only write the tables of finished trainings."""
    storage: str | None = None
    """Database shared by workers on several machines, such as postgresql+psycopg://user@host/name; none: a journal
    file in the study's folder."""
    retry_failed: bool = False
    """Retry points that failed with an error."""

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32):
            raise ValueError("seeds must be one or more distinct numbers from 0 to 2**32 - 1")
        return seeds

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The training seeds, with the default filled in."""
        return self.seeds if self.seeds is not None else (self.seed, self.seed + 1, self.seed + 2)

    def base(self) -> Experiment:
        """Return the experiment that the points vary."""
        return Experiment.model_validate({name: getattr(self, name) for name in Experiment.model_fields})

    def settings(self) -> dict[str, Any]:
        """Return everything that affects a point's results, as JSON."""
        fields = self.model_dump(mode="json", exclude={*EXECUTION_FIELDS, *self.selectors})
        return {"kind": self.kind, **fields, **({"seeds": list(self.all_seeds)} if "seeds" in fields else {})}

    @abstractmethod
    def points(self) -> list[Point]:
        """Return every training of the study, in the order in which they start.

        Raises:
            ValueError: invalid settings.
        """

    def check(self) -> None:
        """Validate the settings of every training; reads no data.

        Raises:
            ValueError: invalid settings of the study.
            OptionError: all trainings whose settings are inconsistent.
        """
        base = self.base()
        faults: list[str] = []
        for variant, point in {point.variant: point for point in self.points()}.items():
            try:
                point.experiment(base, Path(point.key))
            except OptionError as error:
                faults += [f"{variant}: {fault}" for fault in error.faults]
        if faults:
            raise OptionError(faults)

    def stages(self) -> list[list[Point]]:
        """Return the points in stages; each stage starts when the previous one has finished."""
        return [self.points()]
