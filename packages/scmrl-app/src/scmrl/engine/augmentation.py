"""What is varied in training pictures and senses at random, decided by seed, epoch and sample alone."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Generator, Tensor

from scmrl.experiment import TrainSpec
from snn_datasets import Batch, DatasetInfo, Draw, move_and_stretch


def augment(batch: Batch, info: DatasetInfo, options: TrainSpec, *, seed: int, epoch: int) -> dict[str, Tensor]:
    """The inputs of a batch with every picture [C, H, W] moved and stretched, all time steps of a sample alike, and
    with noise on every sense.

    Inputs that are no pictures are not moved, and what is not asked for is not done. What a sample gets does not depend
    on the batch or the process that it is in.
    """
    inputs = dict(batch["inputs"])
    if options.augment_shift or options.augment_scale:
        inputs = _moved(inputs, batch["ids"], info, options, seed, epoch)
    if options.noise_snr_db is not None:
        low, high = options.noise_snr_db
        for name, modality in info.modalities.items():
            x = inputs[name].clone()
            axis = 0 if modality.time_steps is None else 1
            for place, id_ in enumerate(batch["ids"]):
                generator = Draw(seed, id_, name, epoch, "training noise").generator()
                snr_db = low + (high - low) * float(torch.rand((), generator=generator))
                mine = x.select(axis, place)
                mine.copy_(white_noise(mine, snr_db, generator))
            inputs[name] = x
    return inputs


def white_noise(x: Tensor, snr_db: float, generator: Generator) -> Tensor:
    """One sample of one sense with white Gaussian noise added to it; silence stays silent.

    The noise has the variance P / 10^(snr_db / 10), where P is the mean square of the sample itself, over all its
    channels, places and time steps, its mean included.

    Args:
        x: the sample, of any shape.
        snr_db: power of the sample over that of the noise, in dB.
        generator: on the CPU; the same one gives the same noise at any ratio, only weaker or stronger.
    """
    level = x.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return x + level * torch.randn(x.shape, generator=generator).to(x)


def _moved(
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
