"""Options of the whole test suite."""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

if (workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT")) is not None:
    # Before PyTorch is loaded: processes of `-n auto` share the cores instead of each taking all of them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest
import torch

from requirements import REQUIREMENTS, missing

NO_COMPILER = "no C compiler is on PATH"
"""What snn-core says where its native code was asked for and cannot be built."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=None,
        help="run the parity tests on the golden arrays in this folder instead of those in tests/parity/data",
    )


@pytest.fixture(autouse=True, scope="session")
def _caches_apart_from_the_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["SNN_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of a GPU unless the expression of -m names them: `-m slow` alone must pass without one."""
    if "gpu" in config.option.markexpr:
        return
    deselected = [item for item in items if item.get_closest_marker("gpu")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test before its fixtures run, or fail it where CI is set, if a program that it needs is missing."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if reason := missing(name):
                _skip_or_fail(reason)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Treat a test of the native code like any other that needs a program."""
    try:
        return (yield)
    except ValueError as error:
        if NO_COMPILER not in str(error) or (reason := missing("compiler")) is None:
            raise
        _skip_or_fail(reason)


def _skip_or_fail(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so nothing is skipped)", pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line a program how many tests were skipped for want of it, and how to install it."""
    skipped = Counter[str]()
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        skipped.update(name for name, each in REQUIREMENTS.items() if reason.startswith(f"no {each.program};"))
    for name, count in skipped.items():
        terminalreporter.write_line(f"{count} tests were skipped: {missing(name)}", yellow=True)
