"""`scmrl study noise`: what accuracy is left when senses are disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import field_validator, model_validator

from scmrl.study.points import Point, refuse_twins
from scmrl.study.spec import Results, StudySpec
from scmrl.study.variants import chosen_variants

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.study.tables import Findings

Kind = Literal["gaussian", "occlusion", "frame-drop", "event-drop", "missing"]
"""What can happen to a sense."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class NoiseSpec(StudySpec):
    """Accuracy against the strength of disturbances, on each sense and on all of them."""

    kind: ClassVar[str] = "noise"
    asked: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ("ccssa", "add", "concat")
    """Ways to fuse, as `scmrl study ablation` names them; the first one is compared with the best of the others."""
    disturbances: tuple[Kind, ...] = KINDS
    """gaussian: white noise; occlusion: a rectangle or span is blank; frame-drop: time steps are blank; event-drop:
    events are lost; missing: samples lack the sense. Those that do not apply to a sense are left out."""
    snr_db: tuple[float, ...] = (20.0, 10.0, 5.0, 0.0, -5.0, -10.0)
    """Strengths of gaussian: power of a sample over power of its noise, in dB."""
    shares: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75, 1.0)
    """Strengths of all others: share of the plane, the time steps, the events, the samples."""
    train_noisy: bool = False
    """Train every variant a second time with gaussian noise on all senses, drawn between the lowest and the highest of
    snr_db for each sample and epoch."""

    @field_validator("snr_db")
    @classmethod
    def _weak_first(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if not ratios or len(set(ratios)) < len(ratios):
            raise ValueError("give one or more different ratios")
        return tuple(sorted(ratios, reverse=True))

    @field_validator("shares")
    @classmethod
    def _few_first(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not shares or len(set(shares)) < len(shares) or not all(0 < share <= 1 for share in shares):
            raise ValueError("give one or more different shares above 0, up to 1")
        return tuple(sorted(shares))

    @field_validator("variants", "disturbances")
    @classmethod
    def _some(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("give one or more different names")
        return names

    @model_validator(mode="after")
    def _trained_clean(self) -> NoiseSpec:
        if self.train.noise_snr_db is not None:
            raise ValueError("train.noise_snr_db is what the study decides; ask for --train_noisy instead")
        return self

    def points(self) -> list[Point]:
        """Every variant with every seed, trained without noise and, if asked for, with it.

        Raises:
            ValueError: a variant that there is not, or data of one sense only.
        """
        chosen = chosen_variants(self, self.variants)
        noise = {"train.noise_snr_db": f"{min(self.snr_db):g},{max(self.snr_db):g}"}
        points = [
            Point(f"{name} trained with noise" if noisy else name, {**settings, **(noise if noisy else {})}, seed)
            for seed in self.every_seed
            for noisy in (False, True)[: 1 + self.train_noisy]
            for name, settings in chosen.items()
        ]
        refuse_twins(points)
        return points

    def strengths(self, kind: Kind) -> tuple[float, ...]:
        """Of a kind of disturbance, from weak to strong."""
        return self.snr_db if kind == "gaussian" else self.shares

    def measure(self, run: Run) -> dict[str, Any]:
        """Accuracies, and which test samples are right, undisturbed and under each disturbance."""
        from scmrl.study.disturb import under_disturbance
        from scmrl.study.measures import scores

        labels = run.splits.test.labels
        every: dict[Kind, tuple[float, ...]] = {kind: self.strengths(kind) for kind in self.disturbances}
        return {
            **scores(run),
            "senses": list(run.splits.info.modalities),
            "most_frequent": max(labels.count(label) for label in set(labels)) / len(labels),
            "disturbed": under_disturbance(run, every, seed=self.data.seed),
        }

    def tabulate(self, results: Results) -> Findings:
        """Areas under the curves, the first variant against the best other one, a table a curve, a plot a kind."""
        from scmrl.study.robustness import findings

        return findings(self, results)
