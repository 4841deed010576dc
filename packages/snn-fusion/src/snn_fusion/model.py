"""A multimodal spiking network end to end: encoders, fusion, readout. Read this file first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from textwrap import indent
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from snn_core.argument_checks import check_number
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.inputs import check_inputs, check_mask, check_modality, finite_samples, spoiled_samples
from snn_fusion.methods import Fused, FusionMethod, Pair
from snn_fusion.methods.tokens import number_present
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, all_rows, both, run_where
from snn_fusion.readout import Read, Readout
from snn_fusion.tables import html_table, text_table

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

    def __repr__(self) -> str:
        """Shapes, and how much of each tensor is not 0."""
        rows = self._rows()
        return f"FusionOutput of {self.logits.shape[0]} samples\n" + indent(text_table(_OUTPUT_COLUMNS, rows), "  ")

    def _repr_html_(self) -> str:
        caption = f"FusionOutput of {self.logits.shape[0]} samples"
        return html_table(_OUTPUT_COLUMNS, self._rows(), caption=caption)

    def _rows(self) -> list[list[str]]:
        named = {"logits": self.logits}
        named |= {f"features of {name}": x for name, x in self.features.items()}
        named |= {f"{target} reads {source}": x for (target, source), x in self.residuals.items()}
        named |= {f"{name} read, averaged": x for name, x in self.aligned.items()}
        named |= {f"logits of {name}": x for name, x in self.logits_of.items()}
        named |= {f"presence of {name}": x for name, x in self.presence.items()}
        return [
            [name, str(list(x.shape)), f"{x.detach().ne(0).double().mean().item():.1%}" if x.numel() else ""]
            for name, x in named.items()
        ]


_OUTPUT_COLUMNS = ("tensor", "shape", "not 0")


_NAMED = ("features", "residuals", "aligned", "logits_of", "presence")
_Keys = tuple[tuple[str | Pair, ...], ...]
"""The names in each of these fields."""


def _flatten(output: FusionOutput) -> tuple[list[Tensor], _Keys]:
    fields = [getattr(output, field) for field in _NAMED]
    return [output.logits, *(x for field in fields for x in field.values())], tuple(tuple(field) for field in fields)


def _flatten_with_keys(output: FusionOutput) -> tuple[list[tuple[pytree.GetAttrKey, Tensor]], _Keys]:
    leaves, keys = _flatten(output)
    # Exporters make names of these.
    names = [
        f"{field}_{'_reads_'.join([*key] if isinstance(key, tuple) else [key])}"
        for field, of_field in zip(_NAMED, keys, strict=True)
        for key in of_field
    ]
    return [(pytree.GetAttrKey(name), leaf) for name, leaf in zip(["logits", *names], leaves, strict=True)], keys


def _unflatten(leaves: Iterable[Tensor], keys: _Keys) -> FusionOutput:
    logits, *rest = leaves
    values = iter(rest)
    return FusionOutput(logits, *({key: next(values) for key in of_field} for of_field in keys))  # pyright: ignore[reportArgumentType]


def _keys_from_json(stored: list[list[str | list[str]]]) -> _Keys:
    return tuple(tuple(key if isinstance(key, str) else (key[0], key[1]) for key in of_field) for of_field in stored)


pytree.register_pytree_node(
    FusionOutput,
    _flatten,
    _unflatten,  # pyright: ignore[reportArgumentType]
    serialized_type_name="snn_fusion.FusionOutput",
    to_dumpable_context=lambda keys: keys,
    from_dumpable_context=_keys_from_json,
    flatten_with_keys_fn=_flatten_with_keys,  # pyright: ignore[reportArgumentType]
)


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
        ValueError: a modality's name that a PyTorch module cannot hold, a share outside [0, 1), or a weight below 0.
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
        check_number("alignment_weight", alignment_weight, at_least=0)
        check_number("label_smoothing", label_smoothing, at_least=0, below=1)
        check_number("modality_dropout", modality_dropout, at_least=0, below=1)
        self.encoders = modality_dict(encoders)
        self.fusion = fusion
        self.readout = readout
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.label_smoothing = label_smoothing
        self.modality_dropout = modality_dropout

    def __repr__(self) -> str:
        """One line a part; `summary(model)` tells more, and the parts show all that is in them."""
        lines = [f"{name}: {type(encoder).__name__} of {_shape(encoder)}" for name, encoder in self.encoders.items()]
        count = sum(parameter.numel() for parameter in self.parameters())
        lines += [f"fusion: {type(self.fusion).__name__}", f"readout: {type(self.readout).__name__}"]
        if self.alignment is not None:
            lines.append(f"alignment: {type(self.alignment).__name__}")
        return f"FusionModel of {count:,} parameters\n" + indent("\n".join(lines), "  ")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the encoders."""
        return tuple(self.encoders.keys())

    def forward(self, inputs: Mapping[str, Tensor], present: Presence | None = None) -> FusionOutput:
        """Raw inputs by modality -> logits [B, K], features and residuals.

        A sample with NaN or an infinite value in a modality that it has gets NaN logits; the others get theirs.

        Args:
            inputs: by modality, in the model's dtype and on its device; one that is left out is absent for every
                sample.
            present: for a modality that some samples lack, which have it: bool [B]. What its tensor holds in the other
                rows, NaN included, has no influence on anything.

        Raises:
            ValueError: an unknown modality, none at all (or none for one of the samples), inputs or masks that do not
                fit, or modalities that differ in batch or time. In evaluation under a compiler, which cannot look at
                values, a sample without any modality gets NaN logits instead.
        """
        axes = check_inputs(inputs, self.encoders, next(self.parameters(), None))
        inputs, presence = self._there(inputs, present or {}, axes)
        if self.training and self.modality_dropout:
            presence = self._dropped(inputs, presence, axes)
        inputs, finite = finite_samples(inputs, axes)
        tokens: dict[str, Tensor] = {
            name: run_where(self.encoders[name], presence.get(name), x, axis=axes[name]) for name, x in inputs.items()
        }
        first, *others = [x.shape[:2] for x in tokens.values()]
        if any(shape != first for shape in others):
            shown = ", ".join(f"{name} has T={x.shape[0]}, B={x.shape[1]}" for name, x in tokens.items())
            raise ValueError(f"modalities must agree in time steps and batch size, but {shown}")
        fused: Fused = self.fusion(tokens, presence)
        read: Read = self.readout(fused, presence)
        spoiled = spoiled_samples(finite, presence)
        if len(presence) == len(inputs):
            spoiled = spoiled | ~torch.stack(list(presence.values())).any(0)
        return FusionOutput(
            _with_nan(read.logits, spoiled),
            read.features,
            fused.residuals,
            _aligned(fused, presence),
            {name: _with_nan(logits, spoiled) for name, logits in read.logits_of.items()},
            presence,
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

    def _there(
        self, inputs: Mapping[str, Tensor], present: Presence, axes: Mapping[str, int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The inputs that some sample has, in the model's order, and masks for those that not all have."""
        if not isinstance(present, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                "present is a mapping from modality to mask; inputs go together into one mapping, the first argument"
            )
        for name in present:
            check_modality(name, self.modalities)
            if name not in inputs:
                raise ValueError(f"present speaks of {name!r}, but the inputs are {', '.join(inputs) or 'empty'}")
        kept = {name: inputs[name] for name in self.modalities if name in inputs}
        masks: dict[str, Tensor] = {}
        for name, mask in present.items():
            check_mask(name, mask, kept[name].shape[axes[name]], kept[name].device)
            if all_rows(self):
                masks[name] = mask
            elif not mask.any():
                del kept[name]
            elif not mask.all():
                masks[name] = mask
        if not kept:
            raise ValueError(f"at least one of {', '.join(self.modalities)} must be there, but none is")
        if len(masks) == len(kept) and not all_rows(self):
            lacking = ~torch.stack(list(masks.values())).any(0)
            if lacking.any():
                first = int(lacking.nonzero()[0])
                raise ValueError(f"every sample needs a modality, but sample {first} of the batch has none")
        return kept, masks

    def _dropped(self, inputs: Mapping[str, Tensor], presence: Presence, axes: Mapping[str, int]) -> dict[str, Tensor]:
        """Masks with modalities taken away at random; every sample keeps one that it has."""
        names = list(inputs)
        first = inputs[names[0]]
        B = first.shape[axes[names[0]]]
        everyone = torch.ones(B, dtype=torch.bool, device=first.device)
        there = torch.stack([presence.get(name, everyone) for name in names])
        stays = there & (torch.rand(there.shape, device=first.device) >= self.modality_dropout)
        # Where all would go, one of those that are there is kept, each with the same chance.
        saved = torch.where(there, torch.rand(there.shape, device=first.device), -1.0).argmax(0)
        one = torch.zeros_like(there).scatter_(0, saved[None], True)
        stays = torch.where(stays.any(0), stays, one)
        # A modality that nobody would keep is kept by all who have it: batch norm needs rows.
        return {name: mask if mask.any() else before for name, mask, before in zip(names, stays, there, strict=True)}


def _shape(encoder: nn.Module) -> str:
    axes = encoder.axes if isinstance(encoder, Encoder) else ()
    return " x ".join(map(str, axes))


def _with_nan(logits: Tensor, samples: Tensor) -> Tensor:
    """Logits [B, K] with NaN in the rows of these samples [B]."""
    return torch.where(samples[:, None], float("nan"), logits)


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
