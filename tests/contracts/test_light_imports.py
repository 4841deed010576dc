"""The libraries do not import optional or slow packages."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("torchvision", "torchaudio", "spikingjelly", "matplotlib", "sklearn", "nir", "h5py", "triton")

# Readers need these, and torch is slow to import: listing and checking datasets must not wait for them.
READER_PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "av",
    "h5py",
    "scipy",
    "soundfile",
    "PIL",
    "sklearn",
    "pyarrow",
)

# Names may be loaded on first use, so every one is read.
PUBLIC_NAMES = """
import snn_core, snn_fusion

for package in (snn_core, snn_fusion):
    for name in package.__all__:
        getattr(package, name)
"""

# pkgutil.walk_packages imports a package before it can be skipped. Heavy imports are allowed in `interop`, and the
# modules beside `triton/__init__.py` are Triton code.
SUBMODULES = """
import importlib, pkgutil, sys
import snn_core, snn_fusion

def load(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name.rpartition(".")[2] not in ("interop", "__main__"):
            loaded = importlib.import_module(module.name)
            if module.ispkg and not module.name.endswith(".triton"):
                load(loaded)

load(snn_core)
load(snn_fusion)
"""

DATASETS_AND_CARDS = """
from snn_datasets import DATASETS, DataSpec, DatasetCard, FileDataSpec
from snn_datasets.base import card_text, reader, stage
from snn_datasets import check

for kind in DATASETS:
    card_text.card_text(DATASETS[kind].card)
    DATASETS[kind].model_json_schema()
"""


def heavy_modules_after(code: str, cwd: Path, heavy: tuple[str, ...] = HEAVY) -> str:
    """Run the code in a new process; return the names of the heavy modules that it imported."""
    report = f"\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names_are_light(tmp_path: Path):
    assert heavy_modules_after(PUBLIC_NAMES, tmp_path) == ""


def test_every_submodule_outside_interop_is_light(tmp_path: Path):
    assert heavy_modules_after(SUBMODULES, tmp_path) == ""


def test_datasets_are_listed_without_their_readers(tmp_path: Path):
    assert heavy_modules_after("import snn_datasets", tmp_path, (*READER_PACKAGES, "numpy", "pydantic")) == ""
    assert heavy_modules_after(DATASETS_AND_CARDS, tmp_path, READER_PACKAGES) == ""


def test_training_starts_without_what_it_may_not_need(tmp_path: Path):
    """FSDP (with sympy), compilers and plots take longer to import than everything else together."""
    slow = ("torch.distributed.tensor", "torch._dynamo", "sympy", "matplotlib", "scipy", "sklearn", "tensorboard")
    assert heavy_modules_after("import scmrl.cli, scmrl.engine.train", tmp_path, slow) == ""


def test_a_heavy_module_would_be_noticed(tmp_path: Path):
    (tmp_path / "sklearn.py").touch()  # the current folder comes first on the path of `python -c`
    assert heavy_modules_after("import sklearn", tmp_path) == "sklearn"
