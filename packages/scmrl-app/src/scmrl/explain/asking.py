"""Ask a model the same question many times, each time with something else about it."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from snn_fusion import Encoder, FusionModel, FusionOutput, Presence


def encoder_of(model: FusionModel, name: str) -> Encoder:
    """A modality's encoder."""
    encoder = model.encoders[name]
    assert isinstance(encoder, Encoder)
    return encoder


def repeated(model: FusionModel, name: str, x: Tensor, count: int) -> Tensor:
    """A modality's batch of one [1, ...] or [T, 1, ...], `count` times."""
    axis = encoder_of(model, name).batch_axis(x)
    return x.expand(*x.shape[:axis], count, *x.shape[axis + 1 :])


def asked(model: FusionModel, inputs: Mapping[str, Tensor], present: Presence | None = None) -> FusionOutput:
    """What the model gives for raw inputs by modality."""
    with _same_numbers(inputs):
        return model(inputs, present)


def answered(model: FusionModel, tokens: Mapping[str, Tensor]) -> Tensor:
    """The class scores [B, K] for tokens [T, B, N, C] of modalities that are there for all samples."""
    with _same_numbers(tokens):
        return model.readout(model.fusion(dict(tokens))).logits


@contextmanager
def _same_numbers(tensors: Mapping[str, Tensor]) -> Generator[None, None, None]:
    """Some methods draw random numbers in evaluation, too; within the block they are the same ones each time."""
    devices = sorted({x.device.index for x in tensors.values() if x.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        yield


def chances(logits: Tensor) -> Tensor:
    """The probabilities [B, K] in float64."""
    return logits.double().softmax(1)
