"""The libraries load nothing that only some of their users have or want."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("torchvision", "torchaudio", "spikingjelly", "matplotlib", "sklearn", "nir", "h5py", "triton")

# What reads recordings, and torch itself: a command line lists and checks datasets without waiting for them.
OF_RECORDINGS = ("torch", "torchvision", "torchaudio", "av", "h5py", "scipy", "soundfile", "PIL", "sklearn", "pyarrow")

# Names may be loaded on first use: ask for every one.
PUBLIC_NAMES = """
import snn_core, snn_fusion

for package in (snn_core, snn_fusion):
    for name in package.__all__:
        getattr(package, name)
"""

# pkgutil.walk_packages imports a package before one can say no to it; `interop` is where the heavy imports may be, and
# the modules beside `triton/__init__.py` are Triton code.
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
from snn_datasets import card_text, check, reader, stage

for kind in DATASETS:
    card_text.describe(DATASETS[kind].card())
    DATASETS[kind].model_json_schema()
"""


def heavy_modules_after(code: str, cwd: Path, heavy: tuple[str, ...] = HEAVY) -> str:
    """Run the code in a Python of its own; tell what is heavy of all it loaded and, if it failed, why."""
    tell = f"\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + tell],
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


def test_the_datasets_are_known_without_what_reads_them(tmp_path: Path):
    assert heavy_modules_after("import snn_datasets", tmp_path, (*OF_RECORDINGS, "numpy", "pydantic")) == ""
    assert heavy_modules_after(DATASETS_AND_CARDS, tmp_path, OF_RECORDINGS) == ""


def test_a_heavy_module_would_be_noticed(tmp_path: Path):
    (tmp_path / "sklearn.py").touch()  # the current folder comes first on the path of `python -c`
    assert heavy_modules_after("import sklearn", tmp_path) == "sklearn"
