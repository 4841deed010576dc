"""What the packages show: their public names, each of which is what it was defined as."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import scmrl
import snn_core
import snn_datasets
import snn_fusion


@pytest.mark.parametrize("package", [snn_core, snn_fusion, snn_datasets], ids=lambda package: package.__name__)
def test_dir_lists_public_names_alone(package: ModuleType):
    public = [name for name in dir(package) if not name.startswith("__")]
    assert public == sorted(name for name in package.__all__ if not name.startswith("__"))


def test_the_application_shows_no_imports():
    assert not {"version", "annotations", "Any", "TYPE_CHECKING"} & set(dir(scmrl))


@pytest.mark.parametrize("package", [snn_core, snn_fusion, snn_datasets], ids=lambda package: package.__name__)
def test_no_submodule_takes_the_place_of_a_public_name(package: ModuleType):
    # Importing a submodule sets an attribute of its name on the package, over a function of that name.
    submodules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not submodules & set(package.__all__)


def test_a_public_function_stays_one_once_it_was_used():
    importlib.import_module("snn_fusion.layer_health")
    for _ in range(2):
        assert callable(snn_fusion.health)
        assert callable(snn_fusion.load_weights)
