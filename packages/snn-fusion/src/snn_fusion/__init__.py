"""Fuse any number of modalities in a spiking neural network, from typed specs or module by module.

The public names are listed in `__init__.pyi` and loaded on first use, so that working with specs never imports PyTorch.
"""

from importlib.metadata import version

from snn_fusion.lazy_exports import lazy_exports

__version__ = version("snn-fusion")

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
