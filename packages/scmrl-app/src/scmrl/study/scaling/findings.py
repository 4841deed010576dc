"""Findings of `scmrl study scaling`: gain and cost of more samples and more modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scmrl.config.experiment import MANY_SAMPLES
from scmrl.plots.curves import Curve, Panel, curves_plot
from scmrl.study.cells import DIFFERENCE_COLUMNS, INTERVAL_NOTE, SELECTED_ON_TEST, difference_cells, plus_minus
from scmrl.study.points import Results
from scmrl.study.scaling.spec import ScalingSpec
from scmrl.study.statistics import MeanStd, comparable, paired_difference, unpack_bits
from scmrl.study.tables import StudyFindings, StudyPlot, StudyTable

COSTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
    "parameters": ("parameters, thousands", lambda r: r["parameters"] / 1e3),
    "time": ("training time, ms per sample", lambda r: 1e3 * r["step_seconds"] / r["step_samples"]),
    "memory": ("saved for the backward pass, MB per sample", lambda r: r["saved_bytes"] / 1e6),
    "operations": ("synaptic operations, millions per sample", lambda r: r["operations"] / 1e6),
    "macs": ("dense operations, millions per sample", lambda r: r["macs"] / 1e6),
}
"""Title and value of each cost in a result."""

ResultsByRow = dict[str, dict[float, dict[int, Mapping[str, Any]]]]
"""Results by row, fraction and seed."""


def tabulate(spec: ScalingSpec, results: Results) -> StudyFindings:
    """Make all tables and plots of the finished points."""
    by_row: ResultsByRow = {}
    for row in spec.rows():
        for fraction in spec.fractions:
            for seed in spec.all_seeds:
                result = results.get(spec.point(row, fraction, seed).key)
                if result is not None:
                    by_row.setdefault(row, {}).setdefault(fraction, {})[seed] = result
    fractions = [fraction for fraction in spec.fractions if any(fraction in of for of in by_row.values())]
    samples = {f: next(r["samples"] for of in by_row.values() for r in of.get(f, {}).values()) for f in fractions}
    columns = ("modalities", *(f"{samples[fraction]} samples" for fraction in fractions))

    def table(name: str, title: str, cell: Callable[[list[Mapping[str, Any]]], str]) -> StudyTable:
        cells = [[row, *(cell([*of[f].values()]) if f in of else "-" for f in fractions)] for row, of in by_row.items()]
        return StudyTable(name, title, columns, cells)

    tables = [
        table("accuracy", "Test accuracy, %", lambda r: plus_minus(MeanStd.of([x["test_accuracy"] for x in r]), 100)),
        StudyTable(
            "gain",
            "Gain of a further modality",
            ("modalities", "samples", "compared with", *DIFFERENCE_COLUMNS),
            [[row, str(samples[f]), best, *cells] for row, f, best, cells in _gains(spec, by_row)],
        ),
        table("training", "Optimizer steps, and seconds of training", _training),
        _cost_table(by_row),
    ]
    plots = [_learning_plot(by_row, samples), *_cost_plot(spec, by_row)]
    title = f"Scaling on {spec.data.card.title}"
    return StudyFindings(spec.kind, title, [t for t in tables if t.rows], plots, _notes(spec, results))


def _training(results: list[Mapping[str, Any]]) -> str:
    steps = round(MeanStd.of([r["steps"] for r in results]).mean)
    return f"{steps}; {MeanStd.of([r['seconds'] for r in results]).mean:.0f} s"


def _gains(spec: ScalingSpec, by_row: ResultsByRow) -> list[tuple[str, float, str, list[str]]]:
    """Compare each row of several modalities, at each fraction, with the best row of one modality fewer."""
    rows = spec.rows()
    gains: list[tuple[str, float, str, list[str]]] = []
    for row, by_fraction in by_row.items():
        modalities, options = rows[row]
        for fraction, seeds in by_fraction.items():
            fewer: dict[str, dict[int, Mapping[str, Any]]] = {}
            for other, (subset, other_options) in rows.items():
                same_method = len(subset) == 1 or {**options, "data.modalities": ""} == {
                    **other_options,
                    "data.modalities": "",
                }
                is_subset = len(subset) == len(modalities) - 1 and set(subset) < set(modalities)
                other_seeds = by_row.get(other, {}).get(fraction, {})
                if same_method and is_subset and comparable(other_seeds, seeds):
                    fewer[other] = other_seeds
            if not fewer:
                continue
            best = max(fewer, key=lambda name: MeanStd.of([r["test_accuracy"] for r in fewer[name].values()]).mean)
            one, other = ({seed: unpack_bits(r["correct"]) for seed, r in of.items()} for of in (seeds, fewer[best]))
            gains.append((row, fraction, best, difference_cells(paired_difference(one, other))))
    return sorted(gains, key=lambda gain: (list(rows).index(gain[0]), gain[1]))


def _cost_table(by_row: ResultsByRow) -> StudyTable:
    rows: list[list[str]] = []
    for row, of in by_row.items():
        results = [*of[max(of)].values()]
        rows.append([row, *(f"{MeanStd.of([value(r) for r in results]).mean:.3g}" for _, value in COSTS.values())])
    return StudyTable("cost", "Cost", ("modalities", *(title for title, _ in COSTS.values())), rows)


def _learning_plot(by_row: ResultsByRow, samples: Mapping[float, int]) -> StudyPlot:
    """Draw accuracy over samples, a curve for each row, at fractions for which all seeds of the row have finished."""
    curves: list[Curve] = []
    for number, (row, of) in enumerate(by_row.items()):
        seeds = sorted({seed for by_seed in of.values() for seed in by_seed})
        complete = [fraction for fraction in samples if of.get(fraction, {}).keys() == set(seeds)]
        if complete:
            y = [np.array([of[fraction][seed]["test_accuracy"] for fraction in complete]) for seed in seeds]
            curves.append(Curve(row, [samples[fraction] for fraction in complete], y, color=number))
    ticks = {float(count): str(count) for count in samples.values()}
    figure = curves_plot([Panel("", curves)], "training samples", ticks=ticks, logarithmic=True)
    return StudyPlot("accuracy", "Test accuracy over training samples", figure)


def _cost_plot(spec: ScalingSpec, by_row: ResultsByRow) -> list[StudyPlot]:
    """Draw costs over the number of modalities, a curve for each variant; all start at the single modality."""
    rows = spec.rows()
    sizes = sorted({len(rows[row][0]) for row in by_row})
    if len(sizes) < 2:
        return []
    panels: list[Panel] = []
    for cost in ("parameters", "time", "memory", "operations"):
        title, value = COSTS[cost]
        curves: list[Curve] = []
        for number, name in enumerate(spec.variants):
            by_size: dict[int, list[float]] = {}
            for row, of in by_row.items():
                modalities, _ = rows[row]
                if len(modalities) == 1 or row == f"{name} {'+'.join(modalities)}":
                    by_size.setdefault(len(modalities), []).extend(value(r) for r in of[max(of)].values())
            x = sorted(by_size)
            curves.append(Curve(name, x, [np.array([MeanStd.of(by_size[size]).mean for size in x])], color=number))
        name, _, unit = title.partition(", ")
        panels.append(Panel(name, curves, label=unit, factor=1.0))
    ticks = {float(size): str(size) for size in sizes}
    figure = curves_plot(panels, "modalities", ticks=ticks, columns=2, from_zero=True)
    return [StudyPlot("cost", "Cost over the number of modalities", figure)]


def _notes(spec: ScalingSpec, results: Results) -> list[str]:
    budget = (
        "Every fraction trains for the same number of optimizer steps: epochs, warm-up and patience grow as the "
        "fraction shrinks, so that only the samples differ."
        if spec.budget == "steps"
        else "Every fraction trains for the same number of epochs: fewer samples also mean fewer optimizer steps."
    )
    hardware = ", ".join(sorted({result["hardware"] for result in results.values()}))
    notes = [
        "Mean and standard deviation over seeds; validation and test splits are complete. Each seed draws different "
        "training samples, stratified by class, and a smaller fraction is a subset of a larger one.",
        budget,
        "A further modality is compared with the best trained subset of one modality fewer, on the same number of "
        "samples"
        + ("." if spec.every_subset else "; without --every_subset there is only one such subset, maybe not the best.")
        + f" {INTERVAL_NOTE}",
        "Costs are for the largest fraction, mean over seeds. Time is the median over several forward and backward "
        f"passes of one batch of at most {spec.train.schedule(MANY_SAMPLES).batch_size}, on {hardware}; other "
        "trainings on the same machine make it longer, which --jobs 1 avoids. Memory saved for the backward pass "
        "grows with the batch; weights, gradients and optimizer state are not included. Synaptic operations "
        "are the products of two nonzero factors, in evaluation mode; dense operations are all products.",
    ]
    if spec.train.selection == "test":
        notes.insert(0, SELECTED_ON_TEST)
    return notes
