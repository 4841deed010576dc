"""Load the public names of a package on first use.

The package's `__init__.pyi` lists them, as lines `from package.module import Name as Name`. Type checkers read that
file, and so does `lazy_exports`:

    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def lazy_exports(package: str, init_file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose stub lists its public names.

    Args:
        package: the package's `__name__`.
        init_file: the package's `__file__`, beside its stub.
    """
    stub = ast.parse(Path(init_file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom) and node.module]
    module_of = {alias.name: node.module for node in imports for alias in node.names if alias.asname == alias.name}
    names = sorted(module_of)

    def load(name: str) -> object:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    def list_names() -> list[str]:
        return ["__all__", "__doc__", "__file__", "__name__", "__path__", "__version__", *names]

    return load, list_names, names
