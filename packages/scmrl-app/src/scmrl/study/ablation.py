"""`scmrl study ablation`: which part of a fusion is worth what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from scmrl.study.cells import CHANCE, compared, plus_minus
from scmrl.study.points import Point, refuse_twins
from scmrl.study.spec import Results, StudySpec
from scmrl.study.variants import chosen_variants, every_variant

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.study.statistics import Difference, Summary
    from scmrl.study.tables import Findings


RATE, LOST = "branch fires at", "lost with alpha 0, points"
"""Columns in which some variants have no value."""


class AblationSpec(StudySpec):
    """Every fusion method against each sense alone, and S-CMRL without each of its parts."""

    kind: ClassVar[str] = "ablation"
    asked: ClassVar[frozenset[str]] = frozenset({"seeds", "variants"})

    variants: tuple[str, ...] = ()
    """Which variants to compare; none: all. Given without a value, it lists them."""

    def points(self) -> list[Point]:
        """Every variant with every seed, one seed after the other.

        Raises:
            ValueError: a variant that there is not, or data of one sense only.
        """
        chosen = chosen_variants(self, self.variants or tuple(every_variant(self)))
        points = [Point(name, settings, seed) for seed in self.every_seed for name, settings in chosen.items()]
        refuse_twins(points)
        return points

    def measure(self, run: Run) -> dict[str, Any]:
        """Accuracies, which test samples were right, and what the cross-modal branch does."""
        from scmrl.study.measures import branch, scores

        return {**scores(run), **branch(run)}

    def tabulate(self, results: Results) -> Findings:
        """Accuracy of each variant, how it compares with the best other one, and whether its branch does anything."""
        from scmrl.study.plots import accuracy_plot
        from scmrl.study.tables import Findings, StudyPlot, StudyTable

        rows = _rows(self.points(), results)
        columns = (
            "variant",
            "test accuracy, %",
            "seeds",
            "against the best other, points",
            "95 % interval",
            "p",
            RATE,
            "silent layers",
            LOST,
            "validation, %",
        )
        table = StudyTable("ablation", f"Ablation on {self.data.card().title}", columns, [row.cells() for row in rows])
        notes = [
            "Mean and standard deviation over seeds. The best other variant is the one with the highest mean among the "
            f"rest, chosen on the test split. {CHANCE}",
            "The cross-modal branch is all neuron layers of the fusion, on the test split. What is lost with alpha 0 "
            "tells whether a branch that fires is of any use: near 0, the fusion does nothing.",
            *_dashes(rows),
        ]
        if self.train.selection == "published":
            notes.insert(0, "Epochs were selected on the test split, as published: no estimate for new data.")
        plot = StudyPlot(
            "accuracy",
            "Test accuracy by variant",
            accuracy_plot({row.variant: list(row.accuracies.values()) for row in rows}, "test accuracy, %"),
        )
        return Findings(self.kind, table.title, [table], [plot], notes)


@dataclass(frozen=True, eq=False)
class _Row:
    """One variant over its seeds."""

    variant: str
    accuracies: Mapping[int, float]
    validation: Summary
    difference: Difference | None
    branch_rate: Summary | None
    silent: str
    lost: Summary | None

    def cells(self) -> list[str]:
        """As the table shows it."""
        from scmrl.study.statistics import Summary

        accuracy = Summary.of(list(self.accuracies.values()))
        return [
            self.variant,
            plus_minus(accuracy, 100),
            str(accuracy.n),
            *compared(self.difference),
            f"{self.branch_rate.mean:.1%}" if self.branch_rate else "-",
            self.silent,
            plus_minus(self.lost, 100) if self.lost else "-",
            plus_minus(self.validation, 100),
        ]


def _dashes(rows: Sequence[_Row]) -> list[str]:
    """Why there is a dash in place of a number, a sentence for each reason."""
    reasons = {
        f"'{RATE}': nothing in this fusion is a neuron": [row.variant for row in rows if row.branch_rate is None],
        f"'{LOST}': no residual scaled by alpha is added, so there is none to set to 0 (a method has one by deriving "
        "from snn_fusion.methods.residual.ResidualFusion)": [row.variant for row in rows if row.lost is None],
        "'against the best other': no other variant was tested on the same samples (some samples lack modalities)": [
            row.variant for row in rows if row.difference is None and len(rows) > 1
        ],
    }
    return [f"A dash under {reason}: {', '.join(names)}." for reason, names in reasons.items() if names]


def _rows(points: list[Point], results: Results) -> list[_Row]:
    from scmrl.study.statistics import Summary, comparable, from_bits, paired

    done: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point.key in results:
            done.setdefault(point.variant, {})[point.seed] = results[point.key]
    right = {variant: {seed: from_bits(r["right"]) for seed, r in of.items()} for variant, of in done.items()}
    mean = {variant: Summary.of([float(bits.mean()) for bits in of.values()]).mean for variant, of in right.items()}
    rows: list[_Row] = []
    for variant, of in done.items():
        others = [other for other in done if other != variant and comparable(done[other], of)]
        best = max(others, key=lambda other: mean[other], default=None)
        rates = [r["branch_rate"] for r in of.values() if r["branch_rate"] is not None]
        lost = [
            r["test_accuracy"] - r["alpha_zero_accuracy"] for r in of.values() if r["alpha_zero_accuracy"] is not None
        ]
        silent = [r["branch_silent"] for r in of.values() if r["branch_silent"] is not None]
        layers = next(iter(of.values()))["branch_layers"]
        rows.append(
            _Row(
                variant,
                {seed: r["test_accuracy"] for seed, r in of.items()},
                Summary.of([r["validation_accuracy"] for r in of.values()]),
                None if best is None else paired(right[variant], right[best]),
                Summary.of(rates) if rates else None,
                f"{sum(silent) / len(silent):.3g} of {layers}" if silent else "-",
                Summary.of(lost) if lost else None,
            )
        )
    return rows
