"""Disturbances of a batch of model inputs, to measure a trained model's accuracy at any strength.

The random draws depend on seed, sample, modality and kind of disturbance only, so they are the same for every model and
in any batch. Strengths share their draws: a stronger disturbance includes a weaker one.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scmrl.study.noise.spec import DisturbanceKind
from snn_datasets import Batch, DatasetInfo, Draw, ModalityInfo
from snn_datasets.stages.noise import drop_events, drop_frames, occlude, white_noise


@dataclass(frozen=True)
class Disturbance:
    """One kind of disturbance at one strength, on some modalities."""

    kind: DisturbanceKind
    modalities: tuple[str, ...]
    """Each has independent draws."""
    strength: float
    """gaussian: signal-to-noise ratio in dB; all others: a fraction, 0 to 1."""

    def __call__(self, batch: Batch, info: DatasetInfo, *, seed: int) -> Batch:
        """Return a disturbed copy of the batch; modalities that it lacks are skipped.

        Raises:
            ValueError: this kind does not apply to a modality.
        """
        inputs, present = dict(batch["inputs"]), dict(batch["present"])
        for name in self.modalities:
            if name not in inputs:
                continue
            x, modality = inputs[name], info.modalities[name]
            if not is_applicable(self.kind, modality, x):
                raise ValueError(f"{self.kind} does not apply to {name}: {modality.kind}, inputs {list(x.shape)}")
            draws = [Draw(seed, id_, name, stage=self.kind).generator() for id_ in batch["ids"]]
            if self.kind == "missing":
                lost = torch.stack([torch.rand((), generator=draw) for draw in draws]) < self.strength
                present[name] = present[name] & ~lost
                continue
            axis, disturb = 0 if modality.time_steps is None else 1, _FUNCTIONS[self.kind]
            outputs = [disturb(x, self.strength, modality, draw) for x, draw in zip(x.unbind(axis), draws, strict=True)]
            inputs[name] = torch.stack(outputs, axis)
        return {**batch, "inputs": inputs, "present": present}


def is_applicable(kind: DisturbanceKind, modality: ModalityInfo, x: Tensor) -> bool:
    """Return whether a kind applies to such inputs: only event counts lose events, only inputs with time lose steps."""
    if kind == "event-drop":
        return modality.kind == "events" and not bool(((x < 0) | (x != x.floor())).any())
    return kind != "frame-drop" or modality.time_steps is not None


def target_modalities(kind: DisturbanceKind, info: DatasetInfo, batch: Batch) -> list[tuple[str, ...]]:
    """Return each modality that a kind applies to, and all of them together if there are several.

    All modalities together are never missing.
    """
    single = [
        name for name, modality in info.modalities.items() if is_applicable(kind, modality, batch["inputs"][name])
    ]
    together = [tuple(single)] if len(single) > 1 and kind != "missing" else []
    return [*((name,) for name in single), *together]


_FUNCTIONS: Mapping[DisturbanceKind, Callable[[Tensor, float, ModalityInfo, Generator], Tensor]] = {
    "gaussian": lambda x, snr_db, modality, draw: white_noise(x, snr_db, draw),
    "occlusion": lambda x, fraction, modality, draw: occlude(x, fraction, modality.shape, draw),
    "frame-drop": lambda x, fraction, modality, draw: drop_frames(x, fraction, draw),
    "event-drop": lambda x, fraction, modality, draw: drop_events(x, fraction, draw),
}
