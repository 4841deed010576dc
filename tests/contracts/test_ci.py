"""The command that .ci/run runs is the one in the README."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = "uv run --group test pytest -n auto"


def test_ci_ends_with_the_test_command_of_the_readme():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == TESTS
    assert TESTS in [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]


def test_ci_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
