"""Own recordings from `data init` to the demo, using the printed commands."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from app.finished import scmrl
from app.machines import SPEEDS, write_machines
from app.serving import serve

LEAST_ALONE, LEAST_TOGETHER = 0.90, 0.95


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def printed_commands(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the printed commands without the program name."""
    lines = capsys.readouterr().out.splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("scmrl ")]


def only_run() -> Path:
    (run,) = Path("runs").iterdir()
    return run


def test_init_names_each_sensor_and_what_it_wrote_works_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_machines(tmp_path / "my machines", samples=18, missing=0.2)
    assert scmrl(monkeypatch, "data", "init", "my machines") == 0
    check, train = printed_commands(capsys)
    assert train == [*["train", "--data.kind", "manifest", "--data.root"], "my machines", "--data.modalities",
                     "audio,events,series"]  # fmt: skip
    rows = list(csv.DictReader(Path("my machines/manifest.csv").read_text().splitlines()))
    assert {Path(row["events"]).suffix for row in rows} == {".npy", ""}
    assert {Path(row["series"]).suffix for row in rows} == {".csv", ""}
    assert scmrl(monkeypatch, *check) == 0
    printed = capsys.readouterr().out
    assert "events: sensor of 32 x 32 pixels (height x width), 2 polarities" in printed
    assert "series: no column holds time, so rows are assumed evenly spaced" in printed
    assert "series: 200 rows become a window of 200 values" in printed
    assert "no problems" in printed


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_sensors_are_learned_with_the_commands_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
):
    write_machines(tmp_path / "machines", samples=60, seed=seed)
    assert scmrl(monkeypatch, "data", "init", "machines") == 0
    check, train = printed_commands(capsys)
    assert scmrl(monkeypatch, *check) == 0
    assert scmrl(monkeypatch, *train) == 0
    capsys.readouterr()
    run = only_run()
    assert scmrl(monkeypatch, "evaluate", run) == 0
    write_machines(tmp_path / "new", samples=90, seed=1000 + seed)
    assert scmrl(monkeypatch, "predict", run, "new", "--json") == 0
    assert accuracy(capsys) >= LEAST_TOGETHER
    first = next(Path("new/slow").glob("*.csv")).with_suffix("")
    for suffix in (".csv", ".wav", ".npy"):
        if first.with_suffix(suffix).exists():
            assert scmrl(monkeypatch, "predict", run, first.with_suffix(suffix)) == 0
    capsys.readouterr()
    assert scmrl(monkeypatch, "report", run) == 0
    with serve(run) as demo:
        for suffix in (".csv", ".wav", ".npy"):
            file = next(Path("new/fast").glob(f"*{suffix}"))
            sent = {"content-type": "application/octet-stream"}
            answer = demo.client.post("/api/clips", params={"name": file.name}, content=file.read_bytes(), headers=sent)
            assert answer.status_code == 201, answer.text
            assert answer.json()["faults"] == {}
            assert answer.json()["modalities"] == [{".csv": "series", ".wav": "audio", ".npy": "events"}[suffix]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_vibration_alone_is_learned_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
):
    write_machines(tmp_path / "machines", samples=60, seed=seed)
    assert scmrl(monkeypatch, "data", "init", "machines") == 0
    _, train = printed_commands(capsys)
    assert scmrl(monkeypatch, *train[:-1], "series") == 0
    capsys.readouterr()
    write_machines(tmp_path / "new", samples=90, seed=1000 + seed, missing=0)
    assert scmrl(monkeypatch, "predict", only_run(), "new", "--json") == 0
    assert accuracy(capsys) >= LEAST_ALONE


def accuracy(capsys: pytest.CaptureFixture[str]) -> float:
    """Return the fraction of clips whose predicted class is the name of their folder."""
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(answers) > 80
    assert {answer["class"] for answer in answers} <= set(SPEEDS)
    return float(np.mean([Path(next(iter(a["files"].values()))).parent.name == a["class"] for a in answers]))
