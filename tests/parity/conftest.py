"""The parity tests run on the arrays in `data/`; --golden-dir names a folder with more cases of the same kind."""

from pathlib import Path

import pytest

from parity.golden import DATA


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for kind in ("neuron", "part", "alignment", "model"):
        if f"{kind}_case" in metafunc.fixturenames:
            folder: Path = metafunc.config.getoption("--golden-dir") or DATA
            prefixes = {
                "part": ("mlp", "self_attention", "cross_", "block_", "patch_"),
                "model": ("model_scmrl", "model_spatial", "model_temporal", "model_add", "model_concat"),
            }.get(kind, (kind,))
            names = sorted(path.stem for path in folder.glob("*.npz") if path.stem.startswith(prefixes))
            assert names, f"no golden arrays in {folder}"
            metafunc.parametrize(f"{kind}_case", [(name, folder) for name in names], ids=names)
