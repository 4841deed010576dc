"""`scmrl study ablation`: the contribution of each part of a fusion method."""

from __future__ import annotations

from typing import ClassVar

from scmrl.study.points import Point, check_unique_keys
from scmrl.study.spec import StudySpec
from scmrl.study.variants import all_variants, select_variants


class AblationSpec(StudySpec):
    """Every fusion method, each modality alone, and S-CMRL without each of its parts."""

    kind: ClassVar[str] = "ablation"
    selectors: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ()
    """Variants to compare; none: all. Without a value, lists them."""

    def points(self) -> list[Point]:
        """Return every variant with every seed, seed by seed.

        Raises:
            ValueError: an unknown variant, or data with one modality only.
        """
        selected = select_variants(self, self.variants or tuple(all_variants(self)))
        points = [Point(name, settings, seed) for seed in self.all_seeds for name, settings in selected.items()]
        check_unique_keys(points)
        return points
