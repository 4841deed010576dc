"""A run's model as a file that other programs run: a PyTorch program (.pt2) or ONNX.

The neurons are operations of snn-core. In .pt2 and ONNX they are written out, step by step, in operations that every
PyTorch and every ONNX runtime has, so that neither needs snn-core.
"""

# PyTorch leaves the types of its exporter open; onnx and onnxruntime may not be there.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from snn_core import decompositions
from snn_datasets import Batch, Sample, SampleDataset, collate
from snn_fusion import Encoder, FusionModel

Inputs = dict[str, Tensor]
LogitsFunction = Callable[[Inputs], Tensor]
"""Inputs by modality -> logits [B, K]."""

SAMPLES = 64
"""Test samples on which the exported model is compared with the original."""
TOLERANCE = 1e-3
"""Tolerance of a logit; a sample with a larger difference counts as different."""
MAX_DIFFERENT = 0.05
"""Largest allowed fraction of different samples: a membrane potential at the threshold spikes or not depending on the
last bit, which other libraries round differently."""


class Logits(nn.Module):
    """The model as exporters need it: all modalities in, logits [B, K] out."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        """Inputs by modality, static [B, ...] or timed [T, B, ...] -> logits [B, K]."""
        return self.model(inputs).logits


def export_program(model: FusionModel, batch: Batch) -> ExportedProgram:
    """Export the model to PyTorch's built-in operations, for any batch size.

    Args:
        model: in evaluation mode, on the CPU.
        batch: at least 2 samples that have all modalities.
    """
    example = inputs_of(batch, model)
    size = Dim("batch", min=1)
    axes = {name: {_batch_axis(model, name, x): size} for name, x in example.items()}
    with torch.no_grad(), _without_warnings():
        exported = torch.export.export(Logits(model).eval(), (example,), dynamic_shapes=(axes,))
        return decompose_neurons(exported)


def decompose_neurons(exported: ExportedProgram) -> ExportedProgram:
    """Decompose the neuron operations into PyTorch's built-in operations."""
    return exported.run_decompositions(decompositions())


def save_pt2(exported: ExportedProgram, path: Path) -> None:
    """Write a file for `torch.export.load`."""
    # Written to memory first: on a full disk PyTorch's writer terminates the process.
    content = BytesIO()
    torch.export.save(exported, content)
    path.write_bytes(content.getbuffer())


def load_pt2(path: Path) -> LogitsFunction:
    """Load a stored program as a function."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda inputs: module(inputs)


def save_onnx(exported: ExportedProgram, path: Path, names: tuple[str, ...]) -> None:
    """Write an ONNX model with one input per modality and the output `logits`, for any batch size."""
    with torch.no_grad(), _without_warnings():
        converted: Any = torch.onnx.export(
            exported, dynamo=True, input_names=list(names), output_names=["logits"], verbose=False
        )
    path.write_bytes(converted.model_proto.SerializeToString())


def load_onnx(path: Path) -> LogitsFunction:
    """Load an ONNX model as a function, run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])


def require_onnx() -> None:
    """Check that the ONNX packages are installed.

    Raises:
        ImportError: they are not.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(f'ONNX needs {" and ".join(missing)}: pip install "scmrl-app[onnx]"')


def compare(exported: LogitsFunction, model: FusionModel, batch: Batch) -> tuple[float, int, int]:
    """Return the largest difference of a logit, the number of different samples, and the number compared.

    The exported model runs on two batches of different sizes, one of them a single sample.

    Raises:
        ValueError: more samples differ than rounding explains.
    """
    inputs = inputs_of(batch, model)
    with torch.no_grad():
        expected = model(inputs).logits
        sizes = [1, len(expected) - 1]
        split = {name: x.split(sizes, _batch_axis(model, name, x)) for name, x in inputs.items()}
        parts = [exported({name: x[part].contiguous() for name, x in split.items()}) for part in range(len(sizes))]
    difference = (torch.cat(parts) - expected).abs().amax(1)
    different, total = int((difference > TOLERANCE).sum()), len(expected)
    if not difference.isfinite().all() or different > MAX_DIFFERENT * total:
        raise ValueError(
            f"the exported model differs: {different} of {total} test samples by more than {TOLERANCE:g}, "
            f"the largest difference is {float(difference.max()):.2e}; nothing was written"
        )
    return float(difference.max()), different, total


def samples_of(dataset: SampleDataset) -> Batch:
    """Select up to `SAMPLES` samples that have every modality, spread over the dataset.

    Raises:
        ValueError: there are fewer than 2.
    """
    stride = max(1, len(dataset) // SAMPLES)
    order = [*range(0, len(dataset), stride), *(index for index in range(len(dataset)) if index % stride)]
    selected: list[Sample] = []
    for index in order:
        sample = dataset[index]
        if not sample.absent:
            selected.append(sample)
        if len(selected) == SAMPLES:
            break
    if len(selected) < 2:
        raise ValueError("fewer than 2 test samples have every modality, so the exported model cannot be verified")
    return collate(selected)


def inputs_of(batch: Batch, model: FusionModel) -> Inputs:
    """A batch's inputs in the order of the model's modalities."""
    return {name: batch["inputs"][name] for name in model.modalities}


def shapes_of(model: FusionModel, batch: Batch) -> str:
    """Describe the inputs of an exported model: `image [B, 1, 16, 16]`."""
    texts: list[str] = []
    for name, x in inputs_of(batch, model).items():
        axes = list(map(str, x.shape))
        axes[_batch_axis(model, name, x)] = "B"
        texts.append(f"{name} [{', '.join(axes)}]")
    return ", ".join(texts)


def _batch_axis(model: FusionModel, name: str, x: Tensor) -> int:
    encoder = model.encoders[name]
    assert isinstance(encoder, Encoder)
    return encoder.batch_axis(x)


@contextmanager
def _without_warnings() -> Generator[None, None, None]:
    """Suppress the exporters' warnings about their own deprecated code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
