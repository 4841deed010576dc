"""S-CMRL as it was published, as specs: for any modalities, and by name in the published configurations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from snn_fusion.specs.alignment import ClassContrastiveSpec
from snn_fusion.specs.encoders import BlocksSpec, PatchSplittingSpec
from snn_fusion.specs.methods import CCSSASpec
from snn_fusion.specs.model import ModelSpec, ReadoutSpec
from snn_fusion.specs.neurons import LIFSpec
from snn_fusion.suggestion import did_you_mean


def scmrl(
    modalities: Mapping[str, tuple[int, int, int]],
    *,
    num_classes: int,
    depth: Literal["full", "shallow"] = "full",
    channels: int = 256,
    time_steps: int = 4,
    attention: Literal["spatial", "temporal", "spatiotemporal"] = "spatiotemporal",
    num_heads: int = 16,
    alpha: float = 1.5,
    temperature: float | None = 0.1,
    combine: Literal["add", "concat"] = "add",
) -> ModelSpec:
    """Return the spec of S-CMRL as in the authors' code (He et al. 2025, arXiv:2502.12488).

    Every field is set, so that later changes of the library's defaults have no effect. It differs from `ModelSpec(...)`
    in `fusion.head_merge` (the library merges the heads of temporal attention in order), `init` (the library calibrates
    the cross-modal branch, which starts silent here) and `channels` (64 there). As in the library, no gradient flows
    through the membrane potential between time steps (`detach_membrane`). See docs/published.md.

    Args:
        modalities: channels, height and width of each modality's input. The authors have two, audio first.
        num_classes: classes K.
        depth: full, one token per 16 x 16 pixels, or shallow, per 4 x 4.
        channels: token width C, divisible by `num_heads` and by 8.
        time_steps: T for static inputs.
        attention: spatiotemporal is the published method; the other two are its ablations.
        num_heads: attention heads.
        alpha: scale of the residuals.
        temperature: of the alignment loss; None omits both the alignment and the semantic projection.
        combine: how the modalities' features are joined.

    Raises:
        ValidationError: those of the specs.
    """
    return ModelSpec(
        input_shapes=modalities,
        encoders={name: PatchSplittingSpec(depth=depth, blocks=BlocksSpec(depth=0)) for name in modalities},
        num_classes=num_classes,
        channels=channels,
        time_steps=time_steps,
        neuron=LIFSpec(
            tau=2.0,
            decay_input=True,
            v_threshold=1.0,
            v_reset=0.0,
            detach_reset=True,
            detach_membrane=True,
            surrogate="sigmoid",
            slope=4.0,
            learn_threshold=False,
        ),
        fusion=CCSSASpec(
            attention=attention,
            num_heads=num_heads,
            topology="all",
            sharing="pair",
            combine="sum",
            alpha=alpha,
            learnable_alpha=False,
            scale=0.25,
            semantic_projection=temperature is not None,
            head_merge="published",
        ),
        alignment=(
            None if temperature is None else ClassContrastiveSpec(temperature=temperature, symmetric=False, weight=1.0)
        ),
        readout=ReadoutSpec(combine=combine, mlp_expansion=4),
        label_smoothing=0.1,
        modality_dropout=0.0,
        init="uncalibrated",
        fit_inputs=False,
    )


PRESETS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "scmrl-cremad-published": scmrl(
            {"audio": (1, 128, 128), "visual": (3, 128, 128)}, num_classes=6, temperature=0.07
        ),
        "scmrl-urbansound8k-av-published": scmrl(
            {"audio": (1, 128, 128), "visual": (3, 128, 128)}, num_classes=10, channels=64, temperature=0.08
        ),
        "scmrl-mnistdvs-ntidigits-published": scmrl(
            {"audio": (1, 28, 28), "visual": (2, 28, 28)}, num_classes=10, depth="shallow", time_steps=16
        ),
    }
)
"""The published configurations by name: CREMA-D and UrbanSound8K-AV with static spectrograms and frames, and MNIST-DVS
with N-TIDIGITS as events in 16 time steps."""


def preset(name: str) -> ModelSpec:
    """Return a published configuration by its name, one of `PRESETS`.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PRESETS:
        parts = [f"there is no preset {name!r};", did_you_mean(name, PRESETS, cutoff=0.4), "known:", ", ".join(PRESETS)]
        raise ValueError(" ".join(filter(None, parts)))
    return PRESETS[name]
