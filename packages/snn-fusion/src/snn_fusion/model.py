"""A multimodal spiking network end to end: encoders, fusion, readout. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_fusion.encoders.encoder import Encoder
from snn_fusion.methods import Fused, FusionMethod, Pair
from snn_fusion.methods.tokens import number_present
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, both, run_where
from snn_fusion.readout import Read, Readout

if TYPE_CHECKING:
    from snn_fusion.layer_health import Health


@dataclass(frozen=True)
class FusionOutput:
    """What a forward pass gives."""

    logits: Tensor
    """Class scores [B, K]."""
    features: dict[str, Tensor]
    """Each modality's features before they are joined [T, B, C]; 0 where it is absent."""
    residuals: dict[Pair, Tensor]
    """What each target read from each source, before alpha [T, B, N, C]; 0 where one of the two is absent."""
    aligned: dict[str, Tensor]
    """What each target read, averaged over its sources, tokens and time [B, C]: what alignment compares."""
    logits_of: dict[str, Tensor]
    """Each modality's own class scores [B, K], from readouts that have them."""
    presence: Presence
    """Which samples have which modality, bool [B]; no entry means all."""


@dataclass(frozen=True)
class Loss:
    """A training loss and its parts, each a scalar; `total` is what to differentiate."""

    total: Tensor
    classification: Tensor
    """Of the prediction, plus those of the modalities' own predictions where there are any."""
    alignment: Tensor
    """Before its weight; 0 where nothing is aligned."""


class FusionModel(nn.Module):
    """Classify from any number of modalities.

    `model({"audio": [B, 1, H, W], "visual": [B, 3, H, W]})`, static or with time first, gives a `FusionOutput`.

    Args:
        encoders: one `Encoder` a modality, from its raw input to tokens [T, B, N, C], all of one width C.
        fusion: lets the modalities read each other.
        readout: from fused tokens to logits.
        alignment: loss between what two modalities have read, `(a [B, C], b [B, C], labels [B]) -> scalar`, or None.
        alignment_weight: its factor beside the classification loss.
        label_smoothing: of the classification loss.
        modality_dropout: in training, each modality of a sample is taken away with this probability; one always stays.

    Raises:
        ValueError: a modality's name that a PyTorch module cannot hold.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        fusion: FusionMethod,
        readout: Readout,
        *,
        alignment: nn.Module | None = None,
        alignment_weight: float = 1.0,
        label_smoothing: float = 0.0,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoders = modality_dict(encoders)
        self.fusion = fusion
        self.readout = readout
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.label_smoothing = label_smoothing
        self.modality_dropout = modality_dropout

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the encoders."""
        return tuple(self.encoders.keys())

    def forward(self, inputs: Mapping[str, Tensor], present: Presence | None = None) -> FusionOutput:
        """Raw inputs by modality -> logits [B, K], features and residuals.

        Args:
            inputs: by modality; one that is left out is absent for every sample.
            present: for a modality that some samples lack, which have it: bool [B]. What its tensor holds in the other
                rows, NaN included, has no influence on anything.

        Raises:
            ValueError: an unknown modality, none at all (or none for one of the samples), masks that do not fit, or
                modalities that differ in batch or time.
        """
        inputs, presence = self._there(inputs, present or {})
        if self.training and self.modality_dropout:
            presence = self._dropped(inputs, presence)
        tokens: dict[str, Tensor] = {
            name: run_where(self._encoder(name), presence.get(name), x, axis=self._encoder(name).batch_axis(x))
            for name, x in inputs.items()
        }
        first, *others = [x.shape[:2] for x in tokens.values()]
        if any(shape != first for shape in others):
            shown = ", ".join(f"{name} has T={x.shape[0]}, B={x.shape[1]}" for name, x in tokens.items())
            raise ValueError(f"modalities must agree in time steps and batch size, but {shown}")
        fused: Fused = self.fusion(tokens, presence)
        read: Read = self.readout(fused, presence)
        return FusionOutput(
            read.logits, read.features, fused.residuals, _aligned(fused, presence), read.logits_of, presence
        )

    def total_loss(self, output: FusionOutput, labels: Tensor, class_weights: Tensor | None = None) -> Loss:
        """Cross-entropy with label smoothing plus the weighted alignment of residuals; labels [B].

        What a target read is averaged over its sources, over tokens and over time; every unordered pair of targets is
        aligned on the samples that have both, the one named first in the model as the loss's first argument. The mean
        over pairs counts, so that alignment weighs the same however many modalities there are. Class weights [K] scale
        what a sample of each class counts in the cross-entropy.
        """

        def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits, labels, class_weights, label_smoothing=self.label_smoothing)

        classification = cross_entropy(output.logits, labels)
        for name, logits in output.logits_of.items():
            rows = output.presence.get(name)
            chosen = (logits, labels) if rows is None else (logits[rows], labels[rows])
            classification = classification + cross_entropy(*chosen)
        compared: list[Tensor] = []
        if self.alignment is not None:
            for first, second in combinations(sorted(output.aligned, key=self.modalities.index), 2):
                rows = both(output.presence, first, second)
                a, b = output.aligned[first], output.aligned[second]
                if rows is None:
                    compared.append(self.alignment(a, b, labels))
                elif rows.any():
                    compared.append(self.alignment(a[rows], b[rows], labels[rows]))
        alignment = torch.stack(compared).mean() if compared else torch.zeros_like(classification)
        return Loss(classification + self.alignment_weight * alignment, classification, alignment)

    def health(
        self, inputs: Mapping[str, Tensor], labels: Tensor | None = None, present: Presence | None = None
    ) -> Health:
        """Firing rate and gradient of every layer of neurons on a batch, see `snn_fusion.health`."""
        from snn_fusion.layer_health import health

        return health(self, inputs, labels, present)

    def residual_share(
        self, inputs: Mapping[str, Tensor], present: Presence | None = None
    ) -> dict[str, dict[str, float]]:
        """How much of each modality's tokens comes from each source, see `snn_fusion.residual_share`."""
        from snn_fusion.layer_health import residual_share

        return residual_share(self, inputs, present)

    def _encoder(self, name: str) -> Encoder:
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        return encoder

    def _there(self, inputs: Mapping[str, Tensor], present: Presence) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The inputs that some sample has, in the model's order, and masks for those that not all have."""
        if unknown := [name for name in (*inputs, *present) if name not in self.modalities]:
            raise ValueError(f"the model reads {', '.join(self.modalities)}, and {unknown[0]!r} is not among them")
        if surplus := [name for name in present if name not in inputs]:
            raise ValueError(f"present speaks of {surplus[0]!r}, but the inputs are {', '.join(inputs) or 'empty'}")
        kept = {name: inputs[name] for name in self.modalities if name in inputs}
        masks: dict[str, Tensor] = {}
        for name, mask in present.items():
            B = kept[name].shape[self._encoder(name).batch_axis(kept[name])]
            if mask.dtype != torch.bool or mask.shape != (B,):
                raise ValueError(
                    f"present[{name!r}] is one bool a sample, [{B}], but it is {mask.dtype} {tuple(mask.shape)}"
                )
            if not mask.any():
                del kept[name]
            elif not mask.all():
                masks[name] = mask
        if not kept:
            raise ValueError(f"at least one of {', '.join(self.modalities)} must be there, but none is")
        if len(masks) == len(kept):
            lacking = ~torch.stack(list(masks.values())).any(0)
            if lacking.any():
                first = int(lacking.nonzero()[0])
                raise ValueError(f"every sample needs a modality, but sample {first} of the batch has none")
        return kept, masks

    def _dropped(self, inputs: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Masks with modalities taken away at random; every sample keeps one that it has."""
        names = list(inputs)
        first = inputs[names[0]]
        B = first.shape[self._encoder(names[0]).batch_axis(first)]
        everyone = torch.ones(B, dtype=torch.bool, device=first.device)
        there = torch.stack([presence.get(name, everyone) for name in names])
        stays = there & (torch.rand(there.shape, device=first.device) >= self.modality_dropout)
        # Where all would go, one of those that are there is kept, each with the same chance.
        saved = torch.where(there, torch.rand(there.shape, device=first.device), -1.0).argmax(0)
        one = torch.zeros_like(there).scatter_(0, saved[None], True)
        stays = torch.where(stays.any(0), stays, one)
        # A modality that nobody would keep is kept by all who have it: batch norm needs rows.
        return {name: mask if mask.any() else before for name, mask, before in zip(names, stays, there, strict=True)}


def _aligned(fused: Fused, presence: Presence) -> dict[str, Tensor]:
    """What each target read, averaged over the sources that a sample has, over tokens and over time [B, C].

    A sum over sources would grow with their number, and similarities with its square.
    """
    sources_of: dict[str, list[str]] = {}
    for target, source in fused.residuals:
        sources_of.setdefault(target, []).append(source)
    read: dict[str, Tensor] = {}
    for target, sources in sources_of.items():
        total = reduce(torch.add, [fused.residuals[target, source].mean(2).mean(0) for source in sources])
        number = 1 if fused.split else number_present(sources, presence)
        read[target] = total / (number.reshape(-1, 1) if isinstance(number, Tensor) else number)
    return read
