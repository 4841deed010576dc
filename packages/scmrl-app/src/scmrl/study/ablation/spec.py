"""`scmrl study ablation`: the contribution of each part of a fusion method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from scmrl.study.cells import INTERVAL_NOTE, SELECTED_ON_TEST, difference_cells, plus_minus
from scmrl.study.points import Point, check_unique_keys
from scmrl.study.spec import Results, StudySpec
from scmrl.study.variants import all_variants, select_variants

if TYPE_CHECKING:
    from scmrl.engine.run import Run
    from scmrl.study.statistics import MeanStd, PairedDifference
    from scmrl.study.tables import StudyFindings


RATE, LOSS = "branch firing rate", "loss with alpha 0, points"
"""Columns in which some variants have no value."""


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

    def measure(self, run: Run) -> dict[str, Any]:
        """Return accuracies, correct test samples, and the activity of the cross-modal branch."""
        from scmrl.study.measures import branch_activity, scores

        return {**scores(run), **branch_activity(run)}

    def tabulate(self, results: Results) -> StudyFindings:
        """Make the table of accuracies, differences from the best other variant, and branch activity."""
        from scmrl.study.plots import accuracy_plot
        from scmrl.study.tables import StudyFindings, StudyPlot, StudyTable

        rows = _rows(self.points(), results)
        columns = (
            "variant",
            "test accuracy, %",
            "seeds",
            "vs. best other, points",
            "95 % interval",
            "p",
            RATE,
            "silent layers",
            LOSS,
            "validation, %",
        )
        table = StudyTable("ablation", f"Ablation on {self.data.card().title}", columns, [row.cells() for row in rows])
        notes = [
            "Mean and standard deviation over seeds. The best other variant has the highest mean test accuracy of the "
            f"other variants. {INTERVAL_NOTE}",
            "The cross-modal branch is all neuron layers of the fusion; its rate is on the test split. The loss with "
            "alpha 0 is the accuracy lost when the branch is removed: near 0, the fusion has no effect.",
            *_missing_value_notes(rows),
        ]
        if self.train.selection == "published":
            notes.insert(0, SELECTED_ON_TEST)
        plot = StudyPlot(
            "accuracy",
            "Test accuracy by variant",
            accuracy_plot({row.variant: list(row.accuracies.values()) for row in rows}, "test accuracy, %"),
        )
        return StudyFindings(self.kind, table.title, [table], [plot], notes)


@dataclass(frozen=True, eq=False)
class _VariantRow:
    """One variant over its seeds."""

    variant: str
    accuracies: Mapping[int, float]
    validation: MeanStd
    difference: PairedDifference | None
    branch_rate: MeanStd | None
    silent: str
    loss: MeanStd | None

    def cells(self) -> list[str]:
        """Return the cells of its row."""
        from scmrl.study.statistics import MeanStd

        accuracy = MeanStd.of(list(self.accuracies.values()))
        return [
            self.variant,
            plus_minus(accuracy, 100),
            str(accuracy.n),
            *difference_cells(self.difference),
            f"{self.branch_rate.mean:.1%}" if self.branch_rate else "-",
            self.silent,
            plus_minus(self.loss, 100) if self.loss else "-",
            plus_minus(self.validation, 100),
        ]


def _missing_value_notes(rows: Sequence[_VariantRow]) -> list[str]:
    """Explain the dashes in the table, one sentence for each reason."""
    reasons = {
        f"'{RATE}': the fusion has no neurons": [row.variant for row in rows if row.branch_rate is None],
        f"'{LOSS}': the fusion adds no residual scaled by alpha (methods that do derive from "
        "snn_fusion.methods.residual.ResidualFusion)": [row.variant for row in rows if row.loss is None],
        "'vs. best other': no other variant was tested on the same samples (some samples lack modalities)": [
            row.variant for row in rows if row.difference is None and len(rows) > 1
        ],
    }
    return [f"A dash in {reason}: {', '.join(names)}." for reason, names in reasons.items() if names]


def _rows(points: list[Point], results: Results) -> list[_VariantRow]:
    from scmrl.study.statistics import MeanStd, comparable, paired_difference, unpack_bits

    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point.key in results:
            by_variant.setdefault(point.variant, {})[point.seed] = results[point.key]
    correct = {
        variant: {seed: unpack_bits(r["correct"]) for seed, r in by_seed.items()}
        for variant, by_seed in by_variant.items()
    }
    mean = {
        variant: MeanStd.of([float(bits.mean()) for bits in by_seed.values()]).mean
        for variant, by_seed in correct.items()
    }
    rows: list[_VariantRow] = []
    for variant, by_seed in by_variant.items():
        others = [other for other in by_variant if other != variant and comparable(by_variant[other], by_seed)]
        best = max(others, key=lambda other: mean[other], default=None)
        rates = [r["branch_rate"] for r in by_seed.values() if r["branch_rate"] is not None]
        losses = [
            r["test_accuracy"] - r["alpha_zero_accuracy"]
            for r in by_seed.values()
            if r["alpha_zero_accuracy"] is not None
        ]
        silent = [r["branch_silent"] for r in by_seed.values() if r["branch_silent"] is not None]
        layers = next(iter(by_seed.values()))["branch_layers"]
        rows.append(
            _VariantRow(
                variant,
                {seed: r["test_accuracy"] for seed, r in by_seed.items()},
                MeanStd.of([r["validation_accuracy"] for r in by_seed.values()]),
                None if best is None else paired_difference(correct[variant], correct[best]),
                MeanStd.of(rates) if rates else None,
                f"{sum(silent) / len(silent):.3g} of {layers}" if silent else "-",
                MeanStd.of(losses) if losses else None,
            )
        )
    return rows
