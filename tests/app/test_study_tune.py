"""`scmrl study tune`: what is tried, what is given up, and what decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna.pruners import MedianPruner

from app.studies import done, study
from app.tiny import write_tiny_dataset
from scmrl.engine.evaluate import SplitPredictions
from scmrl.experiment import Experiment
from scmrl.overlay import load
from scmrl.progress import Progress
from scmrl.spec_commands import check
from scmrl.study.ranges import Choices, Span, ranges_of
from scmrl.study.search_findings import at_the_edge, importance
from scmrl.study.tune import TuneSpec
from snn_fusion.specs import CCSSASpec

RATE, ALPHA = "train.learning_rate", "model.fusion.alpha"
SEARCH = ("--search", f"{RATE}=1e-3..1e-1,log", "--search", f"{ALPHA}=0..3", "--search", "model.channels=16|32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


def said(accuracy: float) -> SplitPredictions:
    """Predictions on 8 samples of two classes, of which so many are right."""
    right = round(8 * accuracy)
    labels = torch.zeros(8, dtype=torch.int64)
    probabilities = torch.tensor([[0.9, 0.1]] * right + [[0.1, 0.9]] * (8 - right))
    return SplitPredictions([str(i) for i in range(8)], labels, probabilities, 1 - accuracy, 0)


def alpha_of(experiment: Experiment) -> float:
    """The alpha of S-CMRL."""
    assert isinstance(experiment.model.fusion, CCSSASpec)
    return experiment.model.fusion.alpha


def goal(alpha: float) -> float:
    """The accuracy on the validation split that an alpha comes to."""
    return max(0.0, 1 - abs(alpha - 2) / 2)


class Training:
    """In place of a training: its accuracy is known, and grows to it over the epochs.

    Validation is best at alpha 2, while on the test split the opposite is true, so that a decision by the test split
    would be seen.
    """

    def __init__(self, diverge: Sequence[int] = (), stop_at: int | None = None, fail: Sequence[int] = ()) -> None:
        self.seen: list[Experiment] = []
        self._diverge, self._stop_at, self._fail = diverge, stop_at, fail

    def __call__(self, experiment: Experiment, progress: Progress) -> Any:
        self.seen.append(experiment)
        call = len(self.seen)
        reached = goal(alpha_of(experiment))
        if call in self._fail:
            raise ValueError("it does not fit")
        for epoch in range(1, experiment.train.epochs + 1):
            if call in self._diverge and epoch == 2:
                raise FloatingPointError("the loss became infinite")
            progress.epoch(epoch, experiment.train.epochs, {"val_accuracy": reached * epoch / experiment.train.epochs})
            if call == self._stop_at and epoch == 1:
                raise KeyboardInterrupt
        assert experiment.out is not None
        return SimpleNamespace(
            experiment=experiment, folder=experiment.out, seconds=1.0, validation=said(reached), test=said(1 - reached)
        )


def trained(monkeypatch: pytest.MonkeyPatch, training: Training) -> Training:
    """Let studies train in this way."""
    monkeypatch.setattr("scmrl.engine.train.train", training)
    return training


def results(folder: Path) -> dict[str, list[list[str]]]:
    """The rows of the tables that were written, by title."""
    return {table["title"]: table["rows"] for table in json.loads((folder / "results.json").read_text())["tables"]}


def test_ranges_are_read_as_what_they_are():
    ranges = ranges_of(Experiment(), ("train.epochs=3..5", f"{RATE}=1e-3..1e-1,log", "model.channels=32|64"))
    assert ranges == {
        "train.epochs": Span(3, 5, whole=True, log=False),
        RATE: Span(1e-3, 1e-1, whole=False, log=True),
        "model.channels": Choices(("32", "64")),
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--search says what to search"),
        (("--search", f"{ALPHA}=3..0"), "from the lower number to the higher"),
        (("--search", f"{ALPHA}=0..3,log"), "with log, a range begins above 0"),
        (("--search", f"{ALPHA}=0..3,lin"), "after the range there may be log alone"),
        (("--search", f"{ALPHA}=-1..3"), f"--search {ALPHA} = -1: must be greater than or equal to 0"),
        (("--search", "model.alhpa=0..3"), "no such option"),
        (("--search", "seed=0..3"), "cannot be varied"),
        (("--search", f"{ALPHA}=0..3", "--train.selection", "published"), "decides by the test split"),
        (("--search", "train.selection=validation|published"), "decides by the test split"),
        (("--search", f"{ALPHA}=0..3", "--seeds", f"1,{2**32}"), "seeds are one or more different numbers"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(data: Path, tmp_path: Path, options: Any, told: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is checked below
        study(TuneSpec, data, tmp_path / "study", *options).points()
    assert told in str(error.value)


def test_a_search_tries_decides_by_validation_and_tests_the_best_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    training = trained(monkeypatch, Training())
    options = (*SEARCH, "--trials", "20", "--pruner", "none", "--seeds", "5,6", "--model.fusion.alpha", "0.5")
    folder, findings, failures = done(study(TuneSpec, data, tmp_path / "study", *options))
    tables = results(folder)

    assert failures == {}
    assert findings is not None
    searched, final = training.seen[:20], training.seen[20:]
    assert {experiment.seed for experiment in searched} == {0}
    assert [experiment.seed for experiment in final] == [5, 6]
    alphas = [alpha_of(experiment) for experiment in searched]
    assert alphas[0] == 0.5  # the experiment as it is comes first
    assert all(0 <= alpha <= 3 for alpha in alphas)
    assert {said(goal(alpha_of(e))).accuracy for e in final} == {max(said(goal(alpha)).accuracy for alpha in alphas)}
    assert tables["What they reach with other seeds"][0][1] == "2"
    journal = (folder / "journal.log").read_text()
    assert journal.count("test_accuracy") == 2  # of 22 trainings
    assert len(tables["Every trial, the best first"]) == 20
    assert set(dict(tables["Which settings mattered"])) == {RATE, ALPHA, "model.channels"}
    assert tables["Which settings mattered"][0][0] == ALPHA


def test_the_best_settings_are_a_file_that_train_takes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained(monkeypatch, Training())
    folder, _, _ = done(study(TuneSpec, data, tmp_path / "study", *SEARCH, "--trials", "3", "--seeds", "5"))

    assert check(folder / "best.yaml") == 0
    read = load(Experiment, (), files=(folder / "best.yaml",))
    best = {row[0]: row[2] for row in results(folder)["The best settings"]}
    assert read.train.learning_rate == float(best[RATE])
    assert read.model.channels == int(best["model.channels"])
    assert (read.out, read.resume, read.train.epochs) == (None, False, 1)


@pytest.mark.slow
def test_trials_that_are_behind_are_pruned_and_those_that_diverge_are_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(monkeypatch, Training(diverge=[2]))
    options = (*SEARCH, "--trials", "12", "--seeds", "5", "--train.warmup_epochs", "0")
    spec = study(TuneSpec, data, tmp_path / "study", *options, epochs=4)
    folder, findings, failures = done(spec)
    rows = results(folder)["Every trial, the best first"]
    outcomes = [row[1] for row in rows]

    assert failures == {}
    assert findings is not None
    assert len(rows) == 12
    assert outcomes.count("diverged") == 1
    assert outcomes.count("pruned") >= 1
    assert all(int(row[2]) < 4 for row in rows if row[1] == "pruned")
    assert all(int(row[2]) == 4 for row in rows if row[1] == "complete")
    assert any(f"{outcomes.count('pruned')} pruned, 1 diverged" in note for note in findings.notes)


def test_a_trial_that_fails_counts_and_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained(monkeypatch, Training(fail=[2]))
    _, findings, failures = done(study(TuneSpec, data, tmp_path / "s", *SEARCH, "--trials", "3", "--seeds", "5"))

    assert failures == {"trial-2-seed0": "it does not fit"}
    assert findings is not None
    assert any("3 trials: 2 complete, 1 failed or missing" in note for note in findings.notes)


def test_a_search_that_was_stopped_goes_on_with_the_trial_it_was_in(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = study(TuneSpec, data, tmp_path / "study", *SEARCH, "--trials", "4", "--seeds", "5")
    stopped = trained(monkeypatch, Training(stop_at=3))
    with pytest.raises(KeyboardInterrupt):
        done(spec)
    going_on = trained(monkeypatch, Training())
    folder, _, failures = done(spec)
    whole = trained(monkeypatch, Training())
    done(spec.model_copy(update={"out": tmp_path / "whole"}))

    def tried(training: Training) -> list[tuple[float, float, int]]:
        return [(e.train.learning_rate, alpha_of(e), e.model.channels) for e in training.seen]

    assert failures == {}
    assert tried(stopped)[2] == tried(going_on)[0]
    assert tried(stopped)[:2] + tried(going_on) == tried(whole)
    assert len(results(folder)["Every trial, the best first"]) == 4


def test_a_search_without_a_trial_that_ended_well_has_no_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(monkeypatch, Training(fail=[1, 2]))
    folder, findings, failures = done(study(TuneSpec, data, tmp_path / "s", *SEARCH, "--trials", "2", "--seeds", "5"))

    assert findings is None
    assert "no trial was trained to its end" in failures["best-seed5"]
    assert not (folder / "best.yaml").exists()


@pytest.mark.slow
def test_final_trainings_of_what_was_best_before_are_not_taken_for_those_of_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first trial, which is at alpha 1.9, fails; tried again later, it is the best."""
    options = (*SEARCH, "--trials", "2", "--seeds", "5", "--model.fusion.alpha", "1.9")
    spec = study(TuneSpec, data, tmp_path / "study", *options)
    trained(monkeypatch, Training(fail=[1]))
    folder, _, _ = done(spec)
    assert results(folder)["What they reach with other seeds"][0][1] == "1"

    trained(monkeypatch, Training())
    folder, findings, _ = done(spec.model_copy(update={"retry_failed": True}))

    assert results(folder)["Every trial, the best first"][0][0] == "trial 1"
    assert "What they reach with other seeds" not in results(folder)
    assert findings is not None
    assert any(note.startswith("1 final trainings are left out") for note in findings.notes)


def test_a_final_training_with_the_seed_of_the_search_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(monkeypatch, Training())
    for seeds, told in (
        ("0,5", "Seed 0 is also that of the search"),
        ("5,6", "which have other seeds than the search"),
    ):
        _, findings, _ = done(study(TuneSpec, data, tmp_path / seeds, *SEARCH, "--trials", "1", "--seeds", seeds))
        assert findings is not None
        assert any(told in note for note in findings.notes)


def test_a_search_whose_trials_all_diverged_at_once_makes_tables(data: Path, tmp_path: Path):
    spec = study(TuneSpec, data, tmp_path, *SEARCH, "--trials", "1", "--seeds", "5")
    settings = {RATE: "0.01", ALPHA: "1", "model.channels": "16"}
    diverged = {"validation_accuracy": None, "seconds": 1.0, "outcome": "diverged", "settings": settings, "epochs": 0}
    found = spec.tabulate({"trial-1-seed0": diverged})
    assert [table.name for table in found.tables] == ["trials"]
    assert list(found.plots) == []


def test_importance_is_of_enough_trials_and_finds_what_matters():
    ranges = {ALPHA: Span(0, 3, whole=False, log=False), "model.channels": Choices(("16", "32"))}
    trials = [
        {
            "outcome": "complete",
            "settings": {ALPHA: f"{alpha / 10}", "model.channels": ("16", "32")[alpha % 2]},
            "validation_accuracy": alpha / 30,
        }
        for alpha in range(30)
    ]
    weights = importance(ranges, trials)

    assert importance(ranges, trials[:9]) == {}
    assert next(iter(weights)) == ALPHA
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(("text", "is_at_edge"), [("0.001", True), ("0.01", False), ("0.1", True), ("0.002", False)])
def test_the_edge_of_a_range_is_seen_on_its_own_scale(text: str, is_at_edge: bool):
    assert at_the_edge(Span(1e-3, 1e-1, whole=False, log=True), text) is is_at_edge


def test_values_of_a_range_are_short_and_within_it():
    narrow = Span(0.1234567, 0.12345671, whole=False, log=False)
    assert narrow.low <= float(narrow.text(0.123456705)) <= narrow.high
    assert Span(0, 1, whole=False, log=False).text(0.123456789) == "0.123457"


def test_a_pruned_training_ends_cleanly(data: Path, tmp_path: Path):
    """The engine itself: signals are as before, and the run's files are whole."""
    import signal

    from rich.console import Console

    from scmrl.engine.train import train
    from scmrl.study.tune import Watched

    study_ = optuna.create_study(direction="maximize", pruner=MedianPruner(n_startup_trials=1))
    for _ in range(2):
        study_.add_trial(optuna.trial.create_trial(value=2.0, intermediate_values=dict.fromkeys(range(1, 4), 2.0)))
    spec = study(TuneSpec, data, tmp_path / "run", *SEARCH, epochs=3)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(optuna.TrialPruned), Progress.create(Console(quiet=True)) as progress:
        train(spec.base(), Watched(progress, study_.ask()))

    assert signal.getsignal(signal.SIGTERM) is before
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
