"""Commands without a run use the newest one."""

import os
import re
from pathlib import Path

import pytest

from app.finished import scmrl
from scmrl.run_folder.newest import run_or_newest


def make(folder: Path, *names: str, age: int = 0) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
        os.utime(folder / name, (1e9 - age, 1e9 - age))


def test_the_most_recently_finished_run_is_used_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    make(Path("runs/a"), "experiment.json", "summary.json", age=0)
    make(Path("runs/b"), "experiment.json", "summary.json", age=9)
    make(Path("runs/z"), "experiment.json")  # not finished
    make(Path("runs/y"), "summary.json")  # no run
    assert run_or_newest(None) == Path("runs/a")
    assert capsys.readouterr().err == "scmrl: no run was given; using the newest one, runs/a\n"
    assert run_or_newest(Path("runs/b")) == Path("runs/b")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["report", "demo", "explain", "energy", "evaluate"])
def test_without_any_run_a_command_says_what_to_do(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, command) != 0
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(r"no run was given, and .*runs holds no finished one; name the folder of a run", message)


def test_predict_requires_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    make(Path("runs/a"), "experiment.json", "summary.json")
    assert scmrl(monkeypatch, "predict") != 0
    assert "RUN" in capsys.readouterr().err
