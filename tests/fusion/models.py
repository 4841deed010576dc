"""A small model with the modalities that a test needs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_fusion import FusionModel, ModelSpec

SHAPES = {"audio": (1, 8, 16), "visual": (3, 16, 8), "touch": (2, 8, 16)}  # 8 tokens each


def small_spec(modalities: Sequence[str] = ("audio", "visual"), **options: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "input_shapes": {name: SHAPES[name] for name in modalities},
            "encoders": {name: {"kind": "patch_splitting", "depth": "shallow"} for name in modalities},
            "num_classes": 5,
            "channels": 16,
            "time_steps": 3,
            "fusion": {"kind": "ccssa", "num_heads": 4},
            **options,
        }
    )


def small_model(modalities: Sequence[str] = ("audio", "visual"), *, seed: int = 0, **options: Any) -> FusionModel:
    torch.manual_seed(seed)
    return small_spec(modalities, **options).build()


def inputs_for(model: FusionModel, *, batch: int = 6, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, *SHAPES[name], generator=generator) * 2 for name in model.modalities}
