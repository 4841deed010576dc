"""Options of the whole test suite."""

import os
from pathlib import Path

import pytest
import torch


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
