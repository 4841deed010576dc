"""`scmrl study tune`: trials, pruning, and the selection of the best settings."""

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

from app.studies import run_here, study
from app.tiny import write_tiny_dataset
from scmrl.commands.spec import check
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import load
from scmrl.console.progress import Progress
from scmrl.engine.evaluate import SplitPredictions
from scmrl.study.ranges import Choices, Span, parse_ranges
from scmrl.study.tune.findings import importance, is_at_edge, tabulate
from scmrl.study.tune.spec import TuneSpec
from snn_fusion import CCSSASpec

RATE, ALPHA = "train.learning_rate", "model.fusion.alpha"
SEARCH = ("--search", f"{RATE}=1e-3..1e-1,log", "--search", f"{ALPHA}=0..3", "--search", "model.channels=16|32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


def predictions(accuracy: float) -> SplitPredictions:
    """Return predictions with this accuracy on 8 samples of two classes."""
    correct = round(8 * accuracy)
    labels = torch.zeros(8, dtype=torch.int64)
    probabilities = torch.tensor([[0.9, 0.1]] * correct + [[0.1, 0.9]] * (8 - correct))
    return SplitPredictions([str(i) for i in range(8)], labels, probabilities, 1 - accuracy, 0)


def alpha_of(experiment: Experiment) -> float:
    """Return the alpha of S-CMRL."""
    assert isinstance(experiment.model.fusion, CCSSASpec)
    return experiment.model.fusion.alpha


def final_accuracy(alpha: float) -> float:
    """Return the final validation accuracy for an alpha."""
    return max(0.0, 1 - abs(alpha - 2) / 2)


class Training:
    """Replaces a training: the accuracy is known and grows over the epochs.

    The validation accuracy is best at alpha 2 and the test accuracy worst, so that a decision by the test split would
    be detected.
    """

    def __init__(self, diverge: Sequence[int] = (), stop_at: int | None = None, fail: Sequence[int] = ()) -> None:
        self.experiments: list[Experiment] = []
        self._diverge, self._stop_at, self._fail = diverge, stop_at, fail

    def __call__(self, experiment: Experiment, progress: Progress) -> Any:
        self.experiments.append(experiment)
        call = len(self.experiments)
        accuracy = final_accuracy(alpha_of(experiment))
        if call in self._fail:
            raise ValueError("it does not fit")
        epochs = experiment.train.epochs
        assert isinstance(epochs, int)
        for epoch in range(1, epochs + 1):
            if call in self._diverge and epoch == 2:
                raise FloatingPointError("the loss is inf")
            progress.epoch(epoch, epochs, {"val_accuracy": accuracy * epoch / epochs})
            if call == self._stop_at and epoch == 1:
                raise KeyboardInterrupt
        assert experiment.out is not None
        return SimpleNamespace(
            experiment=experiment,
            folder=experiment.out,
            seconds=1.0,
            validation=predictions(accuracy),
            test=predictions(1 - accuracy),
        )


def replace_training(monkeypatch: pytest.MonkeyPatch, training: Training) -> Training:
    """Replace the training of studies."""
    monkeypatch.setattr("scmrl.study.training.train", training)
    return training


def results(folder: Path) -> dict[str, list[list[str]]]:
    """Return the rows of the written tables, by title."""
    return {table["title"]: table["rows"] for table in json.loads((folder / "results.json").read_text())["tables"]}


def test_ranges_are_parsed_by_type():
    ranges = parse_ranges(Experiment(), ("train.epochs=3..5", f"{RATE}=1e-3..1e-1,log", "model.channels=32|64"))
    assert ranges == {
        "train.epochs": Span(3, 5, integer=True, log=False),
        RATE: Span(1e-3, 1e-1, integer=False, log=True),
        "model.channels": Choices(("32", "64")),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--search is required"),
        (("--search", f"{ALPHA}=3..0"), "the lower end must come first"),
        (("--search", f"{ALPHA}=0..3,log"), "a log range must start above 0"),
        (("--search", f"{ALPHA}=0..3,lin"), "only log may follow a range"),
        (("--search", f"{ALPHA}=-1..3"), f"--search {ALPHA} = -1: must be a number ≥ 0"),
        (("--search", "model.alhpa=0..3"), "no such option"),
        (("--search", "seed=0..3"), "cannot be varied"),
        (("--search", f"{ALPHA}=0..3", "--train.selection", "test"), "selects epochs on the test split"),
        (("--search", "train.selection=validation|test"), "selects epochs on the test split"),
        (("--search", f"{ALPHA}=0..3", "--seeds", f"1,{2**32}"), "seeds must be one or more distinct numbers"),
    ],
)
def test_invalid_searches_are_refused_before_training(data: Path, tmp_path: Path, options: Any, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is checked below
        study(TuneSpec, data, tmp_path / "study", *options).points()
    assert message in str(error.value)


def test_a_search_selects_by_validation_and_tests_only_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    training = replace_training(monkeypatch, Training())
    options = (*SEARCH, "--trials", "20", "--pruner", "none", "--seeds", "5,6", "--model.fusion.alpha", "0.5")
    folder, findings, failures = run_here(study(TuneSpec, data, tmp_path / "study", *options))
    tables = results(folder)

    assert failures == {}
    assert findings is not None
    searched, final = training.experiments[:20], training.experiments[20:]
    assert {experiment.seed for experiment in searched} == {0}
    assert [experiment.seed for experiment in final] == [5, 6]
    alphas = [alpha_of(experiment) for experiment in searched]
    assert alphas[0] == 0.5  # the unchanged experiment comes first
    assert all(0 <= alpha <= 3 for alpha in alphas)
    best = max(predictions(final_accuracy(alpha)).accuracy for alpha in alphas)
    assert {predictions(final_accuracy(alpha_of(e))).accuracy for e in final} == {best}
    assert tables["Accuracy of the best settings with other seeds"][0][1] == "2"
    journal = (folder / "journal.log").read_text()
    assert journal.count("test_accuracy") == 2  # of 22 trainings
    assert len(tables["All trials, best first"]) == 20
    assert set(dict(tables["Importance of settings"])) == {RATE, ALPHA, "model.channels"}
    assert tables["Importance of settings"][0][0] == ALPHA


def test_the_best_settings_are_a_valid_config_file(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    replace_training(monkeypatch, Training())
    folder, _, _ = run_here(study(TuneSpec, data, tmp_path / "study", *SEARCH, "--trials", "3", "--seeds", "5"))

    assert check(folder / "best.yaml") == 0
    read = load(Experiment, (), files=(folder / "best.yaml",))
    best = {row[0]: row[2] for row in results(folder)["The best settings"]}
    assert read.train.learning_rate == float(best[RATE])
    assert read.model.channels == int(best["model.channels"])
    assert (read.out, read.resume, read.train.epochs) == (None, False, 1)


@pytest.mark.slow
def test_bad_trials_are_pruned_and_diverged_trials_are_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_training(monkeypatch, Training(diverge=[2]))
    options = (*SEARCH, "--trials", "12", "--seeds", "5", "--train.warmup_epochs", "0")
    spec = study(TuneSpec, data, tmp_path / "study", *options, epochs=4)
    folder, findings, failures = run_here(spec)
    rows = results(folder)["All trials, best first"]
    outcomes = [row[1] for row in rows]

    assert failures == {}
    assert findings is not None
    assert len(rows) == 12
    assert outcomes.count("diverged") == 1
    assert outcomes.count("pruned") >= 1
    assert all(int(row[2]) < 4 for row in rows if row[1] == "pruned")
    assert all(int(row[2]) == 4 for row in rows if row[1] == "complete")
    assert any(f"{outcomes.count('pruned')} pruned, 1 diverged" in note for note in findings.notes)


def test_a_failed_trial_counts_and_is_reported(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    replace_training(monkeypatch, Training(fail=[2]))
    _, findings, failures = run_here(study(TuneSpec, data, tmp_path / "s", *SEARCH, "--trials", "3", "--seeds", "5"))

    assert failures == {"trial-2-seed0": "it does not fit"}
    assert findings is not None
    assert any("3 trials: 2 complete, 1 failed or missing" in note for note in findings.notes)


@pytest.mark.slow
def test_a_stopped_search_resumes_its_current_trial(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = study(TuneSpec, data, tmp_path / "study", *SEARCH, "--trials", "4", "--seeds", "5")
    stopped = replace_training(monkeypatch, Training(stop_at=3))
    with pytest.raises(KeyboardInterrupt):
        run_here(spec)
    resumed = replace_training(monkeypatch, Training())
    folder, _, failures = run_here(spec)
    uninterrupted = replace_training(monkeypatch, Training())
    run_here(spec.model_copy(update={"out": tmp_path / "uninterrupted"}))

    def settings(training: Training) -> list[tuple[float, float, int]]:
        return [(e.train.learning_rate, alpha_of(e), e.model.channels) for e in training.experiments]

    assert failures == {}
    assert settings(stopped)[2] == settings(resumed)[0]
    assert settings(stopped)[:2] + settings(resumed) == settings(uninterrupted)
    assert len(results(folder)["All trials, best first"]) == 4


def test_a_search_without_a_complete_trial_has_no_best(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    replace_training(monkeypatch, Training(fail=[1, 2]))
    folder, findings, failures = run_here(
        study(TuneSpec, data, tmp_path / "s", *SEARCH, "--trials", "2", "--seeds", "5")
    )

    assert findings is None
    assert "no trial has finished" in failures["best-seed5"]
    assert not (folder / "best.yaml").exists()


@pytest.mark.slow
def test_final_trainings_of_superseded_settings_are_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first trial, at alpha 1.9, fails; after a retry it is the best."""
    options = (*SEARCH, "--trials", "2", "--seeds", "5", "--model.fusion.alpha", "1.9")
    spec = study(TuneSpec, data, tmp_path / "study", *options)
    replace_training(monkeypatch, Training(fail=[1]))
    folder, _, _ = run_here(spec)
    assert results(folder)["Accuracy of the best settings with other seeds"][0][1] == "1"

    replace_training(monkeypatch, Training())
    folder, findings, _ = run_here(spec.model_copy(update={"retry_failed": True}))

    assert results(folder)["All trials, best first"][0][0] == "trial 1"
    assert "Accuracy of the best settings with other seeds" not in results(folder)
    assert findings is not None
    assert any(note.startswith("1 final trainings are left out") for note in findings.notes)


def test_a_final_training_with_the_seed_of_the_search_is_noted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_training(monkeypatch, Training())
    for seeds, message in (
        ("0,5", "Seed 0 is also the seed of the search"),
        ("5,6", "whose seeds differ from that of the search"),
    ):
        _, findings, _ = run_here(study(TuneSpec, data, tmp_path / seeds, *SEARCH, "--trials", "1", "--seeds", seeds))
        assert findings is not None
        assert any(message in note for note in findings.notes)


def test_a_search_with_only_diverged_trials_makes_tables(data: Path, tmp_path: Path):
    spec = study(TuneSpec, data, tmp_path, *SEARCH, "--trials", "1", "--seeds", "5")
    settings = {RATE: "0.01", ALPHA: "1", "model.channels": "16"}
    diverged = {"validation_accuracy": None, "seconds": 1.0, "outcome": "diverged", "settings": settings, "epochs": 0}
    findings = tabulate(spec, {"trial-1-seed0": diverged})
    assert [table.name for table in findings.tables] == ["trials"]
    assert list(findings.plots) == []


def test_importance_needs_enough_trials_and_ranks_settings():
    ranges = {ALPHA: Span(0, 3, integer=False, log=False), "model.channels": Choices(("16", "32"))}
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


@pytest.mark.parametrize(("text", "expected"), [("0.001", True), ("0.01", False), ("0.1", True), ("0.002", False)])
def test_the_edge_of_a_range_is_on_its_scale(text: str, expected: bool):
    assert is_at_edge(Span(1e-3, 1e-1, integer=False, log=True), text) is expected


def test_values_of_a_range_are_rounded_within_it():
    narrow = Span(0.1234567, 0.12345671, integer=False, log=False)
    assert narrow.low <= float(narrow.text(0.123456705)) <= narrow.high
    assert Span(0, 1, integer=False, log=False).text(0.123456789) == "0.123457"


def test_a_pruned_training_ends_cleanly(data: Path, tmp_path: Path):
    """In the engine, signal handlers are restored and the run's files are complete."""
    import signal

    from rich.console import Console

    from scmrl.engine.train import train
    from scmrl.study.tune.trials import TrialProgress

    study_ = optuna.create_study(direction="maximize", pruner=MedianPruner(n_startup_trials=1))
    for _ in range(2):
        study_.add_trial(optuna.trial.create_trial(value=2.0, intermediate_values=dict.fromkeys(range(1, 4), 2.0)))
    spec = study(TuneSpec, data, tmp_path / "run", *SEARCH, epochs=3)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(optuna.TrialPruned), Progress.create(Console(quiet=True)) as progress:
        train(spec.base(), TrialProgress(progress, study_.ask()))

    assert signal.getsignal(signal.SIGTERM) is before
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
