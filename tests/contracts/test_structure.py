"""Modules do not import each other in circles (except for types), and no folder holds more than fifteen of them."""

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("snn_core", "snn_fusion", "snn_datasets", "scmrl")
MOST_MODULES = 15


def import_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return one circle of modules, the first of them repeated at the end; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_import_circle(package: str):
    # At the top and inside functions. Those under TYPE_CHECKING never run: `build.py` names the type of the spec whose
    # `build` imports it.
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    circle = import_circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    assert not circle, " -> ".join(circle)


def test_a_circle_is_noticed():
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert len(import_circle({"a": {"b"}, "b": {"a"}, "c": set()})) == 3


def test_no_folder_holds_more_than_fifteen_modules():
    modules = [path for path in ROOT.glob("packages/*/src/**/*.py") if path.name != "__init__.py"]
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in modules)
    assert {folder: number for folder, number in folders.items() if number > MOST_MODULES} == {}
