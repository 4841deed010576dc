"""A thousand classes: outputs of a run stay small, and a result does not depend on its figures."""

import json
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from app.finished import finished_run, scmrl
from app.tiny import write_tiny_dataset
from scmrl.commands.evaluate import rich_table
from scmrl.console.tables import DataTable, escape_markdown, first_and_last
from scmrl.energy.output import print_tables
from scmrl.engine import metrics
from scmrl.report import summary
from scmrl.results.evaluation import markdown, tables
from scmrl.results.run import EvaluationFile

CLASSES = 1000


def confusion() -> np.ndarray:
    """Return three samples per class; class 17 is predicted as class 900, and most of class 5 as class 6."""
    counts = 3 * np.eye(CLASSES, dtype=np.int64)
    counts[17, 17], counts[17, 900] = 0, 3
    counts[5, 5], counts[5, 6] = 1, 2
    return counts


def evaluation() -> dict[str, Any]:
    """Return the evaluation.json of a model with that confusion matrix."""
    counts = confusion()
    score = {"value": 0.99, "low": 0.98, "high": 1.0}
    scores = {"accuracy": score, "macro_f1": score, "calibration_error": score}
    return {
        "format_version": 1,
        "data": "many",
        "split": "test",
        "n": int(counts.sum()),
        "selection": "best",
        "mark": "",
        "notes": [],
        "bootstrap": {"resamples": 1000, "seed": 0, "level": 0.95},
        "loss": 0.1,
        **scores,
        "classes": [
            {"class": f"class {index}", "precision": s.precision, "recall": s.recall, "f1": s.f1, "samples": s.support}
            for index, s in enumerate(metrics.class_scores(counts))
        ],
        "confusion": counts.tolist(),
        "subsets": [{"modalities": ["image", "audio"], "without": [], **scores, "blank": 0}],
        "rates": {"encoders.image.stages.0": 0.1},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    (folder / "data").mkdir()
    return finished_run(write_tiny_dataset(folder / "data", train=24, test=6), folder / "run")


def test_the_tables_of_an_evaluation_show_the_extremes():
    file = EvaluationFile.model_validate(evaluation())
    _, classes, mistakes, *_ = tables(file)
    assert len(classes.rows) == 60
    assert [row[0] for row in classes.rows[:3]] == ["class 17", "class 5", "class 900"]
    assert "940 more are in evaluation.json" in classes.title
    assert mistakes.rows == [("class 17", "class 900", "3", "100.00%"), ("class 5", "class 6", "2", "66.67%")]
    assert len(markdown(file.data, file.notes, tables(file))) < 20_000


@pytest.mark.slow
def test_the_page_of_a_run_stays_small(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copied = Path(shutil.copytree(run, tmp_path / "copy"))
    (copied / "evaluation.json").write_text(json.dumps(evaluation()))
    summary_content = json.loads((copied / "summary.json").read_text())
    summary_content |= {
        "classes": [f"class {index}" for index in range(CLASSES)],
        "test": summary_content["test"] | {"confusion": confusion().tolist()},
    }
    (copied / "summary.json").write_text(json.dumps(summary_content))
    (copied / "model.safetensors").unlink()  # of two classes
    start = time.monotonic()
    tracemalloc.start()
    try:
        assert scmrl(monkeypatch, "report", copied, "--out", tmp_path / "page.html") == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 500_000
    assert peak < 400e6
    assert "the other 940 are in evaluation.json" in page
    assert "class 17" in page
    assert "class 555" not in page
    print(f"{time.monotonic() - start:.1f} s, {peak / 1e6:.0f} MB")


def test_the_summary_is_written_when_a_figure_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(*_: object, **_more: object) -> Figure:
        raise MemoryError

    monkeypatch.setattr(summary, "confusion_figure", fails)
    out = tmp_path / "run"
    (tmp_path / "data").mkdir()
    finished_run(write_tiny_dataset(tmp_path / "data", train=24, test=6), out)
    assert json.loads((out / "summary.json").read_text())["test"]["n"] == 6
    text = (out / "summary.txt").read_text()
    assert "warning: confusion.png was not drawn: MemoryError" in text
    assert "the figures curves.png, firing_rates.png" in text
    assert "confusion.png was not drawn" in capsys.readouterr().out
    assert (out / "curves.png").is_file()


def test_the_macro_f1_is_that_of_the_whole_matrix():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 300, 500), rng.integers(0, 300, 500)
    labels[:200] = predicted[:200]
    predictions = metrics.Predictions(labels, predicted, np.ones(500))
    counts = metrics.confusion(predictions, 300)
    occurs = counts.sum(0) + counts.sum(1) > 0
    expected = np.mean([s.f1 for s, counted in zip(metrics.class_scores(counts), occurs, strict=True) if counted])
    assert metrics.macro_f1(predictions) == pytest.approx(float(expected), abs=1e-12)


def test_a_resample_of_many_classes_allocates_no_confusion_matrix():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 3000)
    predictions = metrics.Predictions(labels, labels, np.ones(3000))
    tracemalloc.start()
    try:
        metrics.macro_f1(predictions)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # the matrix would take 8 MB


def test_confused_pairs_are_ranked_by_count():
    pairs = metrics.confused_pairs([[5, 2, 0], [2, 1, 7], [0, 0, 0]], limit=2)
    assert pairs == [metrics.ConfusedPair(1, 2, 7, 10), metrics.ConfusedPair(0, 1, 2, 7)]
    assert metrics.confused_pairs([[1, 0], [0, 1]], limit=5) == []


def test_rows_in_the_middle_are_omitted():
    assert first_and_last(5, 6) == [0, 1, 2, 3, 4]
    assert first_and_last(100, 6) == [0, 1, 2, 3, 98, 99]


def test_names_are_escaped_in_markdown():
    assert escape_markdown("a\nb\x1b[2J| <i>") == r"a b\\x1b\[2J\| \<i\>"


def test_class_names_are_escaped_in_terminal_tables(capsys: pytest.CaptureFixture[str]):
    block = DataTable("a\x1b[2Jtitle", ("class\x1b[1m", "n"), [("evil\x1b]0;owned\x07", "1")])
    print_tables([block], Console(width=100))
    Console(width=100).print(rich_table(block))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\x07" not in output
    assert output.count(r"evil\x1b]0;owned\x07") == 2
