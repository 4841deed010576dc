"""The leaky integrate-and-fire neuron in C on the CPU; the code is in `native.c`."""

from __future__ import annotations

from pathlib import Path

from snn_core.ops.common.native import NativeNeuron
from snn_core.ops.lif.constants import LIFConstants

KERNELS = NativeNeuron(
    Path(__file__).with_name("native.c"),
    "lif",
    states=1,
    constants=LIFConstants,
    # For the gaps of all steps, which are computed again from the saved input.
    needs_buffer=lambda call, learned: call.save == "x",
)
