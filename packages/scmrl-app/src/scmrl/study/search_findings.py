"""What a search found: the best settings, what they reach, every trial, and which settings mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from scmrl.study.cells import plus_minus
from scmrl.study.plots import history_plot, trials_plot
from scmrl.study.points import slug
from scmrl.study.ranges import Choices, Span, said_of, short_names
from scmrl.study.spec import Results
from scmrl.study.statistics import Summary
from scmrl.study.tables import Findings, StudyPlot, StudyTable
from snn_fusion.specs.files import to_yaml

if TYPE_CHECKING:
    from scmrl.study.tune import TuneSpec

IMPORTANCE_FROM = 10
"""Trials to their end from which on importance says something."""
EDGE = 0.05
"""Share of a range at either end where the best value makes one want a wider range."""


def search_findings(spec: TuneSpec, results: Results) -> Findings:
    """Tables, plots and best.yaml of the trials that are done, which may be some only."""
    trials, final = spec.stages()
    ranges = spec.ranges()
    names = short_names(list(ranges))
    done = {point.variant: results[point.key] for point in trials if point.key in results}
    ranked = sorted(done, key=lambda name: _rank(done[name]))
    tables: list[StudyTable] = []
    files: dict[str, str] = {}
    notes: list[str] = []
    best = spec.best(results)
    if best is not None:
        settings: Mapping[str, str] = results[best]["settings"]
        files["best.yaml"] = to_yaml(spec.with_settings(settings))
        base = spec.base()
        rows = [[field, said_of(base, field), settings[field]] for field in ranges]
        tables.append(StudyTable("best", "The best settings", ("setting", "as it is", "best"), rows))
        said = ", ".join(f"{names[field]} {value}" for field, value in settings.items())
        notes.append(
            f"Best is {ranked[0]}, with a validation accuracy of {results[best]['validation_accuracy']:.1%}: {said}. "
            "best.yaml holds the whole experiment, for --config."
        )
        notes += [
            f"The best {field}, {settings[field]}, is at the edge of its range: widen the range."
            for field, range_ in ranges.items()
            if isinstance(range_, Span) and at_the_edge(range_, settings[field])
        ]
    done_anew = [results[point.key] for point in final if point.key in results]
    trained = [result for result in done_anew if best is not None and result["settings"] == results[best]["settings"]]
    if len(trained) < len(done_anew):
        notes.append(
            f"{len(done_anew) - len(trained)} final trainings are left out: they were of the settings that were best "
            "before failed trials were tried again. Train best.yaml for those of now."
        )
    if trained:
        validation, test = (Summary.of([r[f"{split}_accuracy"] for r in trained]) for split in ("validation", "test"))
        cells = [["best settings", str(test.n), plus_minus(validation, 100), plus_minus(test, 100)]]
        columns = ("trained anew", "seeds", "validation, %", "test, %")
        tables.append(StudyTable("final", "What they reach with other seeds", columns, cells))
        notes.append(
            "Every decision was on the validation split; the test split was measured on the final trainings alone"
            + (
                ", which have other seeds than the search."
                if spec.seed not in spec.every_seed
                else f". Seed {spec.seed} is also that of the search, which chose settings that suit it."
            )
        )
    weights = importance(ranges, list(done.values()))
    if weights:
        rows = [[field, f"{weight:.0%}"] for field, weight in weights.items()]
        tables.append(StudyTable("importance", "Which settings mattered", ("setting", "importance"), rows))
        notes.append("Importance by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), of trials to their end.")
    outcomes = [result["outcome"] for result in done.values()]
    counts = [f"{outcomes.count(name)} {name}" for name in ("complete", "pruned", "diverged") if name in outcomes]
    failed = spec.trials - len(done)
    notes.append(f"{spec.trials} trials: {', '.join([*counts, *([f'{failed} failed or missing'] if failed else [])])}.")
    columns = ("trial", "outcome", "epochs", *ranges, "validation, %", "seconds")
    tables.append(
        StudyTable("trials", "Every trial, the best first", columns, [_row(name, done[name]) for name in ranked])
    )
    return Findings(
        spec.kind, f"Search on {spec.data.card().title}", tables, _plots(ranges, names, trials_of(done)), notes, files
    )


def trials_of(done: Mapping[str, Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Trials by number that have an accuracy."""
    numbered = [(int(name.split()[-1]), result) for name, result in done.items()]
    return [(number, result) for number, result in numbered if result["validation_accuracy"] is not None]


def at_the_edge(range_: Span, text: str) -> bool:
    """Whether a value lies in the first or last twentieth of its range."""
    scale = math.log if range_.log else float
    low, high, value = scale(range_.low), scale(range_.high), scale(float(text))
    return not EDGE <= (value - low) / (high - low) <= 1 - EDGE


def importance(ranges: Mapping[str, Choices | Span], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How much each setting matters for the accuracy, the most important first; together 1, empty of few trials."""
    study = optuna.create_study(direction="maximize")
    distributions = {field: distribution(range_) for field, range_ in ranges.items()}
    for result in results:
        if result["outcome"] == "complete":
            params = {field: ranges[field].value(text) for field, text in result["settings"].items()}
            value = result["validation_accuracy"]
            study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    if len(study.trials) < IMPORTANCE_FROM or len({trial.value for trial in study.trials}) < 2:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def distribution(range_: Choices | Span) -> BaseDistribution:
    """A range as Optuna has it."""
    if isinstance(range_, Choices):
        return CategoricalDistribution(range_.texts)
    if range_.whole:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)


def _rank(result: Mapping[str, Any]) -> tuple[bool, float, float]:
    """The lower the better, as `TuneSpec.best` decides; trials that were given up come last."""
    accuracy, loss = result["validation_accuracy"], result.get("validation_loss", math.inf)
    return result["outcome"] != "complete", -(accuracy or 0.0), loss


def _row(name: str, result: Mapping[str, Any]) -> list[str]:
    accuracy = result["validation_accuracy"]
    return [
        name,
        result["outcome"],
        str(result["epochs"]),
        *result["settings"].values(),
        f"{100 * accuracy:.1f}" if accuracy is not None else "-",
        f"{result['seconds']:.0f}",
    ]


def _plots(
    ranges: Mapping[str, Choices | Span], names: Mapping[str, str], trials: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[StudyPlot]:
    if not trials:
        return []
    accuracies = [(number, result["validation_accuracy"], result["outcome"] == "complete") for number, result in trials]
    plots = [StudyPlot("history", "Validation accuracy, trial by trial", history_plot(accuracies))]
    for field, range_ in ranges.items():
        values = [result["settings"][field] for _, result in trials]
        order = None if isinstance(range_, Span) else range_.texts
        figure = trials_plot(field, values, accuracies, order=order, log=isinstance(range_, Span) and range_.log)
        plots.append(StudyPlot(f"trials-{slug(names[field])}", f"Trials over {field}", figure))
    return plots
