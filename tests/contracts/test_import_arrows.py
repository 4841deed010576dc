"""The import contracts of the root pyproject.toml hold, and fail on an import that breaks them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "pyproject.toml"
LAYERS = "the application uses the libraries, fusion uses core, and nothing points back"
NO_SPIKES = "datasets knows nothing of spiking networks"
# The packages that these tests write have no layers inside.
BETWEEN_PACKAGES = ("--contract", "packages", "--contract", "no-spikes")
RUN_LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(cwd: Path, *contracts: str, **environment: str) -> tuple[int, str]:
    """Run import-linter with the real contracts; packages on PYTHONPATH come first."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_LINTER, "--config", CONFIG, "--no-cache", *contracts],
        cwd=cwd,
        # Wide, so that no name of a contract is wrapped.
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def write_packages(folder: Path, imports: dict[str, str]) -> None:
    """Write four packages with the real names, in which module `inner` of a package imports another package."""
    for package in ("scmrl", "snn_core", "snn_datasets", "snn_fusion"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
        inner = f"def late():\n    import {imports[package]}\n" if package in imports else ""
        (folder / package / "inner.py").write_text(inner)


def test_packages_keep_the_arrows(tmp_path: Path):
    status, output = lint(tmp_path)
    assert status == 0, output
    assert " 0 broken" in output


def test_arrows_that_are_allowed_pass(tmp_path: Path):
    write_packages(tmp_path, {"scmrl": "snn_fusion", "snn_fusion": "snn_core"})
    status, output = lint(tmp_path, *BETWEEN_PACKAGES, PYTHONPATH=str(tmp_path))
    assert status == 0, output


@pytest.mark.parametrize(
    ("source", "target", "contract"),
    [
        ("snn_core", "snn_fusion", LAYERS),
        ("snn_fusion", "snn_datasets", LAYERS),
        ("snn_datasets", "snn_fusion", LAYERS),
        ("snn_fusion", "scmrl", LAYERS),
        ("snn_datasets", "snn_core", NO_SPIKES),
    ],
)
def test_arrow_that_points_back_is_named(tmp_path: Path, source: str, target: str, contract: str):
    write_packages(tmp_path, {source: target})
    status, output = lint(tmp_path, *BETWEEN_PACKAGES, PYTHONPATH=str(tmp_path))
    assert status == 1, output
    assert f"{contract} BROKEN" in output
    assert f"{source}.inner -> {target}" in output
