"""Train and study S-CMRL and related models: spiking Transformers that fuse modalities."""

from importlib.metadata import version as _version

__version__ = _version("scmrl-app")
