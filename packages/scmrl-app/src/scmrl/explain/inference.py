"""Run a model many times on variants of one sample."""

# PyTorch leaves some of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from snn_fusion import Encoder, FusionModel, FusionOutput, Presence


def encoder_of(model: FusionModel, name: str) -> Encoder:
    """Return the encoder of a modality."""
    encoder = model.encoders[name]
    assert isinstance(encoder, Encoder)
    return encoder


def repeat_sample(model: FusionModel, name: str, x: Tensor, count: int) -> Tensor:
    """Expand a modality's batch of one, [1, ...] or [T, 1, ...], to `count` copies."""
    axis = encoder_of(model, name).batch_axis(x)
    return x.expand(*x.shape[:axis], count, *x.shape[axis + 1 :])


def run_model(model: FusionModel, inputs: Mapping[str, Tensor], present: Presence | None = None) -> FusionOutput:
    """Run the model on inputs by modality, with a fixed random seed."""
    with _fixed_seed(inputs):
        return model(inputs, present)


def logits_from_tokens(model: FusionModel, tokens: Mapping[str, Tensor]) -> Tensor:
    """Return the logits [B, K] for tokens [T, B, N, C] by modality, all present, with a fixed random seed."""
    with _fixed_seed(tokens):
        return model.readout(model.fusion(dict(tokens))).logits


@contextmanager
def _fixed_seed(tensors: Mapping[str, Tensor]) -> Generator[None, None, None]:
    """Seed the random state within the block: some fusion methods draw random numbers in evaluation mode, too."""
    devices = sorted({x.device.index for x in tensors.values() if x.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        yield


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of logits [B, K] in float64."""
    return logits.double().softmax(1)
