"""Findings of `scmrl study noise`: tables and plots of the samples that stay correct under disturbances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmrl.plots.curves import Curve, Panel, curves_plot
from scmrl.study.cells import DIFFERENCE_COLUMNS, INTERVAL_NOTE, SELECTED_ON_TEST, difference_cells, plus_minus
from scmrl.study.noise.spec import DisturbanceKind, NoiseSpec
from scmrl.study.points import Results, group_by_variant, slug
from scmrl.study.statistics import Float64Array, MeanStd, comparable, paired_difference, unpack_bits
from scmrl.study.tables import StudyFindings, StudyPlot, StudyTable

DESCRIPTIONS: Mapping[DisturbanceKind, tuple[str, str, str]] = {
    "gaussian": (
        "Gaussian noise",
        "signal-to-noise ratio, dB",
        "Gaussian noise is white and is added to the model's input. Its ratio in dB is the power of each sample of a "
        "modality (mean square over channels, positions and time steps) over the power of its noise.",
    ),
    "occlusion": (
        "Occlusion",
        "fraction of the plane, %",
        "Occlusion sets a rectangle with the plane's proportions, or a span of a series, to 0. Its position is random, "
        "the same in all channels and time steps; its strength is the fraction of the area.",
    ),
    "frame-drop": (
        "Frame drop",
        "fraction of the time steps, %",
        "Frame drop sets a whole number of time steps to 0, in modalities with time.",
    ),
    "event-drop": (
        "Event drop",
        "fraction of the events, %",
        "Event drop loses each event with the same probability (binomial thinning of counts), in modalities of event "
        "counts.",
    ),
    "missing": (
        "Missing modality",
        "fraction of the samples, %",
        "Missing removes a modality from this fraction of the test samples and marks it as absent; a model of that "
        "modality alone then predicts the first class.",
    ),
}
"""Name, axis label and description of each kind."""
ALL = "all"
"""In the column of strengths: the mean over all of them."""


@dataclass(frozen=True)
class Target:
    """One kind of disturbance on some modalities: one curve for each variant."""

    kind: DisturbanceKind
    modalities: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{DESCRIPTIONS[self.kind][0]}: {self.modality_names}"

    @property
    def modality_names(self) -> str:
        """The names of the modalities."""
        return " + ".join(self.modalities)


Correct = dict[str, dict[int, Float64Array]]
"""By variant and seed, which test samples are correct: undisturbed, then at each strength [1 + S, N]."""


def tabulate(spec: NoiseSpec, results: Results) -> StudyFindings:
    """Make all tables and plots of the finished points."""
    correct = correct_by_target(spec, results)
    variants = list(dict.fromkeys(point.variant for point in spec.points() if point.key in results))
    overview = StudyTable(
        "area",
        "Mean accuracy over the strengths, %",
        ("disturbed", *variants),
        [
            ["nothing", *_cells(undisturbed(spec, results), variants)],
            *([target.name, *_cells(area_means(spec, target, of), variants)] for target, of in correct.items()),
        ],
    )
    title = f"{spec.variants[0]} against the best other variant"
    columns = ("disturbed", "strength", "trained", "accuracy, %", "best other", "its accuracy, %", *DIFFERENCE_COLUMNS)
    comparison = _comparison(spec, correct, results)
    means = StudyTable(
        "comparison", f"{title}, mean over the strengths", columns, [row for row in comparison if row[1] == ALL]
    )
    by_strength = StudyTable(
        "strengths", f"{title}, at each strength", columns, [row for row in comparison if row[1] != ALL]
    )
    tables = [overview, means]
    for target, of in correct.items():
        strengths = [_format_strength(target.kind, strength) for strength in spec.strengths(target.kind)]
        rows = [[v, *(plus_minus(_mean(of[v], row), 100) for row in range(len(strengths) + 1))] for v in variants]
        name, title = slug(f"{target.kind} {target.modality_names}"), f"Accuracy in %: {target.name}"
        tables.append(StudyTable(name, title, ("variant", "undisturbed", *strengths), rows))
    plots = [_plot(spec, kind, correct, results) for kind in spec.disturbances if any(t.kind == kind for t in correct)]
    return StudyFindings(
        spec.kind,
        f"Robustness on {spec.data.card.title}",
        [table for table in (*tables, by_strength) if table.rows],
        plots,
        _notes(spec, correct),
    )


def correct_by_target(spec: NoiseSpec, results: Results) -> dict[Target, Correct]:
    """Return which samples stay correct, by target, in the order of disturbances and modalities.

    A model that does not use a modality is unaffected by its disturbance.
    """
    measured = [
        (point, results[point.key], _by_strength(results[point.key])) for point in spec.points() if point.key in results
    ]
    targets = {Target(kind, modalities) for _, _, by_strength in measured for kind, modalities, _ in by_strength}
    order = spec.data.selected_modalities()

    def sort_key(target: Target) -> tuple[int, int, list[int]]:
        indices = [order.index(name) for name in target.modalities]
        return spec.disturbances.index(target.kind), len(target.modalities), indices

    correct: dict[Target, Correct] = {}
    for target in sorted(targets, key=sort_key):
        of = correct.setdefault(target, {})
        for point, result, by_strength in measured:
            used = tuple(name for name in target.modalities if name in result["modalities"])
            rows = [unpack_bits(result["correct"])]
            for strength in spec.strengths(target.kind):
                rows.append(unpack_bits(by_strength[target.kind, used, strength] if used else result["correct"]))
            of.setdefault(point.variant, {})[point.seed] = np.stack(rows)
    return correct


def area_weights(kind: DisturbanceKind, strengths: Sequence[float]) -> Float64Array:
    """Return the weight of each strength in the mean accuracy over them [1 + S]; the first is undisturbed.

    Trapezoidal rule over the strengths, divided by their range. Fractions start at 0, which is undisturbed; ratios in
    dB have no such end, and a single one has weight 1.
    """
    x = np.asarray(strengths if kind == "gaussian" else [0.0, *strengths], np.float64)
    weights = np.ones(1)
    if len(x) > 1:
        steps = np.abs(np.diff(x)) / abs(x[-1] - x[0])
        weights = (np.append(steps, 0.0) + np.append(0.0, steps)) / 2
    return np.append(0.0, weights) if kind == "gaussian" else weights


def area_means(spec: NoiseSpec, target: Target, of: Correct) -> Correct:
    """Return, for each sample, the weighted fraction of strengths at which it is correct [1, N]."""
    weights = area_weights(target.kind, spec.strengths(target.kind))
    return {variant: {seed: (weights @ rows)[None] for seed, rows in seeds.items()} for variant, seeds in of.items()}


def undisturbed(spec: NoiseSpec, results: Results) -> Correct:
    """Return which undisturbed test samples are correct [1, N], by variant and seed."""
    return {
        variant: {seed: unpack_bits(result["correct"])[None] for seed, result in by_seed.items()}
        for variant, by_seed in group_by_variant(spec.points(), results).items()
    }


def _by_strength(result: Mapping[str, Any]) -> dict[tuple[DisturbanceKind, tuple[str, ...], float], str]:
    return {
        (each["kind"], tuple(each["modalities"]), each["strength"]): each["correct"] for each in result["disturbed"]
    }


def _mean(seeds: Mapping[int, Float64Array], row: int = 0) -> MeanStd:
    return MeanStd.of([float(rows[row].mean()) for rows in seeds.values()])


def _cells(of: Correct, variants: Sequence[str]) -> list[str]:
    return [plus_minus(_mean(of[variant]), 100) for variant in variants]


def _format_strength(kind: DisturbanceKind, strength: float) -> str:
    return f"{strength:g} dB" if kind == "gaussian" else f"{100 * strength:g} %"


def _comparison(spec: NoiseSpec, correct: Mapping[Target, Correct], results: Results) -> list[list[str]]:
    """Compare the first variant with the best other one at each strength, both trained the same way."""
    rows: list[list[str]] = []
    measured = group_by_variant(spec.points(), results)
    for target, of in correct.items():
        strengths = spec.strengths(target.kind)
        conditions = [
            *((_format_strength(target.kind, strength), _row(of, row)) for row, strength in enumerate(strengths, 1)),
            (ALL, area_means(spec, target, of)),
        ]
        for noisy in ("", " trained with noise"):
            for strength, values in conditions:
                first = values.get(spec.variants[0] + noisy)
                others = {name: values[name + noisy] for name in spec.variants[1:] if name + noisy in values}
                others = {
                    name: seeds
                    for name, seeds in others.items()
                    if first and comparable(measured[spec.variants[0] + noisy], measured[name + noisy])
                }
                if first is None or not others:
                    continue
                best = max(others, key=lambda name: _mean(others[name]).mean)
                one, other = ({seed: v[0] for seed, v in seeds.items()} for seeds in (first, others[best]))
                rows.append(
                    [
                        target.name,
                        strength,
                        "with noise" if noisy else "without",
                        plus_minus(_mean(first), 100),
                        best,
                        plus_minus(_mean(others[best]), 100),
                        *difference_cells(paired_difference(one, other)),
                    ]
                )
    return rows


def _row(of: Correct, row: int) -> Correct:
    return {variant: {seed: rows[row : row + 1] for seed, rows in seeds.items()} for variant, seeds in of.items()}


def _plot(spec: NoiseSpec, kind: DisturbanceKind, correct: Mapping[Target, Correct], results: Results) -> StudyPlot:
    """Draw a panel for each target of a kind, a curve for each variant, dashed if trained with noise."""
    in_decibels = kind == "gaussian"
    factor = 1 if in_decibels else 100
    strengths = [factor * strength for strength in spec.strengths(kind)]
    # No noise is an infinite ratio: it is drawn one step before the weakest noise, detached.
    step = max(1.0, (strengths[0] - strengths[-1]) / 8) if in_decibels else 0.0
    x = [strengths[0] + step if in_decibels else 0.0, *strengths]
    panels = [
        Panel(
            f"{DESCRIPTIONS[kind][0]}: {target.modality_names}",
            [
                Curve(
                    variant,
                    x,
                    [rows.mean(1) for rows in of[variant].values()],
                    color=spec.variants.index(variant.removesuffix(" trained with noise")),
                    dashed=variant.endswith(" trained with noise"),
                    detached_first=in_decibels,
                )
                for variant in of
            ],
        )
        for target, of in correct.items()
        if target.kind == kind
    ]
    chance = next(iter(results.values()))["most_frequent"]
    ticks = {x[0]: "clean", **{value: f"{value:g}" for value in strengths}}
    name, label, _ = DESCRIPTIONS[kind]
    figure = curves_plot(
        panels, label, ticks=ticks, reverse=in_decibels, chance=chance, columns=2 if len(panels) == 4 else 3
    )
    return StudyPlot(kind, f"Test accuracy under {name[0].lower()}{name[1:]}", figure)


def _notes(spec: NoiseSpec, correct: Mapping[Target, Correct]) -> list[str]:
    kinds = {target.kind for target in correct}
    skipped = [kind for kind in spec.disturbances if kind not in kinds]
    notes = [
        "Mean and standard deviation over seeds, on the test split. Disturbances depend on the data seed and the "
        "sample only: they are the same for every variant and training seed, and a stronger one includes a weaker "
        "one. They are applied to the model's inputs, after all preprocessing.",
        "The mean accuracy over the strengths is the area under the curve (trapezoidal rule) over its width, from 0 on "
        "for fractions.",
        "The best other variant has the highest mean test accuracy at that strength, which is the hardest comparison "
        f"for {spec.variants[0]}. {INTERVAL_NOTE}",
        *(DESCRIPTIONS[kind][2] for kind in spec.disturbances if kind in kinds),
    ]
    if spec.train_noisy:
        notes.append(
            f"Trained with noise: Gaussian noise on every modality between {min(spec.snr_db):g} and "
            f"{max(spec.snr_db):g} dB, drawn for each sample and epoch. Epochs are still selected on undisturbed "
            "samples."
        )
    if skipped:
        notes.append(f"Skipped, because they apply to none of the modalities: {', '.join(skipped)}.")
    if spec.train.selection == "test":
        notes.insert(0, SELECTED_ON_TEST)
    return notes
