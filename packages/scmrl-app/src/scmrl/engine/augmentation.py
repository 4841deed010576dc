"""Random augmentation of training inputs, determined by seed, epoch and sample alone."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Tensor

from scmrl.config.experiment import TrainSpec
from snn_datasets import Batch, DatasetInfo, Draw, RecordedDataset, SampleDataset, shift_and_scale
from snn_datasets.stages.noise import white_noise


def has_augmentation(dataset: SampleDataset) -> bool:
    """Return whether a modality of the dataset has augmentation stages."""
    return isinstance(dataset, RecordedDataset) and any(m.augment for m in dataset.modalities.values())


def augment(batch: Batch, info: DatasetInfo, options: TrainSpec, *, seed: int, epoch: int) -> dict[str, Tensor]:
    """Return the inputs of a batch with images [C, H, W] shifted and scaled and with noise on every modality.

    All time steps of a sample are transformed alike. Inputs that are not images are not shifted. The draw of a sample
    does not depend on its batch or rank. The options must have numbers in place of `auto`.
    """
    inputs = dict(batch["inputs"])
    shift, scale = options.augment_shift, options.augment_scale
    assert shift != "auto"
    assert scale != "auto"
    if shift or scale:
        inputs = _shift_and_scale(inputs, batch["ids"], info, seed, epoch, shift=shift, scale=scale)
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


def _shift_and_scale(
    inputs: dict[str, Tensor], ids: list[str], info: DatasetInfo, seed: int, epoch: int, *, shift: float, scale: float
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
        moved = shift_and_scale(
            x.transpose(0, 1).flatten(1, 2) if timed else x,
            amounts * 2 - 1,
            shift=shift,
            scale=scale,
        )
        inputs[name] = moved.unflatten(1, (x.shape[0], -1)).transpose(0, 1) if timed else moved
    return inputs
