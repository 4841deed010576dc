"""The dependencies of the package."""

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PACKAGES = Path(__file__).parents[3] / "packages"

PREPARE = """
import numpy as np, snn_datasets.digits.build, snn_datasets.manifest.build
from snn_datasets import Draw, Waveform
from snn_datasets.modalities.audio import Resample
from snn_datasets.stages.codings import LogMagnitude, LogMel

draw = Draw(seed=0, sample="a", modality="m")
wave = Resample(rate=16_000)(Waveform(np.ones((1, 4_000), np.float32), 8_000), draw)
print(wave.samples.shape, *(tuple(stage(wave, draw).shape) for stage in (LogMel(columns=4), LogMagnitude(columns=4))))
"""


def requirements(package: str) -> dict[str, Requirement]:
    project = tomllib.loads((PACKAGES / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {(r := Requirement(line)).name: r for line in project["dependencies"]}


def test_no_package_keeps_pytorch_from_moving():
    for package in ("snn-core", "snn-fusion", "snn-datasets"):
        requested = requirements(package)
        assert "2.15.0" in requested["torch"].specifier
        assert {r.operator for r in requested["torch"].specifier} == {">="}
        assert not {"torchaudio", "torchvision"} & requested.keys()


def test_a_torchaudio_that_cannot_be_imported_stops_nothing_by_default(tmp_path: Path):
    """As beside a PyTorch built for another CUDA version."""
    for name in ("torchaudio", "torchvision"):
        (tmp_path / f"{name}.py").write_text('raise RuntimeError("CUDA versions differ")\n')
    # The current folder comes first on the path of `python -c`.
    done = subprocess.run([sys.executable, "-c", PREPARE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["(1, 8000) (1, 64, 4) (1, 201, 4)"], done.stderr
