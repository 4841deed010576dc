"""The help of every command is what was committed, so that no option comes, goes or changes unseen.

Write the texts anew, and look through what changed:

    SCMRL_WRITE_HELP=1 pytest tests/app/test_help.py
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from scmrl import cli

FOLDER = Path(__file__).parent / "help"


def commands(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command below an app, by its words."""
    yield above
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], (*above, name))


COMMANDS = list(commands(cli.app))


def file_of(command: tuple[str, ...]) -> Path:
    return FOLDER / ("-".join(("scmrl", *command)) + ".txt")


PRINT_ALL = """
import contextlib, io, json, sys
from scmrl import cli

shown = {}
for command in json.loads(sys.argv[1]):
    sys.argv = ["scmrl", *command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main()
    shown[" ".join(command)] = out.getvalue()
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """What each command prints for --help, in a Python of its own, as the width of a terminal is asked for once.

    Blanks at the ends of lines, which editors take away, do not count.
    """
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    words = json.dumps(COMMANDS)
    done = subprocess.run([sys.executable, "-c", PRINT_ALL, words], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    return {
        command: "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"
        for command, text in texts.items()
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(("scmrl", *command)))
def test_help_is_as_committed(command, shown):
    text = shown[" ".join(command)]
    if os.environ.get("SCMRL_WRITE_HELP"):
        FOLDER.mkdir(exist_ok=True)
        file_of(command).write_text(text, encoding="utf-8")
    renew = "if the change is meant, run `SCMRL_WRITE_HELP=1 pytest tests/app/test_help.py` and commit tests/app/help"
    assert file_of(command).is_file(), f"{file_of(command).name} is not there; {renew}"
    assert text == file_of(command).read_text(encoding="utf-8"), renew


def test_no_help_is_left_of_a_command_that_is_gone():
    assert {path.name for path in FOLDER.iterdir()} == {file_of(command).name for command in COMMANDS}


def test_help_has_no_line_that_is_cut_short():
    for command in COMMANDS:
        text = file_of(command).read_text(encoding="utf-8")
        assert "…" not in text, command
        assert max(map(len, text.splitlines())) <= 100, command
