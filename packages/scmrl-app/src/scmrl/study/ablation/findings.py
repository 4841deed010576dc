"""Findings of `scmrl study ablation`: the table of variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scmrl.study.ablation.plots import accuracy_plot
from scmrl.study.ablation.spec import AblationSpec
from scmrl.study.cells import INTERVAL_NOTE, SELECTED_ON_TEST, difference_cells, plus_minus
from scmrl.study.points import Point, Results, group_by_variant
from scmrl.study.statistics import MeanStd, PairedDifference, comparable, paired_difference, unpack_bits
from scmrl.study.tables import StudyFindings, StudyPlot, StudyTable

RATE, LOSS = "branch firing rate", "loss with alpha 0, points"
"""Columns in which some variants have no value."""


def tabulate(spec: AblationSpec, results: Results) -> StudyFindings:
    """Make the table of accuracies, differences from the best other variant, and branch activity."""
    rows = _rows(spec.points(), results)
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
    table = StudyTable("ablation", f"Ablation on {spec.data.card.title}", columns, [row.cells() for row in rows])
    notes = [
        "Mean and standard deviation over seeds. The best other variant has the highest mean test accuracy of the "
        f"other variants. {INTERVAL_NOTE}",
        "The cross-modal branch is all neuron layers of the fusion; its rate is on the test split. The loss with "
        "alpha 0 is the accuracy lost when the branch is removed: near 0, the fusion has no effect.",
        *_missing_value_notes(rows),
    ]
    if spec.train.selection == "test":
        notes.insert(0, SELECTED_ON_TEST)
    plot = StudyPlot(
        "accuracy",
        "Test accuracy by variant",
        accuracy_plot({row.variant: list(row.accuracies.values()) for row in rows}, "test accuracy, %"),
    )
    return StudyFindings(spec.kind, table.title, [table], [plot], notes)


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
    by_variant = group_by_variant(points, results)
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
