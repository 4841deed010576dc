"""Import checkpoints of the published S-CMRL code (arXiv:2502.12488) as models that compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from snn_fusion.encoders.encoder import Encoder
from snn_fusion.encoders.token_counts import PATCH_STRIDE
from snn_fusion.methods.cmci import CMCI
from snn_fusion.model import FusionModel
from snn_fusion.published.file import read_state_dict
from snn_fusion.published.names import (
    ATTENTIONS,
    NEURON,
    SIDES,
    PublishedMethod,
    as_matrix,
    join_names,
    number_of_blocks,
    our_modules,
    our_names,
    possible_methods,
)
from snn_fusion.specs.model import ModelSpec

ImageSizes = Mapping[str, tuple[int, int]]
"""Height and width of each modality's images, spectrograms or event frames."""

_LABEL_SMOOTHING = 0.1
_NEURON_CONSTANTS = {"threshold": 1.0, "alpha": 4.0}
_OPTIONAL_BUFFERS = ("num_batches_tracked", "spike.scale", "score.scale")
"""Our buffers that a checkpoint may lack."""


def read_published(
    path: Path | str,
    *,
    time_steps: int,
    num_heads: int = 16,
    alpha: float = 1.5,
    temperature: float = 0.1,
    method: PublishedMethod | None = None,
    modality: str = "input",
    ema: bool = False,
) -> PublishedCheckpoint:
    """Read a checkpoint of the authors' training script: `build()` returns a model that computes the same.

        checkpoint = read_published("best.pth.tar", time_steps=4)
        spec = checkpoint.spec({"audio": (128, 128), "visual": (128, 128)})
        save_pretrained(checkpoint.build(), spec, "folder")

    The file is a state dict, or has one as `state_dict` or `model`, with or without the prefix `module.`. It is read as
    data: code in it is refused, except for the `argparse.Namespace` of training options.

    Models with spatial and with temporal attention have the same weight names, so `method` must distinguish them. A
    model without cross-attention contains its blocks nevertheless; batch norm's counters show that they were not run.
    If a checkpoint lacks the counters, pass `none`.

    Widths, classes, channels, patch splitting, alignment and, if possible, the method are inferred from the weights. An
    audio-visual model has the modalities `audio` and `visual`, a unimodal one has `modality`. The model accepts every
    image size that patch splitting accepts.

    Args:
        path: the checkpoint.
        time_steps: T for static inputs.
        num_heads: attention heads; 16 in all published runs.
        alpha: scale of the residual; 1.5 in all published runs.
        temperature: of the alignment loss for fine-tuning; published 0.07 (CREMA-D), 0.08 (UrbanSound8K-AV).
        method: the fusion method, if the weights do not determine it.
        modality: name of a unimodal model's input.
        ema: read the moving average of the weights, if the checkpoint has one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one with code; not a published model; neurons with other constants; a method
            that contradicts the weights, or no method although they do not determine it.
    """
    weights = read_state_dict(Path(path), ema=ema)
    multimodal = any(name.startswith("audio_patch_embed.") for name in weights)
    if not multimodal and not any(name.startswith("patch_embed.") for name in weights):
        raise ValueError(
            f"{path} holds no published model: none of its names begins with patch_embed or audio_patch_embed; the "
            f"first are {join_names(list(weights)[:3])}"
        )
    _check_neurons(weights, path)
    return PublishedCheckpoint(
        source=str(path),
        weights=weights,
        method=_choose_method(weights, method, multimodal, path),
        modalities=SIDES if multimodal else (modality,),
        time_steps=time_steps,
        num_heads=num_heads,
        alpha=alpha,
        temperature=temperature,
    )


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published model's weights under the authors' names, and its settings."""

    source: str
    """The checkpoint's path, for messages."""
    weights: Mapping[str, Tensor]
    """By the authors' names."""
    method: PublishedMethod
    """The fusion method; `none` for unimodal models."""
    modalities: tuple[str, ...]
    """`audio` and `visual`, or the name of a unimodal model's input."""
    time_steps: int
    """T for static inputs."""
    num_heads: int
    """Attention heads."""
    alpha: float
    """Scale of the residual."""
    temperature: float
    """Of the alignment loss."""

    @property
    def channels(self) -> int:
        """Token width C."""
        return self._size(self._encoder_name(self.modalities[0], "rpe_conv.weight"), 0)

    @property
    def num_classes(self) -> int:
        """Classes K."""
        return self._size(self._head, 0)

    @property
    def depth(self) -> Literal["full", "shallow"]:
        """Whether patch splitting has four stages or two."""
        full = self._encoder_name(self.modalities[0], "proj_conv2.weight") in self.weights
        return "full" if full else "shallow"

    @property
    def combine(self) -> Literal["add", "concat"]:
        """How the two modalities are joined, from the width of the head."""
        return "concat" if self._size(self._head, 1) == 2 * self.channels else "add"

    @property
    def aligned(self) -> bool:
        """Whether residuals pass a semantic projection and are aligned in training."""
        return self.method in ATTENTIONS and any(".trans_linear." in name for name in self.weights)

    @property
    def blocks(self) -> int:
        """Transformer blocks of a unimodal model."""
        return number_of_blocks(self.weights) if len(self.modalities) == 1 else 0

    def in_channels(self, modality: str) -> int:
        """Return the channels of a modality's images."""
        return self._size(self._encoder_name(modality, "proj_conv.weight"), 1)

    def build(self, image_sizes: ImageSizes | None = None) -> FusionModel:
        """Return the model with these weights, in evaluation mode.

        Args:
            image_sizes: height and width by modality. Only SCA needs them: its position bias is for a fixed number of
                tokens.

        Raises:
            ValueError: missing, unknown or misshapen weights, all named; SCA without sizes; the errors of `spec`.
        """
        known = image_sizes is not None
        if image_sizes is None:
            if self.method == "sca":
                raise ValueError(
                    "SCA's position bias is for a fixed number of tokens: pass image_sizes, the height and width of "
                    "audio and visual"
                )
            edge = PATCH_STRIDE[self.depth]
            image_sizes = dict.fromkeys(self.modalities, (edge, edge))
        model = self.spec(image_sizes).build()
        if isinstance(model.fusion, CMCI) and not known:
            # The joint representation has as many tokens as the inputs, not as an image of the placeholder's size.
            model.fusion.num_tokens = None
        if not known:
            for encoder in model.modules():
                if isinstance(encoder, Encoder):
                    # Only the channels of the placeholder's shape are known.
                    encoder.axes = (encoder.axes[0], "H", "W")
        self._load_into(model)
        return model.eval()

    def spec(self, image_sizes: ImageSizes) -> ModelSpec:
        """Return the model's spec, for example for `save_pretrained`.

        Args:
            image_sizes: height and width by modality, which cannot be inferred from the weights.

        Raises:
            ValueError: sizes of other modalities than the model's, or invalid for patch splitting; channels that are
                not divisible by the heads.
        """
        if set(image_sizes) != set(self.modalities):
            raise ValueError(
                f"image_sizes must have height and width of {', '.join(self.modalities)}, but it has "
                f"{', '.join(image_sizes) or 'none'}"
            )
        blocks = {"depth": self.blocks, "num_heads": self.num_heads} if self.blocks else {"depth": 0}
        return ModelSpec.model_validate(
            {
                "input_shapes": {name: (self.in_channels(name), *image_sizes[name]) for name in self.modalities},
                "encoders": {
                    name: {"kind": "patch_splitting", "depth": self.depth, "blocks": blocks} for name in self.modalities
                },
                "num_classes": self.num_classes,
                "channels": self.channels,
                "time_steps": self.time_steps,
                "neuron": {"kind": "lif", "detach_membrane": True},
                "fusion": {"kind": "ccssa" if self.method in ATTENTIONS else self.method, **self._fusion_options()},
                "alignment": {"temperature": self.temperature} if self.aligned else None,
                "readout": {"combine": self.combine, "mlp_expansion": 0 if len(self.modalities) == 1 else 4},
                "label_smoothing": _LABEL_SMOOTHING,
                "init": "uncalibrated",
            }
        )

    def _fusion_options(self) -> dict[str, Any]:
        if self.method in ATTENTIONS:
            return {
                "attention": self.method,
                "num_heads": self.num_heads,
                "alpha": self.alpha,
                "semantic_projection": self.aligned,
                "head_merge": "published",
            }
        return {"num_heads": self.num_heads, "position_bias": "random"} if self.method == "sca" else {}

    def _load_into(self, model: FusionModel) -> None:
        names, unknown = our_names(self.weights, method=self.method, modality=self.modalities[0])
        modules = our_modules(self.weights, method=self.method, modality=self.modalities[0])
        theirs = {ours: published for published, ours in modules.items()}
        expected = model.state_dict()
        state = {ours: as_matrix(self.weights[name]) for name, ours in names.items() if ours in expected}
        unknown += [name for name, ours in names.items() if ours not in expected]
        faults = [f"unexpected: {name}" for name in unknown]
        for ours in expected:
            module, _, tensor = ours.rpartition(".")
            if ours not in state and not ours.endswith(_OPTIONAL_BUFFERS):
                faults.append(f"missing: {theirs[module]}.{tensor}")
        for name, ours in names.items():
            if ours in state and state[ours].shape != expected[ours].shape:
                faults.append(f"{name} is {tuple(state[ours].shape)} and should be {tuple(expected[ours].shape)}")
        if faults:
            raise ValueError(f"the weights in {self.source} are not a published model's: {join_names(faults)}")
        model.load_state_dict(state, strict=False)

    @property
    def _head(self) -> str:
        return "head.0.weight" if self.method == "cmci" else "head.weight"

    def _encoder_name(self, modality: str, name: str) -> str:
        return f"{modality}_patch_embed.{name}" if len(self.modalities) == 2 else f"patch_embed.{name}"

    def _size(self, name: str, axis: int) -> int:
        tensor = self.weights.get(name)
        if tensor is None or tensor.dim() <= axis:
            problem = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)}"
            raise ValueError(f"the weights in {self.source} are not a published model's: {name} {problem}")
        return tensor.shape[axis]


def _choose_method(
    weights: Mapping[str, Tensor], method: PublishedMethod | None, multimodal: bool, path: Path | str
) -> PublishedMethod:
    if method is not None and method not in get_args(PublishedMethod):
        raise ValueError(f"method must be {', '.join(get_args(PublishedMethod))} or None, but it is {method!r}")
    if not multimodal:
        if method not in (None, "none"):
            raise ValueError(f"the model in {path} has only one modality, so method must be none, not {method!r}")
        return "none"
    possible, reason = possible_methods(weights)
    options = " or ".join(possible)
    if method is not None:
        if method not in possible:
            raise ValueError(f"the weights in {path} contradict method {method!r}: {reason}, so it is {options}")
        return method
    # `none` is never guessed: either nothing else is possible, or the caller must pass it.
    likely: list[PublishedMethod] = [name for name in possible if name != "none" or len(possible) == 1]
    if len(likely) > 1:
        raise ValueError(f"the weights in {path} do not determine their method ({reason}): pass method, {options}")
    return likely[0]


def _check_neurons(weights: Mapping[str, Tensor], path: Path | str) -> None:
    for name, tensor in weights.items():
        if NEURON.fullmatch(name):
            constant = _NEURON_CONSTANTS[name.rpartition(".")[2]]
            if tensor.numel() != 1 or tensor.item() != constant:
                raise ValueError(
                    f"the neurons of published models have {name} {constant:g}, but in {path} it is "
                    f"{tensor.item() if tensor.numel() == 1 else tuple(tensor.shape)}: the model was modified"
                )
