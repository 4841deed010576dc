"""The help of every command is what was committed, so that no option comes, goes or changes unseen.

Write the texts again and review the changes:

    SCMRL_WRITE_HELP=1 pytest tests/app/commands/test_help.py
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from app.finished import scmrl
from scmrl import cli
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import options_of
from scmrl.study.kinds import KINDS

FOLDER = Path(__file__).parent / "help"


def commands(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands below an app, as tuples of words."""
    yield above
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], (*above, name))


TOPICS = [("train", topic) for topic in ("data", "data.manifest", "model.fusion", "recipes", "files", "all")]
"""Commands with a topic after --help."""
COMMANDS = [*commands(cli.app), *TOPICS]


def file_of(command: tuple[str, ...]) -> Path:
    return FOLDER / ("-".join(("scmrl", *command)) + ".txt")


PRINT_ALL = """
import contextlib, io, json, sys
from scmrl import cli

texts = {}
commands, topics = map(json.loads, sys.argv[1:])
for command in commands:
    words = " ".join(command)
    topic = [command.pop()] if command in topics else []
    sys.argv = ["scmrl", *command, "--help", *topic]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main()
    texts[words] = out.getvalue()
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """Help text of each command, printed in a separate process because the terminal width is read once.

    Blanks at the ends of lines, which editors take away, do not count.
    """
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    words = [json.dumps(COMMANDS), json.dumps(TOPICS)]
    done = subprocess.run([sys.executable, "-c", PRINT_ALL, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    return {
        command: "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"
        for command, text in texts.items()
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(("scmrl", *command)))
def test_help_is_as_committed(command: tuple[str, ...], help_texts: dict[str, str]):
    text = help_texts[" ".join(command)]
    if os.environ.get("SCMRL_WRITE_HELP"):
        FOLDER.mkdir(exist_ok=True)
        file_of(command).write_text(text, encoding="utf-8")
    renew = "if intended, run `SCMRL_WRITE_HELP=1 pytest tests/app/commands/test_help.py` and commit the folder help"
    assert file_of(command).is_file(), f"{file_of(command).name} is not there; {renew}"
    assert text == file_of(command).read_text(encoding="utf-8"), renew


def test_removed_commands_leave_no_help():
    assert {path.name for path in FOLDER.iterdir()} == {file_of(command).name for command in COMMANDS}


def test_help_has_no_truncated_line():
    for command in COMMANDS:
        text = file_of(command).read_text(encoding="utf-8")
        assert "…" not in text, command
        assert max(map(len, text.splitlines())) <= 100, command


SCREEN = 60


@pytest.mark.parametrize(
    "command", [("train",), *(("study", kind) for kind in KINDS)], ids=lambda command: " ".join(command)
)
def test_help_fits_one_screen_of_80_columns_and_leads_to_the_rest(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "80")
    assert scmrl(monkeypatch, *command, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Examples:" in text or "Example:" in text
    for topic in re.findall(r"scmrl train --help (\S+)", text):
        assert scmrl(monkeypatch, "train", "--help", topic) == 0
        assert capsys.readouterr().out.strip()
    assert len(set(re.findall(r"scmrl train --help (\S+)", text))) == 8


def test_the_examples_and_the_common_options_are_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "train", "--help") == 0
    text = capsys.readouterr().out
    examples = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  scmrl train ")]
    for example in [line for line in examples if "--help" not in line]:
        assert scmrl(monkeypatch, "spec", "show", *shlex.split(example)[2:]) == 0
    known = {option.name for option in options_of(Experiment)}
    common = re.findall(r"^  (--[\w.]+)", text, re.MULTILINE)
    assert len(common) >= 10
    assert set(common) <= known
    assert re.search(r"--train.learning_rate X .*\[0.02\]", text)


@pytest.mark.parametrize(
    ("topic", "some", "none"),
    [
        ("data.manifest", ["--data.root", "--data.manifest", "--data.columns.<name>"], ["--data.protocol", "--train."]),
        ("data", ["--data.kind", "data.crema-d", "--data.modalities"], ["--data.columns"]),
        ("data.crema-d", ["--data.protocol"], ["--data.columns."]),
        ("model.fusion.ccssa", ["--model.fusion.alpha"], ["--model.channels"]),
        ("train", ["--train.epochs", "--train.device"], ["--model."]),
        ("train.batch-size", ["--train.batch_size"], ["--train.epochs"]),
        ("seed", ["--seed"], ["--out"]),
        ("model.encoders.audio", ["--model.encoders.audio.kind"], ["--model.channels"]),
        ("recipes", ["scmrl-cremad-published"], ["--train.epochs"]),
    ],
)
def test_a_topic_lists_its_options_and_no_others(
    topic: str, some: list[str], none: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "train", "--help", topic) == 0
    output = capsys.readouterr().out
    assert not [text for text in some if text not in output]
    assert not [text for text in none if text in output]


def test_help_may_follow_other_arguments_and_take_its_topic_after_an_equals_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "train", "three-modalities", "--train.epochs", "3", "--help") == 0
    assert "Common options" in capsys.readouterr().out
    assert scmrl(monkeypatch, "train", "--help=train.epochs") == 0
    assert "--train.epochs" in capsys.readouterr().out


def test_a_study_explains_its_own_options_in_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert scmrl(monkeypatch, "study", "tune", "--help", "trials") == 0
    assert "Number of settings to try" in capsys.readouterr().out


def test_an_unknown_topic_suggests_the_nearest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert scmrl(monkeypatch, "train", "--help", "train.epoch") == 2
    error = capsys.readouterr().err
    assert "--help train.epoch: no such topic (did you mean train.epochs?); there are: data, model, train" in error
