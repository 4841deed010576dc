"""What the package asks to be installed with it."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2] / "packages" / "snn-datasets" / "pyproject.toml"


def test_no_torch_is_asked_for_that_torchaudio_refuses():
    """torchaudio 2.11 raises an error when it is imported beside PyTorch 2.15."""
    asked = {(r := Requirement(line)).name: r for line in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]}
    assert "2.11.0" in asked["torchaudio"].specifier
    assert "2.14.1" in asked["torch"].specifier
    assert "2.15.0" not in asked["torch"].specifier
