"""Options that all studies share. Imports no PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError
from scmrl.study.points import Point

if TYPE_CHECKING:
    from scmrl.console.progress import Progress
    from scmrl.engine.run import Run
    from scmrl.study.queue.work import Claim
    from scmrl.study.tables import StudyFindings

Results = Mapping[str, Mapping[str, Any]]
"""Measurements by the key of the point."""

EXECUTION_FIELDS = ("out", "resume", "seed", "jobs", "storage", "retry_failed")
"""Fields that change how a study is executed, not its results."""


class StudySpec(Experiment, ABC):
    """Many trainings that answer one question: an experiment, and what to vary in it."""

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

    def run_point(
        self, point: Point, folder: Path, progress: Progress, claim: Claim
    ) -> tuple[dict[str, Any], float | None]:
        """Train one point and measure it.

        Args:
            point: the training.
            folder: its run folder.
            progress: the display.
            claim: the worker's claim on the point; a search uses it to choose settings.

        Returns:
            the measurements, and the validation accuracy, None for a pruned point.
        """
        from scmrl.engine.train import train

        run = train(point.experiment(self.base(), folder), progress)
        assert run.validation is not None
        return {"seconds": run.seconds, **self.measure(run)}, run.validation.accuracy

    @abstractmethod
    def measure(self, run: Run) -> dict[str, Any]:
        """Return the study's measurements of a finished training, as JSON."""

    @abstractmethod
    def tabulate(self, results: Results) -> StudyFindings:
        """Make tables and plots of the finished points, which may be a part of all points."""
