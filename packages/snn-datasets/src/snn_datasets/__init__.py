"""Multimodal datasets for spiking networks: files on disk become batches by modality.

The public names are listed in `__init__.pyi` and loaded on first use, so that working with specs never imports PyTorch.
"""

from importlib.metadata import version

from snn_datasets.base.lazy_exports import lazy_exports

__version__ = version("snn-datasets")

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
