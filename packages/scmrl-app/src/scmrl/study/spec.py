"""What every study can be told. Imports no PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from scmrl.experiment import Experiment
from scmrl.overlay import OptionError
from scmrl.study.points import Point

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.progress import Progress
    from scmrl.study.tables import Findings
    from scmrl.study.work import Claim

Results = Mapping[str, Mapping[str, Any]]
"""What was measured, by the key of the point."""

OF_THE_WORK = ("out", "resume", "seed", "jobs", "storage", "retry_failed")
"""Fields that change how a study is done, not what it finds."""


class StudySpec(Experiment, ABC):
    """Many trainings that answer one question: an experiment, and what to vary in it."""

    kind: ClassVar[str]
    """The study's name on the command line."""
    asked: ClassVar[frozenset[str]] = frozenset({"seeds"})
    """Fields that say which points are wanted, not what a point is: they may change while the study goes on."""
    repeated: ClassVar[tuple[str, str] | None] = None
    """A field that may be given many times on the command line, and an example of it."""

    seeds: tuple[int, ...] | None = None
    """Seeds of the trainings, each with every variant; none: seed and the two that follow it."""
    jobs: int | None = Field(default=None, ge=0, le=256)
    """Processes that train at the same time on this machine; none: one a GPU, or one a core without; 0 trains nothing
    and makes the tables of what is there."""
    storage: str | None = None
    """Database that workers on several machines share, such as postgresql+psycopg://user@host/name; none: a journal
    file in the study's folder."""
    retry_failed: bool = False
    """Try points again that ended in an error."""

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32):
            raise ValueError("seeds are one or more different numbers from 0 to 2**32 - 1")
        return seeds

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds of the trainings."""
        return self.seeds if self.seeds is not None else (self.seed, self.seed + 1, self.seed + 2)

    def base(self) -> Experiment:
        """The experiment that points differ from."""
        return Experiment.model_validate({name: getattr(self, name) for name in Experiment.model_fields})

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a point finds, as JSON holds it."""
        said = self.model_dump(mode="json", exclude={*OF_THE_WORK, *self.asked})
        return {"kind": self.kind, **said, **({"seeds": list(self.every_seed)} if "seeds" in said else {})}

    @abstractmethod
    def points(self) -> list[Point]:
        """Every training of the study, in the order in which they are begun.

        Raises:
            ValueError: settings that the study cannot do.
        """

    def check(self) -> None:
        """Whether every training can be told to the engine; no data are read.

        Raises:
            ValueError: settings that the study cannot do.
            OptionError: trainings whose settings do not fit together, all of them.
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
        """The points in stages, each of which begins when the one before it has ended."""
        return [self.points()]

    def carry_out(
        self, point: Point, place: Path, progress: Progress, claim: Claim
    ) -> tuple[dict[str, Any], float | None]:
        """Do one point.

        Args:
            point: what to do.
            place: its run folder.
            progress: where to show it.
            claim: on the point; a search decides what to do by it.

        Returns:
            what was measured, and its accuracy on the validation split; None in its place for a point given up.
        """
        from scmrl.engine.train import train

        run = train(point.experiment(self.base(), place), progress)
        assert run.validation is not None
        return {"seconds": run.seconds, **self.measure(run)}, run.validation.accuracy

    @abstractmethod
    def measure(self, run: Run) -> dict[str, Any]:
        """What the study wants to know of a training that has ended, as JSON holds it."""

    @abstractmethod
    def tabulate(self, results: Results) -> Findings:
        """Tables and plots of the points that are done, which may be some only."""
