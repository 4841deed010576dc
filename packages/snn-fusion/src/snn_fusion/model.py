"""A multimodal spiking network end to end: encoders, fusion, readout. Read this file first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from textwrap import indent

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from snn_core.argument_checks import check_number
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.inputs import check_inputs, check_mask, check_modality, nonfinite_samples, zero_nonfinite
from snn_fusion.methods.base import FusedTokens, FusionMethod, Pair
from snn_fusion.methods.tokens import count_present
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, both_present, may_run_absent_rows, run_on_rows
from snn_fusion.readout import Readout, ReadoutOutput
from snn_fusion.tables import html_table, text_table


@dataclass(frozen=True)
class FusionOutput:
    """The output of a forward pass."""

    logits: Tensor
    """Class scores [B, K]."""
    features: dict[str, Tensor]
    """Each modality's features before they are joined [T, B, C]; 0 where it is absent."""
    residuals: dict[Pair, Tensor]
    """Residual of each pair (target, source) before alpha [T, B, N, C]; 0 where one of the two is absent."""
    aligned: dict[str, Tensor]
    """Each target's residuals averaged over sources, tokens and time [B, C]: the input of the alignment loss."""
    logits_of: dict[str, Tensor]
    """Each modality's own class scores [B, K], from readouts that have them."""
    presence: Presence
    """Which samples have which modality, bool [B]; no entry means all."""

    def __repr__(self) -> str:
        """Show shapes, and the fraction of each tensor that is not 0."""
        rows = self._rows()
        return f"FusionOutput of {self.logits.shape[0]} samples\n" + indent(text_table(_OUTPUT_COLUMNS, rows), "  ")

    def _repr_html_(self) -> str:
        caption = f"FusionOutput of {self.logits.shape[0]} samples"
        return html_table(_OUTPUT_COLUMNS, self._rows(), caption=caption)

    def _rows(self) -> list[list[str]]:
        named = {"logits": self.logits}
        named |= {f"features of {name}": x for name, x in self.features.items()}
        named |= {f"{target} reads {source}": x for (target, source), x in self.residuals.items()}
        named |= {f"residual of {name}, averaged": x for name, x in self.aligned.items()}
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
    # Exporters derive output names from these.
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
    """A training loss and its parts, each a scalar; call `backward()` on `total`."""

    total: Tensor
    classification: Tensor
    """Cross-entropy of the logits, plus those of the modalities' own logits if there are any."""
    alignment: Tensor
    """Alignment loss before its weight; 0 if nothing is aligned."""


class FusionModel(nn.Module):
    """Classify from any number of modalities.

    `model({"audio": [B, 1, H, W], "visual": [B, 3, H, W]})`, static or with time first, returns a `FusionOutput`.

    Args:
        encoders: one `Encoder` per modality, from its raw input to tokens [T, B, N, C], all of one width C.
        fusion: the fusion method, by which modalities read each other.
        readout: from fused tokens to logits.
        alignment: loss between two modalities' residuals, `(a [B, C], b [B, C], labels [B]) -> scalar`, or None.
        alignment_weight: factor of the alignment loss.
        label_smoothing: of the classification loss.
        modality_dropout: probability in training of dropping each modality of a sample; at least one remains.

    Raises:
        ValueError: a modality name that PyTorch modules cannot hold, a probability outside [0, 1), or a weight below 0.
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
        """Show one line per part; `summary(model)` has more detail."""
        lines = [f"{name}: {type(encoder).__name__} of {_shape(encoder)}" for name, encoder in self.encoders.items()]
        count = sum(parameter.numel() for parameter in self.parameters())
        lines += [f"fusion: {type(self.fusion).__name__}", f"readout: {type(self.readout).__name__}"]
        if self.alignment is not None:
            lines.append(f"alignment: {type(self.alignment).__name__}")
        return f"FusionModel of {count:,} parameters\n" + indent("\n".join(lines), "  ")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names, in the order of the encoders."""
        return tuple(self.encoders.keys())

    def forward(self, inputs: Mapping[str, Tensor], present: Presence | None = None) -> FusionOutput:
        """Map raw inputs by modality to logits [B, K], features and residuals.

        A sample with NaN or inf in a modality that it has gets NaN logits; the other samples are unaffected.

        Args:
            inputs: by modality, in the model's dtype and on its device; an omitted modality is absent in every sample.
            present: by modality that some samples lack, which samples have it: bool [B]. Values in the other rows, NaN
                included, have no influence.

        Raises:
            ValueError: an unknown modality, no modality at all (or none for one of the samples), inputs or masks of a
                wrong type or shape, or modalities that differ in batch or time. In evaluation under a compiler, which
                cannot read values, a sample without any modality gets NaN logits instead.
        """
        axes = check_inputs(inputs, self.encoders, next(self.parameters(), None))
        inputs, presence = self._select_present(inputs, present or {}, axes)
        if self.training and self.modality_dropout:
            presence = self._drop_modalities(inputs, presence, axes)
        inputs, finite = zero_nonfinite(inputs, axes)
        tokens: dict[str, Tensor] = {
            name: run_on_rows(self.encoders[name], presence.get(name), x, axis=axes[name]) for name, x in inputs.items()
        }
        first, *others = [x.shape[:2] for x in tokens.values()]
        if any(shape != first for shape in others):
            sizes = ", ".join(f"{name} has T={x.shape[0]}, B={x.shape[1]}" for name, x in tokens.items())
            raise ValueError(f"modalities must agree in time steps and batch size, but {sizes}")
        fused: FusedTokens = self.fusion(tokens, presence)
        readout: ReadoutOutput = self.readout(fused, presence)
        invalid = nonfinite_samples(finite, presence)
        if len(presence) == len(inputs):
            invalid = invalid | ~torch.stack(list(presence.values())).any(0)
        return FusionOutput(
            _with_nan(readout.logits, invalid),
            readout.features,
            fused.residuals,
            _mean_residuals(fused, presence),
            {name: _with_nan(logits, invalid) for name, logits in readout.logits_of.items()},
            presence,
        )

    def total_loss(self, output: FusionOutput, labels: Tensor, class_weights: Tensor | None = None) -> Loss:
        """Return cross-entropy with label smoothing plus the weighted alignment of residuals; labels [B].

        A target's residuals are averaged over sources, tokens and time. Every unordered pair of targets is aligned on
        the samples that have both; the first one in the model's order is the loss's first argument. The loss is the
        mean over pairs, so its scale does not depend on the number of modalities. Class weights [K] scale a sample's
        cross-entropy by its class.
        """

        def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits, labels, class_weights, label_smoothing=self.label_smoothing)

        classification = cross_entropy(output.logits, labels)
        for name, logits in output.logits_of.items():
            rows = output.presence.get(name)
            selected = (logits, labels) if rows is None else (logits[rows], labels[rows])
            classification = classification + cross_entropy(*selected)
        losses: list[Tensor] = []
        if self.alignment is not None:
            for first, second in combinations(sorted(output.aligned, key=self.modalities.index), 2):
                rows = both_present(output.presence, first, second)
                a, b = output.aligned[first], output.aligned[second]
                if rows is None:
                    losses.append(self.alignment(a, b, labels))
                elif rows.any():
                    losses.append(self.alignment(a[rows], b[rows], labels[rows]))
        alignment = torch.stack(losses).mean() if losses else torch.zeros_like(classification)
        return Loss(classification + self.alignment_weight * alignment, classification, alignment)

    def _select_present(
        self, inputs: Mapping[str, Tensor], present: Presence, axes: Mapping[str, int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the inputs that any sample has, in the model's order, and masks of those that some samples lack."""
        if not isinstance(present, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                "present is a mapping from modality to mask; pass all inputs as one mapping, the first argument"
            )
        for name in present:
            check_modality(name, self.modalities)
            if name not in inputs:
                raise ValueError(f"present names {name!r}, but the inputs are {', '.join(inputs) or 'empty'}")
        selected = {name: inputs[name] for name in self.modalities if name in inputs}
        masks: dict[str, Tensor] = {}
        for name, mask in present.items():
            check_mask(name, mask, selected[name].shape[axes[name]], selected[name].device)
            if may_run_absent_rows(self):
                masks[name] = mask
            elif not mask.any():
                del selected[name]
            elif not mask.all():
                masks[name] = mask
        if not selected:
            raise ValueError(f"at least one of {', '.join(self.modalities)} must be present, but none is")
        if len(masks) == len(selected) and not may_run_absent_rows(self):
            empty = ~torch.stack(list(masks.values())).any(0)
            if empty.any():
                first = int(empty.nonzero()[0])
                raise ValueError(f"every sample needs a modality, but sample {first} of the batch has none")
        return selected, masks

    def _drop_modalities(
        self, inputs: Mapping[str, Tensor], presence: Presence, axes: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Return masks with modalities dropped at random; every sample keeps one of those that it has."""
        names = list(inputs)
        first = inputs[names[0]]
        B = first.shape[axes[names[0]]]
        all_samples = torch.ones(B, dtype=torch.bool, device=first.device)
        present = torch.stack([presence.get(name, all_samples) for name in names])
        remaining = present & (torch.rand(present.shape, device=first.device) >= self.modality_dropout)
        # If all would be dropped, one of the present ones remains, each with the same probability.
        survivor = torch.where(present, torch.rand(present.shape, device=first.device), -1.0).argmax(0)
        one = torch.zeros_like(present).scatter_(0, survivor[None], True)
        remaining = torch.where(remaining.any(0), remaining, one)
        # A modality dropped in all samples is restored in all: batch norm needs rows.
        return {
            name: mask if mask.any() else before for name, mask, before in zip(names, remaining, present, strict=True)
        }


def _shape(encoder: nn.Module) -> str:
    axes = encoder.axes if isinstance(encoder, Encoder) else ()
    return " x ".join(map(str, axes))


def _with_nan(logits: Tensor, samples: Tensor) -> Tensor:
    """Return logits [B, K] with NaN in the rows of these samples [B]."""
    return torch.where(samples[:, None], float("nan"), logits)


def _mean_residuals(fused: FusedTokens, presence: Presence) -> dict[str, Tensor]:
    """Average each target's residuals over the sources that a sample has, over tokens and over time [B, C].

    A sum over sources would grow with their number, and similarities with its square.
    """
    sources_of: dict[str, list[str]] = {}
    for target, source in fused.residuals:
        sources_of.setdefault(target, []).append(source)
    means: dict[str, Tensor] = {}
    for target, sources in sources_of.items():
        total = reduce(torch.add, [fused.residuals[target, source].mean(2).mean(0) for source in sources])
        number = 1 if fused.split else count_present(sources, presence)
        means[target] = total / (number.reshape(-1, 1) if isinstance(number, Tensor) else number)
    return means
