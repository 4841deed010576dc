"""The adaptive neuron in C on the CPU; the code is in `native.c`."""

from __future__ import annotations

from pathlib import Path

from snn_core.ops.alif.constants import ALIFConstants
from snn_core.ops.common.native import NativeNeuron

KERNELS = NativeNeuron(
    Path(__file__).with_name("native.c"),
    "alif",
    states=2,
    constants=ALIFConstants,
    # For the adaptation of all steps.
    needs_buffer=lambda call, learned: learned or not (call.detach_reset or call.soft_reset),
)
