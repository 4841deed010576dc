"""Disturbances of a batch of model inputs, so that a trained model's accuracy can be asked for at any strength.

What is drawn is decided by seed, sample, modality and kind of disturbance, so it is the same for every model, in any
batch. Strengths share their draws: a stronger one disturbs whatever a weaker one does.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from scmrl.engine.augmentation import white_noise
from scmrl.engine.evaluate import predict_batch
from scmrl.engine.parallel import pick_device
from scmrl.engine.train import Run
from scmrl.study.noise import Kind
from scmrl.study.statistics import bits
from snn_datasets import Batch, DatasetInfo, Draw, ModalityInfo, collate
from snn_fusion import from_pretrained


@dataclass(frozen=True)
class Disturbance:
    """One kind of disturbance at one strength, on some modalities."""

    kind: Kind
    modalities: tuple[str, ...]
    """Each is disturbed by itself, with draws of its own."""
    strength: float
    """gaussian: signal-to-noise ratio in dB; all others: a share, 0 to 1."""

    def __call__(self, batch: Batch, info: DatasetInfo, *, seed: int) -> Batch:
        """A disturbed copy of the batch; modalities that it lacks are passed over.

        Raises:
            ValueError: a modality that this kind does not apply to.
        """
        inputs, present = dict(batch["inputs"]), dict(batch["present"])
        for name in self.modalities:
            if name not in inputs:
                continue
            x, modality = inputs[name], info.modalities[name]
            if not applies(self.kind, modality, x):
                raise ValueError(f"{self.kind} does not apply to {name}: {modality.kind}, inputs {list(x.shape)}")
            draws = [Draw(seed, id_, name, place=self.kind).generator() for id_ in batch["ids"]]
            if self.kind == "missing":
                lost = torch.stack([torch.rand((), generator=draw) for draw in draws]) < self.strength
                present[name] = present[name] & ~lost
                continue
            axis, disturb = 0 if modality.time_steps is None else 1, _DISTURBING[self.kind]
            done = [disturb(x, self.strength, modality, draw) for x, draw in zip(x.unbind(axis), draws, strict=True)]
            inputs[name] = torch.stack(done, axis)
        return {**batch, "inputs": inputs, "present": present}


def applies(kind: Kind, modality: ModalityInfo, x: Tensor) -> bool:
    """Whether inputs like these can be disturbed so: counts of events lose events, and what has time loses steps."""
    if kind == "event-drop":
        return modality.kind == "events" and not bool(((x < 0) | (x != x.floor())).any())
    return kind != "frame-drop" or modality.time_steps is not None


def targets(kind: Kind, info: DatasetInfo, batch: Batch) -> list[tuple[str, ...]]:
    """Each modality that a kind applies to by itself, and all of them at once where there are several.

    All at once cannot be missing.
    """
    single = [name for name, modality in info.modalities.items() if applies(kind, modality, batch["inputs"][name])]
    together = [tuple(single)] if len(single) > 1 and kind != "missing" else []
    return [*((name,) for name in single), *together]


@torch.no_grad()
def under_disturbance(run: Run, strengths: Mapping[Kind, Sequence[float]], *, seed: int) -> list[dict[str, Any]]:
    """Which test samples a run's model still gets right, by kind, modalities and strength.

    Returns:
        one entry each, with `kind`, `modalities`, `strength` and `right`, as `statistics.bits` packs it; kinds that
        apply to none of the modalities have none.
    """
    device = pick_device(run.experiment.train.device)
    model = from_pretrained(run.folder).to(device).eval()
    info = run.splits.info
    found: dict[Disturbance, list[Tensor]] = {}
    for batch in DataLoader(run.splits.test, batch_size=run.experiment.train.evaluation_batch_size, collate_fn=collate):
        if not found:
            found = {
                Disturbance(kind, modalities, strength): []
                for kind, every in strengths.items()
                for modalities in targets(kind, info, batch)
                for strength in every
            }
        for disturbance, right in found.items():
            _, said, _ = predict_batch(model, disturbance(batch, info, seed=seed), device)
            right.append(said.argmax(1).cpu() == batch["labels"])
    return [
        {
            "kind": disturbance.kind,
            "modalities": list(disturbance.modalities),
            "strength": disturbance.strength,
            "right": bits(torch.cat(right).numpy()),
        }
        for disturbance, right in found.items()
    ]


def occlude(x: Tensor, share: float, modality: ModalityInfo, draw: Generator) -> Tensor:
    """Blank a part of one sample's plane, at a random place, the same in all channels and time steps.

    It is a rectangle of the plane's proportions in [C, H, W], and a span in [C, L] and [C]; blank is 0, as absent
    modalities are. Sides are rounded to whole pixels.

    Args:
        x: one sample, with time first if it has time.
        share: of the plane's area.
        modality: what the sample is.
        draw: on the CPU.
    """
    plane = modality.shape[1:] or modality.shape
    width = plane[-1]
    height = plane[0] if len(plane) == 2 else 1
    rows = round(share**0.5 * height) if height > 1 else 1
    columns = min(width, round(share * height * width / max(1, rows)))
    place = torch.rand(2, generator=draw)
    top = int(place[0] * (height - rows + 1))
    left = int(place[1] * (width - columns + 1))
    covered = torch.zeros(height, width, dtype=torch.bool)
    covered[top : top + rows, left : left + columns] = True
    return x.masked_fill(covered.reshape(plane).to(x.device), 0.0)


def drop_frames(x: Tensor, share: float, modality: ModalityInfo, draw: Generator) -> Tensor:
    """Blank a share of one sample's time steps [T, ...], rounded to a whole number of them."""
    order = torch.randperm(len(x), generator=draw)
    return x.index_fill(0, order[: round(share * len(x))].to(x.device), 0.0)


def drop_events(x: Tensor, share: float, modality: ModalityInfo, draw: Generator) -> Tensor:
    """Lose each of the events that one sample counts, with the probability `share`: binomial thinning."""
    events = torch.arange(x.numel()).repeat_interleave(x.flatten().long().cpu())  # the place of each
    kept = events[torch.rand(len(events), generator=draw) >= share]
    return torch.bincount(kept, minlength=x.numel()).reshape(x.shape).to(x)


def _white_noise(x: Tensor, snr_db: float, modality: ModalityInfo, draw: Generator) -> Tensor:
    return white_noise(x, snr_db, draw)


_DISTURBING: Mapping[Kind, Callable[[Tensor, float, ModalityInfo, Generator], Tensor]] = {
    "gaussian": _white_noise,
    "occlusion": occlude,
    "frame-drop": drop_frames,
    "event-drop": drop_events,
}
