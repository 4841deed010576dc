"""Findings of a search: the best settings, their accuracy, all trials, and the importance of settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from scmrl.study.cells import plus_minus
from scmrl.study.points import Results, slug
from scmrl.study.ranges import Choices, Span, base_value, short_names
from scmrl.study.statistics import MeanStd
from scmrl.study.tables import StudyFindings, StudyPlot, StudyTable
from scmrl.study.tune.plots import history_plot, trials_plot
from scmrl.study.tune.spec import TuneSpec
from snn_fusion.specs.files import to_yaml

MIN_TRIALS_FOR_IMPORTANCE = 10
"""Complete trials below which importance is not reported."""
EDGE_FRACTION = 0.05
"""Fraction of a range at either end in which a best value suggests a wider range."""


def tabulate(spec: TuneSpec, results: Results) -> StudyFindings:
    """Make tables, plots and best.yaml of the finished trials, which may be a part of all trials."""
    trials, final = spec.stages()
    ranges = spec.ranges()
    names = short_names(list(ranges))
    finished = {point.variant: results[point.key] for point in trials if point.key in results}
    ranked = sorted(finished, key=lambda name: _rank(finished[name]))
    tables: list[StudyTable] = []
    files: dict[str, str] = {}
    notes: list[str] = []
    best = spec.best(results)
    if best is not None:
        settings: Mapping[str, str] = results[best]["settings"]
        files["best.yaml"] = to_yaml(spec.with_settings(settings))
        base = spec.base()
        rows = [[field, base_value(base, field), settings[field]] for field in ranges]
        tables.append(StudyTable("best", "The best settings", ("setting", "base", "best"), rows))
        text = ", ".join(f"{names[field]} {value}" for field, value in settings.items())
        notes.append(
            f"{ranked[0]} is best, with a validation accuracy of {results[best]['validation_accuracy']:.1%}: {text}. "
            "best.yaml holds the whole experiment, for --config."
        )
        notes += [
            f"The best {field}, {settings[field]}, is at the edge of its range: try a wider range."
            for field, range_ in ranges.items()
            if isinstance(range_, Span) and is_at_edge(range_, settings[field])
        ]
    final_results = [results[point.key] for point in final if point.key in results]
    current = [
        result for result in final_results if best is not None and result["settings"] == results[best]["settings"]
    ]
    if len(current) < len(final_results):
        notes.append(
            f"{len(final_results) - len(current)} final trainings are left out: they used the settings that were best "
            "before failed trials were retried. Train best.yaml for the current ones."
        )
    if current:
        validation, test = (MeanStd.of([r[f"{split}_accuracy"] for r in current]) for split in ("validation", "test"))
        cells = [["best settings", str(test.n), plus_minus(validation, 100), plus_minus(test, 100)]]
        columns = ("retrained", "seeds", "validation, %", "test, %")
        tables.append(StudyTable("final", "Accuracy of the best settings with other seeds", columns, cells))
        notes.append(
            "Every decision used the validation split; the test split was measured only on the final trainings"
            + (
                ", whose seeds differ from that of the search."
                if spec.seed not in spec.all_seeds
                else f". Seed {spec.seed} is also the seed of the search, to which its settings may be overfitted."
            )
        )
    weights = importance(ranges, list(finished.values()))
    if weights:
        rows = [[field, f"{weight:.0%}"] for field, weight in weights.items()]
        tables.append(StudyTable("importance", "Importance of settings", ("setting", "importance"), rows))
        notes.append("Importance by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), over complete trials.")
    outcomes = [result["outcome"] for result in finished.values()]
    counts = [f"{outcomes.count(name)} {name}" for name in ("complete", "pruned", "diverged") if name in outcomes]
    failed = spec.trials - len(finished)
    notes.append(f"{spec.trials} trials: {', '.join([*counts, *([f'{failed} failed or missing'] if failed else [])])}.")
    columns = ("trial", "outcome", "epochs", *ranges, "validation, %", "seconds")
    tables.append(
        StudyTable("trials", "All trials, best first", columns, [_row(name, finished[name]) for name in ranked])
    )
    title = f"Search on {spec.data.card.title}"
    return StudyFindings(spec.kind, title, tables, _plots(ranges, names, numbered_trials(finished)), notes, files)


def numbered_trials(finished: Mapping[str, Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the trials that have an accuracy, with their numbers."""
    numbered = [(int(name.split()[-1]), result) for name, result in finished.items()]
    return [(number, result) for number, result in numbered if result["validation_accuracy"] is not None]


def is_at_edge(range_: Span, text: str) -> bool:
    """Return whether a value is in the first or last twentieth of its range, on the range's scale."""
    scale = math.log if range_.log else float
    low, high, value = scale(range_.low), scale(range_.high), scale(float(text))
    return not EDGE_FRACTION <= (value - low) / (high - low) <= 1 - EDGE_FRACTION


def importance(ranges: Mapping[str, Choices | Span], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the importance of each setting, highest first, with sum 1; empty for few trials."""
    study = optuna.create_study(direction="maximize")
    distributions = {field: to_distribution(range_) for field, range_ in ranges.items()}
    for result in results:
        if result["outcome"] == "complete":
            params = {field: ranges[field].value(text) for field, text in result["settings"].items()}
            value = result["validation_accuracy"]
            study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    if len(study.trials) < MIN_TRIALS_FOR_IMPORTANCE or len({trial.value for trial in study.trials}) < 2:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def to_distribution(range_: Choices | Span) -> BaseDistribution:
    """Convert a range to an Optuna distribution."""
    if isinstance(range_, Choices):
        return CategoricalDistribution(range_.texts)
    if range_.integer:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)


def _rank(result: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Return a sort key, lower is better, as in `TuneSpec.best`; incomplete trials come last."""
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
    plots = [StudyPlot("history", "Validation accuracy by trial", history_plot(accuracies))]
    for field, range_ in ranges.items():
        values = [result["settings"][field] for _, result in trials]
        order = None if isinstance(range_, Span) else range_.texts
        figure = trials_plot(field, values, accuracies, order=order, log=isinstance(range_, Span) and range_.log)
        plots.append(StudyPlot(f"trials-{slug(names[field])}", f"Trials over {field}", figure))
    return plots
