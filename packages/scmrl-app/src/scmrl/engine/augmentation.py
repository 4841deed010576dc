"""Random augmentation of training inputs, determined by seed, epoch and sample alone."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Generator, Tensor

from scmrl.config.experiment import TrainSpec
from snn_datasets import Batch, DatasetInfo, Draw, move_and_stretch


def augment(batch: Batch, info: DatasetInfo, options: TrainSpec, *, seed: int, epoch: int) -> dict[str, Tensor]:
    """Return the inputs of a batch with images [C, H, W] shifted and scaled and with noise on every modality.

    All time steps of a sample are transformed alike. Inputs that are not images are not shifted. The draw of a sample
    does not depend on its batch or rank.
    """
    inputs = dict(batch["inputs"])
    if options.augment_shift or options.augment_scale:
        inputs = _shift_and_scale(inputs, batch["ids"], info, options, seed, epoch)
    if options.noise_snr_db is not None:
        low, high = options.noise_snr_db
        for name, modality in info.modalities.items():
            x = inputs[name].clone()
            axis = 0 if modality.time_steps is None else 1
            for index, id_ in enumerate(batch["ids"]):
                generator = Draw(seed, id_, name, epoch, "training noise").generator()
                snr_db = low + (high - low) * float(torch.rand((), generator=generator))
                sample = x.select(axis, index)
                sample.copy_(white_noise(sample, snr_db, generator))
            inputs[name] = x
    return inputs


def white_noise(x: Tensor, snr_db: float, generator: Generator) -> Tensor:
    """Add white Gaussian noise to one sample of one modality; a sample of zeros stays zero.

    The noise has variance P / 10^(snr_db / 10), where P is the mean square over all elements of the sample.

    Args:
        x: the sample, of any shape.
        snr_db: power of the sample over that of the noise, in dB.
        generator: on the CPU; the same state gives the same noise at any ratio, only scaled.
    """
    level = x.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return x + level * torch.randn(x.shape, generator=generator).to(x)


def _shift_and_scale(
    inputs: dict[str, Tensor], ids: list[str], info: DatasetInfo, options: TrainSpec, seed: int, epoch: int
) -> dict[str, Tensor]:
    inputs = dict(inputs)
    for name, modality in info.modalities.items():
        if len(modality.shape) != 3:
            continue
        amounts = torch.stack(
            [torch.rand(2, 2, generator=Draw(seed, id_, name, epoch, "augment").generator()) for id_ in ids]
        )
        x = inputs[name]
        timed = modality.time_steps is not None
        moved = move_and_stretch(
            x.transpose(0, 1).flatten(1, 2) if timed else x,
            amounts * 2 - 1,
            shift=options.augment_shift,
            scale=options.augment_scale,
        )
        inputs[name] = moved.unflatten(1, (x.shape[0], -1)).transpose(0, 1) if timed else moved
    return inputs
