"""`scmrl study noise`: accuracy under disturbances of the inputs."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import field_validator, model_validator

from scmrl.study.points import Point, check_unique_keys
from scmrl.study.spec import StudySpec
from scmrl.study.variants import select_variants

DisturbanceKind = Literal["gaussian", "occlusion", "frame-drop", "event-drop", "missing"]
DISTURBANCE_KINDS: tuple[DisturbanceKind, ...] = get_args(DisturbanceKind)


class NoiseSpec(StudySpec):
    """Accuracy over the strength of disturbances, for each modality and for all of them."""

    kind: ClassVar[str] = "noise"
    selectors: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ("ccssa", "add", "concat")
    """Variants as in `scmrl study ablation`; the first one is compared with the best of the others."""
    disturbances: tuple[DisturbanceKind, ...] = DISTURBANCE_KINDS
    """gaussian: white noise; occlusion: a rectangle or span is blank; frame-drop: time steps are blank; event-drop:
    events are lost; missing: samples lack the modality. Kinds that do not apply to a modality are skipped."""
    snr_db: tuple[float, ...] = (20.0, 10.0, 5.0, 0.0, -5.0, -10.0)
    """Strengths of gaussian: signal-to-noise power ratio of each sample, in dB."""
    fractions: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75, 1.0)
    """Strengths of all others: fraction of the plane, the time steps, the events, the samples."""
    train_noisy: bool = False
    """Also train every variant with gaussian noise on all modalities, drawn between the lowest and the highest snr_db
    for each sample and epoch."""

    @field_validator("snr_db")
    @classmethod
    def _sort_snr(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if not ratios or len(set(ratios)) < len(ratios):
            raise ValueError("must be one or more distinct ratios")
        return tuple(sorted(ratios, reverse=True))

    @field_validator("fractions")
    @classmethod
    def _sort_fractions(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if (
            not fractions
            or len(set(fractions)) < len(fractions)
            or not all(0 < fraction <= 1 for fraction in fractions)
        ):
            raise ValueError("must be one or more distinct fractions above 0, up to 1")
        return tuple(sorted(fractions))

    @field_validator("variants", "disturbances")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("must be one or more distinct names")
        return names

    @model_validator(mode="after")
    def _check_train_noise(self) -> NoiseSpec:
        if self.train.noise_snr_db is not None:
            raise ValueError("train.noise_snr_db is set by the study; use --train_noisy instead")
        return self

    def points(self) -> list[Point]:
        """Return every variant with every seed, trained without noise and, if requested, with noise.

        Raises:
            ValueError: an unknown variant, or data with one modality only.
        """
        selected = select_variants(self, self.variants)
        noise = {"train.noise_snr_db": f"{min(self.snr_db):g},{max(self.snr_db):g}"}
        points = [
            Point(f"{name} trained with noise" if noisy else name, {**settings, **(noise if noisy else {})}, seed)
            for seed in self.all_seeds
            for noisy in (False, True)[: 1 + self.train_noisy]
            for name, settings in selected.items()
        ]
        check_unique_keys(points)
        return points

    def strengths(self, kind: DisturbanceKind) -> tuple[float, ...]:
        """Return the strengths of a kind of disturbance, weakest first."""
        return self.snr_db if kind == "gaussian" else self.fractions
