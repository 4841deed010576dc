"""From which samples stay right under disturbances to tables and plots: what `scmrl study noise` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmrl.study.cells import CHANCE, COMPARED, compared, plus_minus
from scmrl.study.noise import Kind, NoiseSpec
from scmrl.study.plots_curves import Curve, Panel, curves_plot
from scmrl.study.points import slug
from scmrl.study.spec import Results
from scmrl.study.statistics import Floats, Summary, comparable, from_bits, paired
from scmrl.study.tables import Findings, StudyPlot, StudyTable

WORDS: Mapping[Kind, tuple[str, str, str]] = {
    "gaussian": (
        "Gaussian noise",
        "signal-to-noise ratio, dB",
        "Gaussian noise is white and added to what the model gets. Its ratio in dB is the power of each sample of a "
        "sense (mean square over channels, places and time steps) over the power of its noise.",
    ),
    "occlusion": (
        "Occlusion",
        "share of the plane, %",
        "Occlusion sets a rectangle of the plane's proportions to 0, or a span of a series, at a random place, the "
        "same in all channels and time steps; its share is that of the area.",
    ),
    "frame-drop": (
        "Frame drop",
        "share of the time steps, %",
        "Frame drop sets time steps to 0, a whole number of them, of senses that have time.",
    ),
    "event-drop": (
        "Event drop",
        "share of the events, %",
        "Event drop loses each event with the same chance (binomial thinning of counts), of senses that count events.",
    ),
    "missing": (
        "Missing sense",
        "share of the samples, %",
        "Missing takes a sense away from so many of the test samples, with the model told that it is absent; a model "
        "of that sense alone then says the first class.",
    ),
}
"""By kind: its name, its axis, and what it is."""
ALL = "all"
"""In the place of a strength."""


@dataclass(frozen=True)
class Target:
    """One kind of disturbance on some senses: one curve of each variant."""

    kind: Kind
    modalities: tuple[str, ...]

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{WORDS[self.kind][0]}: {self.senses}"

    @property
    def senses(self) -> str:
        """The senses alone."""
        return " + ".join(self.modalities)


Right = dict[str, dict[int, Floats]]
"""By variant and seed, which test samples were right: first undisturbed, then at each strength [1 + S, N]."""


def findings(spec: NoiseSpec, results: Results) -> Findings:
    """Everything there is to tell of the points that are done."""
    right = curves(spec, results)
    present = list(dict.fromkeys(point.variant for point in spec.points() if point.key in results))
    overview = StudyTable(
        "area",
        "Mean accuracy over the strengths, %",
        ("disturbed", *present),
        [
            ["nothing", *_cells(clean(spec, results), present)],
            *([target.name, *_cells(areas(spec, target, of), present)] for target, of in right.items()),
        ],
    )
    title = f"{spec.variants[0]} against the best other variant"
    columns = ("disturbed", "strength", "trained", "accuracy, %", "best other", "its accuracy, %", *COMPARED)
    compared_rows = _comparison(spec, right, results)
    means = StudyTable(
        "comparison", f"{title}, mean over the strengths", columns, [r for r in compared_rows if r[1] == ALL]
    )
    by_strength = StudyTable(
        "strengths", f"{title}, at each strength", columns, [r for r in compared_rows if r[1] != ALL]
    )
    tables = [overview, means]
    for target, of in right.items():
        strengths = [_strength(target.kind, strength) for strength in spec.strengths(target.kind)]
        rows = [[v, *(plus_minus(_mean(of[v], row), 100) for row in range(len(strengths) + 1))] for v in present]
        name, title = slug(f"{target.kind} {target.senses}"), f"Accuracy in %: {target.name}"
        tables.append(StudyTable(name, title, ("variant", "undisturbed", *strengths), rows))
    plots = [_plot(spec, kind, right, results) for kind in spec.disturbances if any(t.kind == kind for t in right)]
    return Findings(
        spec.kind,
        f"Robustness on {spec.data.card().title}",
        [table for table in (*tables, by_strength) if table.rows],
        plots,
        _notes(spec, right),
    )


def curves(spec: NoiseSpec, results: Results) -> dict[Target, Right]:
    """What stayed right, by what was disturbed, in the order of the disturbances and senses.

    A model that does not read a sense is not disturbed by what happens to it.
    """
    done = [(point, results[point.key]) for point in spec.points() if point.key in results]
    measured = [(point, result, _by_strength(result)) for point, result in done]
    every = {Target(kind, modalities) for _, _, by_strength in measured for kind, modalities, _ in by_strength}
    order = spec.data.selected_modalities()
    found: dict[Target, Right] = {}
    for target in sorted(every, key=lambda t: (spec.disturbances.index(t.kind), len(t.modalities), _places(t, order))):
        of = found.setdefault(target, {})
        for point, result, by_strength in measured:
            read = tuple(name for name in target.modalities if name in result["senses"])
            rows = [from_bits(result["right"])]
            for strength in spec.strengths(target.kind):
                rows.append(from_bits(by_strength[target.kind, read, strength] if read else result["right"]))
            of.setdefault(point.variant, {})[point.seed] = np.stack(rows)
    return found


def area_weights(kind: Kind, strengths: Sequence[float]) -> Floats:
    """How much each strength counts in the mean accuracy over them [1 + S]; the first is undisturbed.

    The trapezoidal rule over the strengths, divided by their range. Shares begin with 0, which is undisturbed; ratios
    in dB have no such end, and one alone counts whole.
    """
    x = np.asarray(strengths if kind == "gaussian" else [0.0, *strengths], np.float64)
    weights = np.ones(1)
    if len(x) > 1:
        steps = np.abs(np.diff(x)) / abs(x[-1] - x[0])
        weights = (np.append(steps, 0.0) + np.append(0.0, steps)) / 2
    return np.append(0.0, weights) if kind == "gaussian" else weights


def areas(spec: NoiseSpec, target: Target, of: Right) -> Right:
    """Per sample, the share of the strengths at which it is right [1, N], by variant and seed."""
    weights = area_weights(target.kind, spec.strengths(target.kind))
    return {variant: {seed: (weights @ rows)[None] for seed, rows in seeds.items()} for variant, seeds in of.items()}


def clean(spec: NoiseSpec, results: Results) -> Right:
    """Which test samples are right undisturbed [1, N], by variant and seed."""
    found: Right = {}
    for point in spec.points():
        if point.key in results:
            found.setdefault(point.variant, {})[point.seed] = from_bits(results[point.key]["right"])[None]
    return found


def _by_strength(result: Mapping[str, Any]) -> dict[tuple[Kind, tuple[str, ...], float], str]:
    return {(one["kind"], tuple(one["modalities"]), one["strength"]): one["right"] for one in result["disturbed"]}


def _places(target: Target, order: Sequence[str]) -> list[int]:
    return [order.index(name) for name in target.modalities]


def _mean(seeds: Mapping[int, Floats], row: int = 0) -> Summary:
    return Summary.of([float(rows[row].mean()) for rows in seeds.values()])


def _cells(of: Right, variants: Sequence[str]) -> list[str]:
    return [plus_minus(_mean(of[variant]), 100) for variant in variants]


def _strength(kind: Kind, strength: float) -> str:
    return f"{strength:g} dB" if kind == "gaussian" else f"{100 * strength:g} %"


def _comparison(spec: NoiseSpec, right: Mapping[Target, Right], results: Results) -> list[list[str]]:
    """The first variant against the one of the others that is best there, both trained alike."""
    rows: list[list[str]] = []
    measured: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in spec.points():
        if point.key in results:
            measured.setdefault(point.variant, {})[point.seed] = results[point.key]
    for target, of in right.items():
        strengths = spec.strengths(target.kind)
        each = [
            *((_strength(target.kind, s), _row(of, place)) for place, s in enumerate(strengths, 1)),
            (ALL, areas(spec, target, of)),
        ]
        for noisy in ("", " trained with noise"):
            for strength, values in each:
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
                        *compared(paired(one, other)),
                    ]
                )
    return rows


def _row(of: Right, place: int) -> Right:
    return {variant: {seed: rows[place : place + 1] for seed, rows in seeds.items()} for variant, seeds in of.items()}


def _plot(spec: NoiseSpec, kind: Kind, right: Mapping[Target, Right], results: Results) -> StudyPlot:
    """A panel for each target of a kind, a curve for each variant, dashed where it was trained with noise."""
    decibels = kind == "gaussian"
    factor = 1 if decibels else 100
    strengths = [factor * strength for strength in spec.strengths(kind)]
    # No noise is an infinite ratio: it stands a step before the weakest, apart.
    step = max(1.0, (strengths[0] - strengths[-1]) / 8) if decibels else 0.0
    x = [strengths[0] + step if decibels else 0.0, *strengths]
    panels = [
        Panel(
            f"{WORDS[kind][0]}: {target.senses}",
            [
                Curve(
                    variant,
                    x,
                    [rows.mean(1) for rows in of[variant].values()],
                    color=spec.variants.index(variant.removesuffix(" trained with noise")),
                    dashed=variant.endswith(" trained with noise"),
                    apart=decibels,
                )
                for variant in of
            ],
        )
        for target, of in right.items()
        if target.kind == kind
    ]
    chance = next(iter(results.values()))["most_frequent"]
    ticks = {x[0]: "clean", **{value: f"{value:g}" for value in strengths}}
    figure = curves_plot(
        panels, WORDS[kind][1], ticks=ticks, reverse=decibels, chance=chance, columns=2 if len(panels) == 4 else 3
    )
    return StudyPlot(kind, f"Test accuracy under {WORDS[kind][0][0].lower()}{WORDS[kind][0][1:]}", figure)


def _notes(spec: NoiseSpec, right: Mapping[Target, Right]) -> list[str]:
    kinds = {target.kind for target in right}
    left_out = [kind for kind in spec.disturbances if kind not in kinds]
    notes = [
        "Mean and standard deviation over seeds, on the test split. What is disturbed, and how, is drawn by the data's "
        "seed and the sample alone: it is the same for every variant and seed, and a stronger disturbance adds to a "
        "weaker one. Inputs are disturbed as the model gets them, after all preparation.",
        "The mean accuracy over the strengths is the area under the curve (trapezoidal rule) over its width, for "
        "shares from 0 on; its unit is that of accuracy.",
        f"The best other variant is that with the highest mean at that strength, so {spec.variants[0]} is compared "
        f"with what has been chosen on the test split to be hardest. {CHANCE}",
        *(WORDS[kind][2] for kind in spec.disturbances if kind in kinds),
    ]
    if spec.train_noisy:
        notes.append(
            f"Trained with noise: Gaussian noise on every sense between {min(spec.snr_db):g} and "
            f"{max(spec.snr_db):g} dB, drawn anew for each sample and epoch. Epochs are selected on undisturbed "
            "samples all the same."
        )
    if left_out:
        notes.append(f"Left out, because it applies to none of the senses: {', '.join(left_out)}.")
    if spec.train.selection == "published":
        notes.insert(0, "Epochs were selected on the test split, as published: no estimate for new data.")
    return notes
