"""Measurements of `scmrl study noise`: the test samples that stay correct under each disturbance."""

# PyTorch leaves the types of some methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from scmrl.engine.evaluate import predict_batch
from scmrl.engine.run import Run
from scmrl.run_folder.device import pick_device
from scmrl.study.noise.disturbances import Disturbance, target_modalities
from scmrl.study.noise.spec import DisturbanceKind, NoiseSpec
from scmrl.study.statistics import pack_bits
from scmrl.study.training import measure_scores
from snn_datasets import collate
from snn_fusion import from_pretrained


def measure(spec: NoiseSpec, run: Run) -> dict[str, Any]:
    """Return accuracies and the correct test samples, undisturbed and under each disturbance."""
    labels = run.splits.test.labels
    strengths: dict[DisturbanceKind, tuple[float, ...]] = {kind: spec.strengths(kind) for kind in spec.disturbances}
    return {
        **measure_scores(spec, run),
        "modalities": list(run.splits.info.modalities),
        "most_frequent": max(labels.count(label) for label in set(labels)) / len(labels),
        "disturbed": evaluate_disturbed(run, strengths, seed=spec.data.seed),
    }


@torch.no_grad()
def evaluate_disturbed(
    run: Run, strengths: Mapping[DisturbanceKind, Sequence[float]], *, seed: int
) -> list[dict[str, Any]]:
    """Find the test samples that a run's model classifies correctly, by kind, modalities and strength.

    Returns:
        one entry each with `kind`, `modalities`, `strength` and `correct`, as `statistics.pack_bits` encodes it; none
        for kinds that apply to no modality.
    """
    device = pick_device(run.experiment.train.device)
    model = from_pretrained(run.folder).to(device).eval()
    info = run.splits.info
    correct: dict[Disturbance, list[Tensor]] = {}
    for batch in DataLoader(run.splits.test, batch_size=run.experiment.train.evaluation_batch_size, collate_fn=collate):
        if not correct:
            correct = {
                Disturbance(kind, modalities, strength): []
                for kind, kind_strengths in strengths.items()
                for modalities in target_modalities(kind, info, batch)
                for strength in kind_strengths
            }
        for disturbance, masks in correct.items():
            _, probabilities, _ = predict_batch(model, disturbance(batch, info, seed=seed), device)
            masks.append(probabilities.argmax(1).cpu() == batch["labels"])
    return [
        {
            "kind": disturbance.kind,
            "modalities": list(disturbance.modalities),
            "strength": disturbance.strength,
            "correct": pack_bits(torch.cat(masks).numpy()),
        }
        for disturbance, masks in correct.items()
    ]
