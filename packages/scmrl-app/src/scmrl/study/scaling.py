"""`scmrl study scaling`: accuracy and cost against the number of training samples and of senses."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from scmrl.experiment import PLENTY
from scmrl.study.points import Point, refuse_twins
from scmrl.study.spec import Results, StudySpec
from scmrl.study.variants import ALONE, Options, chosen_variants

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.study.tables import Findings


class ScalingSpec(StudySpec):
    """Accuracy and cost against the number of training samples and of senses."""

    kind: ClassVar[str] = "scaling"
    asked: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ("ccssa",)
    """Ways to fuse two senses or more, as `scmrl study ablation` names them."""
    fractions: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    """Shares of the training samples to train on, the same of every class; each seed draws its own, and a smaller share
    is part of a larger one."""
    every_subset: bool = False
    """Try every combination of senses; otherwise the first of data.modalities, the first two, and so on."""
    budget: Literal["steps", "epochs"] = "steps"
    """What stays the same with fewer samples. steps: the optimizer steps, so train.epochs, warmup_epochs and patience
    grow as the share shrinks; epochs: the passes over the samples, so fewer samples also train for less time. Where
    these options are auto, they are 20 epochs of batches of 32, 2 of them warm-up, for all of the samples."""

    @field_validator("fractions")
    @classmethod
    def _small_first(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if not fractions or len(set(fractions)) < len(fractions) or not all(0 < share <= 1 for share in fractions):
            raise ValueError("give one or more different shares above 0, up to 1")
        return tuple(sorted(fractions))

    @model_validator(mode="after")
    def _whole(self) -> ScalingSpec:
        if self.train.share != 1:
            raise ValueError("train.share is what the study varies; give --fractions instead")
        return self

    def points(self) -> list[Point]:
        """Every share of the samples with every choice of senses, every way to fuse them, and every seed.

        Raises:
            ValueError: a variant that there is not or that fuses nothing, or data whose senses are not known.
        """
        rows = self.rows()
        points = [self.point(row, share, seed) for seed in self.every_seed for share in self.fractions for row in rows]
        refuse_twins(points)
        return points

    def point(self, row: str, fraction: float, seed: int) -> Point:
        """The training of a row of the tables on a share of the samples."""
        _, settings = self.rows()[row]
        return Point(f"{row} {100 * fraction:g}%", {**settings, **self._budget(fraction)}, seed)

    def subsets(self) -> list[tuple[str, ...]]:
        """The choices of senses, the smallest first.

        Raises:
            ValueError: only the files know the senses.
        """
        senses = self.data.selected_modalities()
        if not senses:
            raise ValueError("the study goes from one sense to several, but data.modalities is not given: name them")
        if not self.every_subset:
            return [senses[:size] for size in range(1, len(senses) + 1)]
        return [subset for size in range(1, len(senses) + 1) for subset in combinations(senses, size)]

    def rows(self) -> dict[str, tuple[tuple[str, ...], Options]]:
        """Senses and options by the name of a row of the tables: each choice of senses with each way to fuse them.

        Raises:
            ValueError: as `points` says.
        """
        subsets = self.subsets()
        ways = chosen_variants(self, self.variants) if len(subsets[-1]) > 1 else {}
        for name, settings in ways.items():
            if "data.modalities" in settings:
                raise ValueError(f"--variants {name}: single senses are part of the study anyway; name ways to fuse")
        found: dict[str, tuple[tuple[str, ...], Options]] = {}
        for subset in subsets:
            read = {"data.modalities": ",".join(subset)}
            if len(subset) == 1:
                found[f"{subset[0]} alone"] = subset, {**read, **ALONE}
            else:
                found |= {f"{name} {'+'.join(subset)}": (subset, {**read, **way}) for name, way in ways.items()}
        return found

    def _budget(self, fraction: float) -> Options:
        """Options of a share of the samples."""
        train = self.train
        # Shares differ in their samples alone, so `auto` means the same for all.
        whole = train.schedule(PLENTY)
        options = {"train.share": f"{fraction:.17g}", "train.batch_size": str(whole.batch_size)}
        options |= {"train.epochs": str(whole.epochs), "train.warmup_epochs": f"{whole.warmup_epochs:.17g}"}
        if self.budget == "steps":
            options["train.epochs"] = str(round(whole.epochs / fraction))
            options["train.warmup_epochs"] = f"{whole.warmup_epochs / fraction:.17g}"
            if train.patience is not None:
                options["train.patience"] = str(round(train.patience / fraction))
        return options

    def measure(self, run: Run) -> dict[str, Any]:
        """Accuracies, how much was trained, and what a sample costs."""
        from scmrl.study.cost import cost
        from scmrl.study.measures import scores

        return {
            **scores(run),
            "senses": list(run.splits.info.modalities),
            "samples": len(run.splits.train),
            "steps": run.position.step,
            **cost(run),
        }

    def tabulate(self, results: Results) -> Findings:
        """Accuracy by share and senses, what each further sense brings, and what it costs."""
        from scmrl.study.growth import findings

        return findings(self, results)
