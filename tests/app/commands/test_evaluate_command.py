"""`scmrl evaluate` from the command line."""

import json
import shutil
from pathlib import Path

import pytest

from app.finished import finished_run, scmrl
from app.rewriting import rewrite
from app.tiny import write_tiny_dataset

SUBSETS = [["image", "audio"], ["image"], ["audio"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "data").mkdir()
    return finished_run(write_tiny_dataset(folder / "data", train=40, test=14), folder / "run")


@pytest.fixture
def evaluated(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_it_agrees_with_the_summary_and_adds_intervals(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    copy = tmp_path / "copy.json"
    assert scmrl(monkeypatch, "evaluate", evaluated, "--bootstrap", "200", "--json", copy) == 0
    result = json.loads((evaluated / "evaluation.json").read_text())
    assert json.loads(copy.read_text()) == result
    test = json.loads((evaluated / "summary.json").read_text())["test"]
    assert result["accuracy"]["value"] == pytest.approx(test["accuracy"])
    assert result["loss"] == pytest.approx(test["loss"], rel=1e-5)
    assert result["confusion"] == test["confusion"]
    assert result["n"] == 14
    assert [entry["samples"] for entry in result["classes"]] == [7, 7]
    assert result["accuracy"]["low"] <= result["accuracy"]["value"] <= result["accuracy"]["high"]
    assert [subset["modalities"] for subset in result["subsets"]] == SUBSETS
    assert result["subsets"][0]["accuracy"] == result["accuracy"]
    assert len(result["rates"]) == 32
    assert all(0 <= rate <= 1 for rate in result["rates"].values())
    assert result["mark"] == ""

    printed = capsys.readouterr()
    for title in ("test, 14 samples", "classes", "confusion", "missing modalities", "firing rates"):
        assert title in printed.out
        assert title in (evaluated / "evaluation.md").read_text()
    assert "\x1b" not in printed.out + printed.err
    assert not list(evaluated.glob("*.part"))


def test_the_same_seed_draws_the_same_intervals(evaluated: Path, monkeypatch: pytest.MonkeyPatch):
    result = []
    for seed in ("1", "1", "2"):
        options = ("--bootstrap", "50", "--seed", seed)
        assert scmrl(monkeypatch, "evaluate", evaluated, *options) == 0
        result.append(json.loads((evaluated / "evaluation.json").read_text()))
    assert result[0] == result[1]
    assert result[0]["calibration_error"]["value"] == result[2]["calibration_error"]["value"]
    assert result[0]["calibration_error"]["low"] != result[2]["calibration_error"]["low"]


def test_every_table_of_a_run_that_selected_on_the_test_split_is_marked(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rewrite(evaluated / "experiment.json", lambda settings: settings["train"].update(selection="test"))
    assert scmrl(monkeypatch, "evaluate", evaluated, "--bootstrap", "1") == 0
    mark = "(selected on the test split, as published)"
    assert capsys.readouterr().out.count(mark) == 5
    headings = [line for line in (evaluated / "evaluation.md").read_text().splitlines() if line.startswith("## ")]
    assert len(headings) == 5
    assert all(mark in heading for heading in headings)


@pytest.mark.parametrize(("split", "n", "mark"), [("val", 10, "selected the epoch"), ("train", 30, "training samples")])
def test_splits_used_in_training_are_marked(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, split: str, n: int, mark: str
):
    result = []
    for _ in range(2):
        assert scmrl(monkeypatch, "evaluate", evaluated, "--split", split, "--bootstrap", "1") == 0
        result.append(json.loads((evaluated / "evaluation.json").read_text()))
    assert result[0]["n"] == n
    assert mark in result[0]["mark"]
    assert result[0] == result[1]


def test_names_from_files_do_not_become_markup():
    from scmrl.console.tables import DataTable
    from scmrl.results.evaluation import markdown

    text = markdown("x", [], [DataTable("t", ("class", "n"), [("a|b\n# c <i>", "1")])])
    assert r"| a\|b \# c \<i\> | 1 |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bootstrap", "0"], "--bootstrap 0: confidence intervals need at least 1 resample"),
        (["--seed", "-1"], "--seed -1 is negative"),
        (["--json", "nowhere/x.json"], "there is no folder"),
        (["--split", "all"], "all"),
    ],
)
def test_mistakes_end_in_a_message(
    run: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, "evaluate", run, *options) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err
    assert not (run / "evaluation.json").exists()


def test_a_folder_that_is_not_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "evaluate", tmp_path) == 2
    assert "is not a run folder: it has no experiment.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
