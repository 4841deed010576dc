"""`scmrl study ablation`: which part of a fusion is worth what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from scmrl.overlay.faults import did_you_mean
from scmrl.study.points import Point, refuse_twins
from scmrl.study.spec import Results, StudySpec
from snn_fusion.specs import METHODS, CCSSASpec

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.study.statistics import Difference, Summary
    from scmrl.study.tables import Findings


class AblationSpec(StudySpec):
    """Every fusion method against each sense alone, and S-CMRL without each of its parts."""

    kind: ClassVar[str] = "ablation"

    variants: tuple[str, ...] = ()
    """Which variants to compare; none: all."""

    def points(self) -> list[Point]:
        """Every variant with every seed, one seed after the other.

        Raises:
            ValueError: a variant that there is not, or data of one sense only.
        """
        every = self._variants()
        unknown = [name for name in self.variants if name not in every]
        if unknown:
            raise ValueError(
                f"--variants {unknown[0]}: no such variant{did_you_mean(unknown[0], every)}; there are: "
                f"{', '.join(every)}"
            )
        chosen = {name: settings for name, settings in every.items() if not self.variants or name in self.variants}
        points = [Point(name, settings, seed) for seed in self.every_seed for name, settings in chosen.items()]
        refuse_twins(points)
        return points

    def _variants(self) -> dict[str, dict[str, str]]:
        """Options by the name of the variant."""
        senses = self.data.chosen()
        if len(senses) < 2:
            raise ValueError(
                f"an ablation compares ways to fuse senses, but data.modalities is {', '.join(senses) or 'not given'}: "
                "name two or more"
            )
        nothing = {"model.fusion.kind": "none", "model.alignment": "none"}
        found = {f"{sense} alone": {"data.modalities": sense, **nothing} for sense in senses}
        found["add"] = {**nothing, "model.readout.combine": "add"}
        found["concat"] = {**nothing, "model.readout.combine": "concat"}
        for kind, method in METHODS.specs().items():
            if kind not in ("none", "ccssa"):
                rest = {} if method.makes_residuals else {"model.alignment": "none"}
                found[kind] = {"model.fusion.kind": kind, **rest}
        ccssa = {"model.fusion.kind": "ccssa"}
        found["ccssa"] = ccssa
        asked = self.model.fusion.attention if isinstance(self.model.fusion, CCSSASpec) else "spatiotemporal"
        for attention in ("spatial", "temporal", "spatiotemporal"):
            if attention != asked:
                found[f"ccssa {attention}"] = {**ccssa, "model.fusion.attention": attention}
        if self.model.alignment is not None:
            found["ccssa without alignment"] = {**ccssa, "model.alignment": "none"}
        published = {**ccssa, "model.init": "published", "model.fusion.head_merge": "published"}
        found["ccssa as published"] = published
        if self.model.alignment is not None:
            found["ccssa as published without alignment"] = {**published, "model.alignment": "none"}
        return found

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
            "branch fires at",
            "silent layers",
            "lost with alpha 0, points",
            "validation, %",
        )
        table = StudyTable("ablation", f"Ablation on {self.data.card().title}", columns, [row.cells() for row in rows])
        notes = [
            "Mean and standard deviation over seeds. The best other variant is the one with the highest mean among the "
            "rest; the interval draws seeds and test samples anew, p is of the paired t-test over seeds.",
            "The cross-modal branch is all neuron layers of the fusion, on the test split. What is lost with alpha 0 "
            "tells whether a branch that fires is of any use: near 0, the fusion does nothing.",
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

        accuracy, d = Summary.of(list(self.accuracies.values())), self.difference
        return [
            self.variant,
            plus_minus(accuracy, 100),
            str(accuracy.n),
            f"{100 * d.mean:+.1f}" if d else "-",
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f}" if d else "-",
            f"{d.p:.3f}" if d and d.p is not None else "-",
            f"{self.branch_rate.mean:.1%}" if self.branch_rate else "-",
            self.silent,
            plus_minus(self.lost, 100) if self.lost else "-",
            plus_minus(self.validation, 100),
        ]


def plus_minus(summary: Summary, factor: float = 1.0) -> str:
    """Mean and deviation, as in `71.2 ± 0.8`; the mean alone of one number."""
    mean = f"{factor * summary.mean:.1f}"
    return f"{mean} ± {factor * summary.deviation:.1f}" if summary.n > 1 else mean


def _rows(points: list[Point], results: Results) -> list[_Row]:
    from scmrl.study.statistics import Summary, from_bits, paired

    done: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point.key in results:
            done.setdefault(point.variant, {})[point.seed] = results[point.key]
    right = {variant: {seed: from_bits(r["right"]) for seed, r in of.items()} for variant, of in done.items()}
    mean = {variant: Summary.of([float(bits.mean()) for bits in of.values()]).mean for variant, of in right.items()}
    rows: list[_Row] = []
    for variant, of in done.items():
        others = [other for other in done if other != variant and done[other].keys() & of.keys()]
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
