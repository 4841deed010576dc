"""Checkpoints of the published S-CMRL code (arXiv:2502.12488) as models of ours that compute the same."""

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
from snn_fusion.published_file import read_state_dict
from snn_fusion.published_names import (
    ATTENTIONS,
    NEURON,
    SIDES,
    PublishedMethod,
    as_matrix,
    number_of_blocks,
    our_modules,
    our_names,
    possible_methods,
    shown,
    translate_published,
)
from snn_fusion.specs import ModelSpec

__all__ = ["ImageSizes", "Published", "PublishedMethod", "import_published", "read_published", "translate_published"]

ImageSizes = Mapping[str, tuple[int, int]]
"""Height and width of each modality's images, spectrograms or event frames."""

_LABEL_SMOOTHING = 0.1
_NEURON_CONSTANTS = {"threshold": 1.0, "alpha": 4.0}
_MADE_HERE = ("num_batches_tracked", "spike.scale", "score.scale")
"""Buffers of ours that a checkpoint may lack or has no counterpart of."""


def import_published(
    path: Path | str,
    *,
    time_steps: int,
    num_heads: int = 16,
    alpha: float = 1.5,
    temperature: float = 0.1,
    method: PublishedMethod | None = None,
    modality: str = "input",
    image_sizes: ImageSizes | None = None,
    ema: bool = False,
) -> FusionModel:
    """A checkpoint that the authors' training script wrote, as a model in evaluation mode that computes the same.

    Widths, classes, channels, patch splitting, alignment and, where it shows, the method are read from the weights. An
    audio-visual model has the modalities `audio` and `visual`, a unimodal one has the one that `modality` names. The
    model takes images of every size that patch splitting takes; for a spec of it see `read_published`.

    Args:
        path: the checkpoint, see `read_published`.
        time_steps: T for static inputs.
        num_heads: attention heads; 16 in all published runs.
        alpha: scale of the residual; 1.5 in all published runs.
        temperature: of the alignment loss in further training; published 0.07 (CREMA-D), 0.08 (UrbanSound8K-AV).
        method: how modalities read each other, where the weights do not tell.
        modality: name of a unimodal model's input.
        image_sizes: height and width by modality; SCA alone needs them, see `Published.build`.
        ema: read the moving average of the weights that a checkpoint may hold beside them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: those of `read_published` and `Published.build`.
    """
    checkpoint = read_published(
        path,
        time_steps=time_steps,
        num_heads=num_heads,
        alpha=alpha,
        temperature=temperature,
        method=method,
        modality=modality,
        ema=ema,
    )
    return checkpoint.build(image_sizes)


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
) -> Published:
    """What a checkpoint of the authors' training script holds: `build()` gives the model, `spec(...)` its spec.

        checkpoint = read_published("best.pth.tar", time_steps=4)
        spec = checkpoint.spec({"audio": (128, 128), "visual": (128, 128)})
        save_pretrained(checkpoint.build(), spec, "folder")

    The file is a state dict, or holds one as `state_dict` or `model`, its names with or without `module.` before them.
    It is read as data: code in it is refused, except for the `argparse.Namespace` of training options.

    Models with spatial and with temporal attention have the same weights, so `method` has to say which it is. A model
    without cross-attention has its blocks all the same, which batch norm's counters betray; where a checkpoint lacks
    them, say `none`.

    Args: those of `import_published`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one with code in it; not a published model's; neurons with other constants; a
            method that the weights contradict, or none where they do not tell.
    """
    weights = read_state_dict(Path(path), ema=ema)
    fused = any(name.startswith("audio_patch_embed.") for name in weights)
    if not fused and not any(name.startswith("patch_embed.") for name in weights):
        raise ValueError(
            f"{path} holds no published model: none of its names begins with patch_embed or audio_patch_embed; the "
            f"first are {shown(list(weights)[:3])}"
        )
    _check_neurons(weights, path)
    return Published(
        source=str(path),
        weights=weights,
        method=_choose_method(weights, method, fused, path),
        modalities=SIDES if fused else (modality,),
        time_steps=time_steps,
        num_heads=num_heads,
        alpha=alpha,
        temperature=temperature,
    )


@dataclass(frozen=True)
class Published:
    """A published model's weights under the authors' names, and what decides how they are used."""

    source: str
    """Where the weights come from, for messages."""
    weights: Mapping[str, Tensor]
    """By the authors' names."""
    method: PublishedMethod
    """How modalities read each other; `none` for unimodal models, too."""
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
        """How the two modalities are joined: the head of concatenated ones is twice as wide."""
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
        """Channels of a modality's images."""
        return self._size(self._encoder_name(modality, "proj_conv.weight"), 1)

    def build(self, image_sizes: ImageSizes | None = None) -> FusionModel:
        """The model with these weights, in evaluation mode.

        Args:
            image_sizes: height and width by modality. SCA alone needs them, because its position bias is made for one
                number of tokens.

        Raises:
            ValueError: weights that are missing, unknown or of a wrong shape, all named; SCA without sizes; what `spec`
                raises.
        """
        known = image_sizes is not None
        if image_sizes is None:
            if self.method == "sca":
                raise ValueError(
                    "SCA's position bias is made for one number of tokens: give image_sizes, the height and width of "
                    "audio and visual"
                )
            edge = PATCH_STRIDE[self.depth]
            image_sizes = dict.fromkeys(self.modalities, (edge, edge))
        model = self.spec(image_sizes).build()
        if isinstance(model.fusion, CMCI) and not known:
            # The joint representation has as many places as the tokens that will come, not those of a stand-in's size.
            model.fusion.num_tokens = None
        if not known:
            for encoder in model.modules():
                if isinstance(encoder, Encoder):
                    # Of the stand-in's shape only the channels are known.
                    encoder.axes = (encoder.axes[0], "H", "W")
        self._load_into(model)
        return model.eval()

    def spec(self, image_sizes: ImageSizes) -> ModelSpec:
        """The model's spec, with which `save_pretrained` can write it.

        Args:
            image_sizes: height and width by modality, which weights do not tell.

        Raises:
            ValueError: sizes of other modalities than the model's, or that patch splitting does not take; heads that do
                not divide the channels.
        """
        if set(image_sizes) != set(self.modalities):
            raise ValueError(
                f"image_sizes must give height and width of {', '.join(self.modalities)}, but it names "
                f"{', '.join(image_sizes) or 'none'}"
            )
        blocks = {"depth": self.blocks, "num_heads": self.num_heads} if self.blocks else {"depth": 0}
        return ModelSpec.model_validate(
            {
                "encoders": {
                    name: {
                        "input_shape": (self.in_channels(name), *image_sizes[name]),
                        "depth": self.depth,
                        "blocks": blocks,
                    }
                    for name in self.modalities
                },
                "num_classes": self.num_classes,
                "channels": self.channels,
                "time_steps": self.time_steps,
                "neuron": {"kind": "lif", "detach_membrane": True},
                "fusion": {"kind": "ccssa" if self.method in ATTENTIONS else self.method, **self._fusion_options()},
                "alignment": {"temperature": self.temperature} if self.aligned else None,
                "readout": {"combine": self.combine, "mlp_expansion": 0 if len(self.modalities) == 1 else 4},
                "label_smoothing": _LABEL_SMOOTHING,
                "init": "published",
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
        named, unknown = our_names(self.weights, method=self.method, modality=self.modalities[0])
        modules = our_modules(self.weights, method=self.method, modality=self.modalities[0])
        theirs = {ours: published for published, ours in modules.items()}
        expected = model.state_dict()
        state = {ours: as_matrix(self.weights[name]) for name, ours in named.items() if ours in expected}
        unknown += [name for name, ours in named.items() if ours not in expected]
        faults = [f"unexpected: {name}" for name in unknown]
        for ours in expected:
            module, _, tensor = ours.rpartition(".")
            if ours not in state and not ours.endswith(_MADE_HERE):
                faults.append(f"missing: {theirs[module]}.{tensor}")
        for name, ours in named.items():
            if ours in state and state[ours].shape != expected[ours].shape:
                faults.append(f"{name} is {tuple(state[ours].shape)} and should be {tuple(expected[ours].shape)}")
        if faults:
            raise ValueError(f"the weights in {self.source} are not a published model's: {shown(faults)}")
        model.load_state_dict(state, strict=False)

    @property
    def _head(self) -> str:
        return "head.0.weight" if self.method == "cmci" else "head.weight"

    def _encoder_name(self, modality: str, name: str) -> str:
        return f"{modality}_patch_embed.{name}" if len(self.modalities) == 2 else f"patch_embed.{name}"

    def _size(self, name: str, axis: int) -> int:
        tensor = self.weights.get(name)
        if tensor is None or tensor.dim() <= axis:
            what = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)}"
            raise ValueError(f"the weights in {self.source} are not a published model's: {name} {what}")
        return tensor.shape[axis]


def _choose_method(
    weights: Mapping[str, Tensor], given: PublishedMethod | None, fused: bool, path: Path | str
) -> PublishedMethod:
    if given is not None and given not in get_args(PublishedMethod):
        raise ValueError(f"method is {', '.join(get_args(PublishedMethod))} or None, but it is {given!r}")
    if not fused:
        if given not in (None, "none"):
            raise ValueError(f"the model in {path} has one modality, which reads no other, but method is {given!r}")
        return "none"
    possible, why = possible_methods(weights)
    if given is not None:
        if given not in possible:
            raise ValueError(f"the weights in {path} contradict method {given!r}: {why}, so it is {_either(possible)}")
        return given
    # That cross-attention was off is never guessed: either nothing else is possible, or the caller says so.
    likely: list[PublishedMethod] = [name for name in possible if name != "none" or len(possible) == 1]
    if len(likely) > 1:
        raise ValueError(f"the weights in {path} do not tell their method ({why}): give method, {_either(possible)}")
    return likely[0]


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _check_neurons(weights: Mapping[str, Tensor], path: Path | str) -> None:
    for name, tensor in weights.items():
        if NEURON.fullmatch(name):
            constant = _NEURON_CONSTANTS[name.rpartition(".")[2]]
            if tensor.numel() != 1 or tensor.item() != constant:
                raise ValueError(
                    f"the neurons of published models have {name} {constant:g}, but in {path} it is "
                    f"{tensor.item() if tensor.numel() == 1 else tuple(tensor.shape)}: the model was changed"
                )
