"""Train and study S-CMRL and its relatives: spiking Transformers that fuse senses."""

from importlib.metadata import version

__version__ = version("scmrl-app")
