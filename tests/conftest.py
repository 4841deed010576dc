"""Options of the whole test suite."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=None,
        help="run the parity tests on the golden arrays in this folder instead of those in tests/parity/data",
    )
