"""The readers and encoders that a specification may name. Importing this loads none of them."""

from snn_datasets.reader import Reader
from snn_datasets.registry import Registry
from snn_datasets.stage import Stage

READERS: Registry[Reader] = Registry("reader", "snn_datasets.readers")
"""What reads a file, by `kind`; a field of a specification is `Annotated[Reader, READERS]`."""

ENCODERS: Registry[Stage] = Registry("encoder", "snn_datasets.encoders")
"""What turns a recording into a float tensor, by `kind`; a field is `Annotated[Stage, ENCODERS]`."""
