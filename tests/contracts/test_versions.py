"""The four packages share one version and carry the required files."""

import importlib
import importlib.metadata
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MODULES = {"scmrl-app": "scmrl", "snn-core": "snn_core", "snn-datasets": "snn_datasets", "snn-fusion": "snn_fusion"}

every_package = pytest.mark.parametrize("package", MODULES)


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


VERSION = project(ROOT)["version"]


def test_packages_holds_exactly_the_four():
    assert {path.name for path in (ROOT / "packages").iterdir() if not path.name.startswith(".")} == set(MODULES)


@every_package
def test_package_has_the_version_of_the_workspace(package: str):
    assert project(ROOT / "packages" / package)["version"] == VERSION


@every_package
def test_version_attribute_comes_from_the_metadata(package: str):
    module = importlib.import_module(MODULES[package])
    assert module.__version__ == importlib.metadata.version(package) == VERSION
    # The number must not be in the source as well, where the next release could miss it.
    assert VERSION not in Path(str(module.__file__)).read_text()


@every_package
def test_siblings_are_pinned_to_the_same_version(package: str):
    needs = project(ROOT / "packages" / package)
    lines = chain(needs.get("dependencies", []), *needs.get("optional-dependencies", {}).values())
    siblings = [line for line in map(Requirement, lines) if line.name in MODULES]
    assert {str(line.specifier) for line in siblings} <= {f"=={VERSION}"}


def test_the_application_pins_every_library():
    needs = {Requirement(line).name for line in project(ROOT / "packages" / "scmrl-app")["dependencies"]}
    assert set(MODULES) - {"scmrl-app"} <= needs


@every_package
def test_package_carries_its_types_readme_and_license(package: str):
    folder = ROOT / "packages" / package
    assert (folder / "src" / MODULES[package] / "py.typed").is_file()
    assert (folder / "README.md").is_file()
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
