"""A multimodal spiking network end to end: encoders, fusion, readout. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_fusion.alignment import ClassContrastive
from snn_fusion.methods import FusionMethod, Pair
from snn_fusion.modality_dict import modality_dict
from snn_fusion.readout import Readout


@dataclass(frozen=True)
class FusionOutput:
    """What a forward pass gives."""

    logits: Tensor
    """Class scores [B, K]."""
    features: dict[str, Tensor]
    """Each modality's features before they are joined [T, B, C]."""
    residuals: dict[Pair, Tensor]
    """What each target read from each source, before alpha [T, B, N, C]."""


@dataclass(frozen=True)
class Loss:
    """A training loss and its parts, each a scalar; `total` is what to differentiate."""

    total: Tensor
    classification: Tensor
    alignment: Tensor
    """Before its weight; 0 where nothing is aligned."""


class FusionModel(nn.Module):
    """Classify from any number of modalities.

    `model({"audio": [B, 1, H, W], "visual": [B, 3, H, W]})`, static or with time first, gives a `FusionOutput`.

    Args:
        encoders: one module a modality, from its raw input to tokens [T, B, N, C], all of one width C.
        fusion: lets the modalities read each other.
        readout: from fused tokens to logits.
        alignment: loss between the residuals of two modalities, or None.
        alignment_weight: its factor beside the classification loss.
        label_smoothing: of the classification loss.

    Raises:
        ValueError: a modality's name that a PyTorch module cannot hold.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: FusionMethod,
        readout: Readout,
        *,
        alignment: ClassContrastive | None = None,
        alignment_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoders = modality_dict(encoders)
        self.fusion = fusion
        self.readout = readout
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.label_smoothing = label_smoothing

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the encoders."""
        return tuple(self.encoders.keys())

    def forward(self, inputs: Mapping[str, Tensor]) -> FusionOutput:
        """Raw inputs by modality -> logits [B, K], features and residuals.

        Raises:
            ValueError: a modality is missing or unknown, or modalities differ in batch or time.
        """
        if set(inputs) != set(self.modalities):
            raise ValueError(
                f"the model reads {', '.join(self.modalities)}, but the inputs are {', '.join(inputs) or 'empty'}"
            )
        tokens: dict[str, Tensor] = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        if len({x.shape[:2] for x in tokens.values()}) > 1:
            shown = ", ".join(f"{name} has T={x.shape[0]}, B={x.shape[1]}" for name, x in tokens.items())
            raise ValueError(f"modalities must agree in time steps and batch size, but {shown}")
        fused = self.fusion(tokens)
        logits, features = self.readout(fused.tokens)
        return FusionOutput(logits, features, fused.residuals)

    def total_loss(self, output: FusionOutput, labels: Tensor) -> Loss:
        """Cross-entropy with label smoothing plus the weighted alignment of residuals; labels [B].

        What a target read from all its sources is summed and averaged over tokens and time; every unordered pair of
        targets is aligned, the one named first in the model as the loss's first argument.
        """
        classification = F.cross_entropy(output.logits, labels, label_smoothing=self.label_smoothing)
        read: dict[str, Tensor] = {}
        for (target, _), residual in output.residuals.items():
            mean = residual.mean(2).mean(0)
            read[target] = read[target] + mean if target in read else mean
        alignment = torch.zeros_like(classification)
        if self.alignment is not None:
            for first, second in combinations(read, 2):
                alignment = alignment + self.alignment(read[first], read[second], labels)
        return Loss(classification + self.alignment_weight * alignment, classification, alignment)
