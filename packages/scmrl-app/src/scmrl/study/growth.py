"""Tables and plots of `scmrl study scaling`: what more samples and more senses bring and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scmrl.experiment import PLENTY
from scmrl.study.cells import CHANCE, COMPARED, compared, plus_minus
from scmrl.study.plots_curves import Curve, Panel, curves_plot
from scmrl.study.scaling import ScalingSpec
from scmrl.study.spec import Results
from scmrl.study.statistics import Summary, comparable, from_bits, paired
from scmrl.study.tables import Findings, StudyPlot, StudyTable

COSTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
    "parameters": ("parameters, thousands", lambda r: r["parameters"] / 1e3),
    "time": ("training time, ms a sample", lambda r: 1e3 * r["step_seconds"] / r["step_samples"]),
    "memory": ("kept for the backward pass, MB a sample", lambda r: r["kept_bytes"] / 1e6),
    "operations": ("synaptic operations, millions a sample", lambda r: r["operations"] / 1e6),
    "macs": ("dense operations, millions a sample", lambda r: r["macs"] / 1e6),
}
"""Title and value of each cost of a result."""

Done = dict[str, dict[float, dict[int, Mapping[str, Any]]]]
"""Results by row, share and seed."""


def findings(spec: ScalingSpec, results: Results) -> Findings:
    """Everything there is to tell of the points that are done."""
    rows = spec.rows()
    done: Done = {}
    for row in rows:
        for fraction in spec.fractions:
            for seed in spec.every_seed:
                result = results.get(spec.point(row, fraction, seed).key)
                if result is not None:
                    done.setdefault(row, {}).setdefault(fraction, {})[seed] = result
    shares = [fraction for fraction in spec.fractions if any(fraction in of for of in done.values())]
    samples = {f: next(r["samples"] for of in done.values() for r in of.get(f, {}).values()) for f in shares}
    columns = ("senses", *(f"{samples[fraction]} samples" for fraction in shares))

    def table(name: str, title: str, cell: Callable[[list[Mapping[str, Any]]], str]) -> StudyTable:
        cells = [[row, *(cell([*of[f].values()]) if f in of else "-" for f in shares)] for row, of in done.items()]
        return StudyTable(name, title, columns, cells)

    tables = [
        table("accuracy", "Test accuracy, %", lambda r: plus_minus(Summary.of([x["test_accuracy"] for x in r]), 100)),
        StudyTable(
            "gain",
            "What a further sense brings",
            ("senses", "samples", "against", *COMPARED),
            [[row, str(samples[f]), best, *cells] for row, f, best, cells in _gains(spec, done)],
        ),
        table("training", "Optimizer steps, and seconds of training", _training),
        _cost_table(done),
    ]
    plots = [_learning_plot(done, samples), *_cost_plot(spec, done)]
    title = f"Samples and senses on {spec.data.card().title}"
    return Findings(spec.kind, title, [t for t in tables if t.rows], plots, _notes(spec, results))


def _training(results: list[Mapping[str, Any]]) -> str:
    steps = round(Summary.of([r["steps"] for r in results]).mean)
    return f"{steps}; {Summary.of([r['seconds'] for r in results]).mean:.0f} s"


def _gains(spec: ScalingSpec, done: Done) -> list[tuple[str, float, str, list[str]]]:
    """Each row with several senses, each share, the best row with one sense fewer, and how the two compare."""
    rows = spec.rows()
    found: list[tuple[str, float, str, list[str]]] = []
    for row, of in done.items():
        senses, way = rows[row]
        for fraction, seeds in of.items():
            fewer: dict[str, dict[int, Mapping[str, Any]]] = {}
            for other, (fewer_senses, other_way) in rows.items():
                alike = len(fewer_senses) == 1 or {**way, "data.modalities": ""} == {**other_way, "data.modalities": ""}
                is_part = len(fewer_senses) == len(senses) - 1 and set(fewer_senses) < set(senses)
                there = done.get(other, {}).get(fraction, {})
                if alike and is_part and comparable(there, seeds):
                    fewer[other] = there
            if not fewer:
                continue
            best = max(fewer, key=lambda name: Summary.of([r["test_accuracy"] for r in fewer[name].values()]).mean)
            one, other = ({seed: from_bits(r["right"]) for seed, r in of.items()} for of in (seeds, fewer[best]))
            found.append((row, fraction, best, compared(paired(one, other))))
    return sorted(found, key=lambda gain: (list(rows).index(gain[0]), gain[1]))


def _cost_table(done: Done) -> StudyTable:
    rows: list[list[str]] = []
    for row, of in done.items():
        results = [*of[max(of)].values()]
        rows.append([row, *(f"{Summary.of([value(r) for r in results]).mean:.3g}" for _, value in COSTS.values())])
    return StudyTable("cost", "Cost", ("senses", *(title for title, _ in COSTS.values())), rows)


def _learning_plot(done: Done, samples: Mapping[float, int]) -> StudyPlot:
    """Accuracy against samples, a curve a row, where every seed of the row is done."""
    curves: list[Curve] = []
    for number, (row, of) in enumerate(done.items()):
        seeds = sorted({seed for by_seed in of.values() for seed in by_seed})
        whole = [fraction for fraction in samples if of.get(fraction, {}).keys() == set(seeds)]
        if whole:
            y = [np.array([of[fraction][seed]["test_accuracy"] for fraction in whole]) for seed in seeds]
            curves.append(Curve(row, [samples[fraction] for fraction in whole], y, color=number))
    ticks = {float(count): str(count) for count in samples.values()}
    figure = curves_plot([Panel("", curves)], "training samples", ticks=ticks, logarithmic=True)
    return StudyPlot("accuracy", "Test accuracy against training samples", figure)


def _cost_plot(spec: ScalingSpec, done: Done) -> list[StudyPlot]:
    """Costs against the number of senses, a curve a way to fuse them; a single sense is the first point of each."""
    rows = spec.rows()
    sizes = sorted({len(rows[row][0]) for row in done})
    if len(sizes) < 2:
        return []
    panels: list[Panel] = []
    for cost in ("parameters", "time", "memory", "operations"):
        title, value = COSTS[cost]
        curves: list[Curve] = []
        for number, name in enumerate(spec.variants):
            by_size: dict[int, list[float]] = {}
            for row, of in done.items():
                senses, _ = rows[row]
                if len(senses) == 1 or row == f"{name} {'+'.join(senses)}":
                    by_size.setdefault(len(senses), []).extend(value(r) for r in of[max(of)].values())
            x = sorted(by_size)
            curves.append(Curve(name, x, [np.array([Summary.of(by_size[size]).mean for size in x])], color=number))
        name, _, unit = title.partition(", ")
        panels.append(Panel(name, curves, label=unit, factor=1.0))
    figure = curves_plot(panels, "senses", ticks={float(size): str(size) for size in sizes}, columns=2, from_zero=True)
    return [StudyPlot("cost", "Cost against the number of senses", figure)]


def _notes(spec: ScalingSpec, results: Results) -> list[str]:
    kept = (
        "Every share trains for as many optimizer steps: epochs, warm-up and patience grow as the share shrinks, so "
        "what differs is the samples and not the time to learn from them."
        if spec.budget == "steps"
        else "Every share trains for as many epochs: fewer samples also mean fewer optimizer steps."
    )
    hardware = ", ".join(sorted({result["hardware"] for result in results.values()}))
    notes = [
        "Mean and standard deviation over seeds; validation and test splits stay whole. Each seed draws its own part "
        "of the training samples, the same share of every class, and a smaller share is part of a larger one.",
        kept,
        "A further sense is compared with the best choice of one sense fewer that was trained, on as many samples"
        + ("." if spec.every_subset else "; without --every_subset that is one choice only, which may not be the best.")
        + f" {CHANCE}",
        "Costs are those of the largest share, mean over seeds. Time is that of forward and backward pass on one "
        f"batch of at most {spec.train.schedule(PLENTY).batch_size}, the median of several, on {hardware}; other "
        "trainings at the same time on the same machine make it longer, and --jobs 1 avoids that. What is kept for the "
        "backward pass grows with the batch; weights, gradients and the optimizer's state come on top. Synaptic "
        "operations are those "
        "products whose factors are both not 0, in evaluation; dense operations are all.",
    ]
    if spec.train.selection == "published":
        notes.insert(0, "Epochs were selected on the test split, as published: no estimate for new data.")
    return notes
