"""One folder per operation: the entry point in `__init__.py`, equations in `reference.py`, implementations beside.

A call of a neuron passes through these, each of which adds one thing:

| step | where | what it adds |
|---|---|---|
| `LIF.forward` | `neurons/lif.py` | constants from parameters, the options of the module as a `NeuronCall` |
| `NeuronOperation.__call__` | `common/operation.py` | checks; potentials relative to the resting potential |
| `_Eager`, or `torch.ops.snn_core.lif` while compiling | `common/operation.py` | what is saved for the backward |
| `load_kernels` | `common/implementation.py` | the implementation for device and dtype |
| `torch_kernels.py`, `native.py` and `native.c`, or `triton/` | the operation's folder | the numbers |

`implementation="torch"` names the first of the last row, `"native"` the second, `"triton"` the third. All take the same
arrays and save the same tensors.
"""
