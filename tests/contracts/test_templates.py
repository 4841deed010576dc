"""The templates of CONTRIBUTING work: each is copied into a copy of the repository, and conformance tests run on it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^### (?P<title>.+?)\n(?P<text>.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)
STEP = re.compile(
    r"(?P<how>[Nn]ew file|[Aa]t the end of|[Ii]n) `(?P<path>[^`\n]+)`"
    r"(?:, after the line with\s`(?P<line>[^`\n]+)`)?:\n\n```(?:py|toml|text)\n(?P<code>.*?)```",
    re.DOTALL,
)
CODE = ("packages/", "examples/")


class Case(NamedTuple):
    """A template of CONTRIBUTING: how many files it may take, and the tests that it must pass."""

    files: int
    tests: tuple[str, ...]


CASES = {
    "Neuron": Case(6, ("tests/fusion/test_conformance.py", "-k", "every_neuron and qif")),
    "Fusion method": Case(2, ("tests/fusion/test_conformance.py", "-k", "context and not (compiler or mixed)")),
    "Encoder": Case(2, ("tests/fusion/test_conformance.py", "-k", "every_encoder and spans")),
    "Dataset": Case(2, ("tests/datasets/datasets/test_conformance.py", "-k", "leaves")),
    "Study": Case(3, ("tests/app/study/test_study_kinds.py", "-k", "latency")),
}


def template(title: str) -> list[dict[str, str]]:
    """Return the steps of a template: how, path, line and code."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding things\n")[2]
    sections = {match["title"]: match["text"] for match in SECTION.finditer(text)}
    steps = [step.groupdict() for step in STEP.finditer(sections[title])]
    assert len(steps) == sections[title].count("\n```") / 2, f"{title}: a block of code does not say where it belongs"
    return steps


def apply(step: dict[str, str], root: Path) -> None:
    """Do what one step tells."""
    path = root / step["path"]
    if step["how"].lower() == "new file":
        assert not path.exists(), f"{path} exists already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["code"], encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if step["line"]:
        lines = text.splitlines(keepends=True)
        matches = [number for number, line in enumerate(lines) if step["line"] in line]
        assert len(matches) == 1, f"{len(matches)} lines of {step['path']} contain {step['line']!r}"
        text = "".join([*lines[: matches[0] + 1], step["code"], *lines[matches[0] + 1 :]])
    else:
        text += "\n\n" + step["code"]
    path.write_text(text, encoding="utf-8")


def write_entry_points(root: Path) -> None:
    """Write the metadata of each package beside its module, where it hides that of the installed one."""
    for project in root.glob("packages/*/pyproject.toml"):
        settings = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        folder = project.parent / "src" / f"{settings['name'].replace('-', '_')}-{settings['version']}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.3\nName: {settings['name']}\nVersion: {settings['version']}\n", encoding="utf-8"
        )
        lines: list[str] = []
        for group, entries in settings.get("entry-points", {}).items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the files that git tracks, or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


@pytest.mark.slow
@pytest.mark.needs("git")
@pytest.mark.parametrize("title", CASES)
def test_a_template_passes_the_conformance_tests(title: str, copy: Path):
    for step in template(title):
        apply(step, copy)
    write_entry_points(copy)
    sources = os.pathsep.join(str(path) for path in sorted(copy.glob("packages/*/src")))
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *CASES[title].tests]
    completed = subprocess.run(
        command, cwd=copy, env=os.environ | {"PYTHONPATH": sources}, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-1000:]
    assert " passed" in completed.stdout


@pytest.mark.parametrize("title", CASES)
def test_a_template_takes_few_files(title: str):
    files = {step["path"] for step in template(title) if step["path"].startswith(CODE)}
    assert 0 < len(files) <= CASES[title].files
