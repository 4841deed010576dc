"""Diagnostics: firing rates and gradients by layer, and how much each modality reads from the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from snn_core import record_firing_rates, spiking_layers
from snn_fusion.presence import Presence
from snn_fusion.tables import html_table, text_table

if TYPE_CHECKING:
    from snn_fusion.model import FusionModel

HEADINGS = ("layer", "firing", "gradient", "")
SILENT = 0.001
"""Firing rate below which a layer is silent: it passes nothing on and hardly learns."""
SATURATED = 0.95
"""Firing rate above which a layer is saturated: it fires whatever its input."""


@dataclass(frozen=True)
class LayerHealth:
    """Diagnostics of one layer of neurons."""

    firing_rate: float
    """Fraction of (neuron, time step) pairs that fire, in [0, 1]."""
    gradient_norm: float
    """L2 norm of the loss's gradient with respect to the layer's spikes; at 0, nothing before the layer learns."""


@dataclass(frozen=True)
class Health:
    """Diagnostics of all layers of neurons; `print` shows a table."""

    layers: dict[str, LayerHealth]
    """By dotted name, in order of definition."""

    @property
    def silent(self) -> tuple[str, ...]:
        """Layers that fire below 0.1 %."""
        return tuple(name for name, layer in self.layers.items() if layer.firing_rate < SILENT)

    @property
    def saturated(self) -> tuple[str, ...]:
        """Layers that fire above 95 %."""
        return tuple(name for name, layer in self.layers.items() if layer.firing_rate > SATURATED)

    def __str__(self) -> str:
        return text_table(HEADINGS, self._rows())

    def _repr_html_(self) -> str:
        caption = f"{len(self.layers)} layers, {len(self.silent)} silent, {len(self.saturated)} saturated"
        return html_table(HEADINGS, self._rows(), caption=caption)

    def _rows(self) -> list[list[str]]:
        status = dict.fromkeys(self.silent, "silent") | dict.fromkeys(self.saturated, "saturated")
        return [
            [name, f"{layer.firing_rate:.2%}", f"{layer.gradient_norm:.2e}", status.get(name, "")]
            for name, layer in self.layers.items()
        ]


def health(
    model: FusionModel, inputs: Mapping[str, Tensor], labels: Tensor | None = None, present: Presence | None = None
) -> Health:
    """Run a batch forward and backward and measure every layer of neurons; the model is unchanged.

    Args:
        model: in training or evaluation mode.
        inputs: a batch by modality.
        labels: classes [B] for the loss; by default the model's predictions.
        present: see `FusionModel.forward`.

    Returns:
        rates and gradients of the layers that ran.
    """
    gradients: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def attach(_module: nn.Module, _inputs: object, spikes: Tensor) -> None:
            gradients.setdefault(name, torch.zeros((), dtype=torch.float64, device=spikes.device))

            def add(grad: Tensor) -> None:
                gradients[name] = gradients[name] + grad.to(torch.float64).square().sum()

            if spikes.requires_grad:
                spikes.register_hook(add)  # pyright: ignore[reportUnknownMemberType]

        return attach

    handles = [layer.neuron.register_forward_hook(watch(name)) for name, layer in spiking_layers(model).items()]
    try:
        with torch.enable_grad(), running_statistics(model, 0), record_firing_rates(model) as rates:
            output = model(inputs, present)
            loss = model.total_loss(output, output.logits.argmax(1) if labels is None else labels)
            # Not `backward()`: it would add to the gradients of a training step.
            trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
            torch.autograd.grad(loss.total, trainable, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return Health({name: LayerHealth(rate, float(gradients[name].sqrt())) for name, rate in rates.items()})


@torch.no_grad()
def residual_fractions(
    model: FusionModel, inputs: Mapping[str, Tensor], present: Presence | None = None
) -> dict[str, dict[str, float]]:
    """Return how much of each modality's fused tokens is its own and how much it read from each other one.

    A part's size is the mean magnitude of a summand: the tokens themselves, and alpha times each residual.

    Returns:
        by target: the fraction of each source, and of the target itself under its own name; fractions sum to 1.
    """
    own_tokens: dict[str, Tensor] = {}

    def record(_module: nn.Module, args: tuple[dict[str, Tensor], ...]) -> None:
        own_tokens.update(args[0])

    handle = model.fusion.register_forward_pre_hook(record)
    try:
        with running_statistics(model, 0):
            output = model(inputs, present)
    finally:
        handle.remove()
    alphas = model.fusion.alphas
    fractions: dict[str, dict[str, float]] = {}
    for target, tokens in own_tokens.items():
        sizes = {target: float(tokens.abs().mean())}
        for (reader, source), residual in output.residuals.items():
            if reader == target:
                sizes[source] = abs(alphas.get((target, source), 1.0)) * float(residual.abs().mean())
        total = sum(sizes.values())
        fractions[target] = {name: size / total if total else float(name == target) for name, size in sizes.items()}
    return fractions


@contextmanager
def running_statistics(model: nn.Module, momentum: float, *, under: str = "") -> Generator[None, None, None]:
    """Within the block, set the momentum of batch norm's running statistics: 0 freezes them, 1 copies each batch's.

    Momentum and the number of batches are restored afterward.

    Args:
        model: contains the batch norms.
        momentum: 0 to 1.
        under: prefix of the dotted names of the affected modules; others use their own momentum.
    """
    modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    norms = [module for name, module in modules if isinstance(module, _BatchNorm) and name.startswith(under)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.clone()
        yield
    finally:
        for norm, (old_momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = old_momentum, tracked
