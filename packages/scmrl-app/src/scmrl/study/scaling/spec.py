"""`scmrl study scaling`: accuracy and cost over the number of training samples and of modalities."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from scmrl.config.experiment import MANY_SAMPLES
from scmrl.study.points import Point, check_unique_keys
from scmrl.study.spec import StudySpec
from scmrl.study.variants import UNIMODAL, VariantOptions, select_variants


class ScalingSpec(StudySpec):
    """Accuracy and cost over the number of training samples and of modalities."""

    kind: ClassVar[str] = "scaling"
    selectors: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ("ccssa",)
    """Variants for two or more modalities, as in `scmrl study ablation`."""
    fractions: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    """Fractions of the training samples to train on, stratified by class; each seed draws different samples, and a
    smaller fraction is a subset of a larger one."""
    every_subset: bool = False
    """Try every combination of modalities; otherwise the first of data.modalities, the first two, and so on."""
    budget: Literal["steps", "epochs"] = "steps"
    """What stays the same with fewer samples. steps: the optimizer steps, so train.epochs, warmup_epochs and patience
    grow as the fraction shrinks; epochs: the passes over the samples, so fewer samples also train for less time. Where
    these options are auto, they are 20 epochs of batches of 32, 2 of them warm-up, for all of the samples."""

    @field_validator("fractions")
    @classmethod
    def _sort_fractions(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if not fractions or len(set(fractions)) < len(fractions) or not all(0 < x <= 1 for x in fractions):
            raise ValueError("must be one or more distinct fractions above 0, up to 1")
        return tuple(sorted(fractions))

    @model_validator(mode="after")
    def _check_share(self) -> ScalingSpec:
        if self.train.fraction != 1:
            raise ValueError("train.fraction is varied by the study; use --fractions instead")
        return self

    def points(self) -> list[Point]:
        """Return every fraction of the samples with every subset of modalities, every variant and every seed.

        Raises:
            ValueError: an unknown variant or one that fuses nothing, or data with unknown modalities.
        """
        rows = self.rows()
        points = [
            self.point(row, fraction, seed) for seed in self.all_seeds for fraction in self.fractions for row in rows
        ]
        check_unique_keys(points)
        return points

    def point(self, row: str, fraction: float, seed: int) -> Point:
        """Return the training of a row of the tables on a fraction of the samples."""
        _, settings = self.rows()[row]
        return Point(f"{row} {100 * fraction:g}%", {**settings, **self._budget(fraction)}, seed)

    def subsets(self) -> list[tuple[str, ...]]:
        """Return the subsets of modalities, smallest first.

        Raises:
            ValueError: the modalities are known only from the files.
        """
        modalities = self.data.selected_modalities()
        if not modalities:
            raise ValueError("the study needs data.modalities, which is not set: name the modalities")
        if not self.every_subset:
            return [modalities[:size] for size in range(1, len(modalities) + 1)]
        return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]

    def rows(self) -> dict[str, tuple[tuple[str, ...], VariantOptions]]:
        """Return modalities and options by the name of a table row: each subset of modalities with each variant.

        Raises:
            ValueError: as in `points`.
        """
        subsets = self.subsets()
        variants = select_variants(self, self.variants) if len(subsets[-1]) > 1 else {}
        for name, settings in variants.items():
            if "data.modalities" in settings:
                raise ValueError(f"--variants {name}: single modalities are always included; name fusion methods")
        rows: dict[str, tuple[tuple[str, ...], VariantOptions]] = {}
        for subset in subsets:
            data = {"data.modalities": ",".join(subset)}
            if len(subset) == 1:
                rows[f"{subset[0]} alone"] = subset, {**data, **UNIMODAL}
            else:
                rows |= {
                    f"{name} {'+'.join(subset)}": (subset, {**data, **settings}) for name, settings in variants.items()
                }
        return rows

    def _budget(self, fraction: float) -> VariantOptions:
        """Return the training options of a fraction of the samples."""
        train = self.train
        # Fractions differ in their samples only, so `auto` means the same for all of them.
        schedule = train.schedule(MANY_SAMPLES)
        options = {"train.fraction": f"{fraction:.17g}", "train.batch_size": str(schedule.batch_size)}
        options |= {"train.epochs": str(schedule.epochs), "train.warmup_epochs": f"{schedule.warmup_epochs:.17g}"}
        if self.budget == "steps":
            options["train.epochs"] = str(round(schedule.epochs / fraction))
            options["train.warmup_epochs"] = f"{schedule.warmup_epochs / fraction:.17g}"
            if train.patience is not None:
                options["train.patience"] = str(round(train.patience / fraction))
        return options
