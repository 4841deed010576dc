"""Run the parity tests on the arrays in `data/`, or on those in the folder of --golden-dir."""

from pathlib import Path

import pytest

from parity.golden import DATA


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden-dir") or DATA
        names = sorted(path.stem for path in folder.glob("*.npz"))
        assert names, f"no golden arrays in {folder}"
        metafunc.parametrize("golden_case", [(name, folder) for name in names], ids=names)
