"""Train and study S-CMRL and its relatives: spiking Transformers that fuse senses."""

from importlib.metadata import version as _version

__version__ = _version("scmrl-app")
