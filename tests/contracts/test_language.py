"""Names and texts use the plain words of the field: tools/language.py lists none of its words."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKER = ROOT / "tools" / "language.py"


def check(*arguments: str | Path) -> tuple[int, list[str]]:
    """Run the checker; return its exit code and its lines."""
    completed = subprocess.run([sys.executable, CHECKER, *arguments], capture_output=True, text=True, check=False)
    assert not completed.stderr, completed.stderr
    return completed.returncode, completed.stdout.splitlines()


def test_the_repository_has_none_of_the_words():
    status, lines = check()
    assert status == 0, "\n".join(lines)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    ("code", "line", "word"),
    [
        ("kept = 1\n", 1, "kept"),
        ("def f(place: int) -> None: ...\n", 1, "place"),
        ("class A:\n    def says(self) -> None: ...\n", 2, "says"),
        ('"""Reads.\n\nWhat is wrong is told.\n"""\n', 3, "is told"),
        ("x = f'{1} samples lack a sense'\n", 1, "sense"),
        ("x = {'senses': 1}\n", 1, "senses"),
        ("x = 1  # the loop goes on\n", 1, "goes on"),
        ("# Colours of the plot\n", 1, "colours"),
        ("x = 'Initialise the model'\n", 1, "initialise"),
    ],
)
def test_a_word_of_the_list_is_reported(repository: Path, code: str, line: int, word: str):
    (repository / "module.py").write_text(code)
    status, lines = check("--root", repository)
    assert status == 1
    assert [text.split(": write")[0] for text in lines] == [f"module.py:{line}: {word!r}"]


@pytest.mark.needs("git")
def test_two_classes_of_a_package_with_one_name_are_reported(repository: Path):
    for path in ("packages/a/one.py", "packages/a/two.py", "packages/b/three.py"):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text("class Options: ...\n")
    status, lines = check("--root", repository)
    assert status == 1
    assert lines == ["packages/a/two.py:1: 'Options': write another name: packages/a/one.py has this class too"]
