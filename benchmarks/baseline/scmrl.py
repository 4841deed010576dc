"""The whole model: encoders, cross-attention with residuals, readout, and the loss with alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from baseline.layers import MLP, Attention, ConvLayer, DetachedLIFNode, NodeFactory, Projection


class PatchSplitting(nn.Module):
    """Stages of convolution, neuron and max-pooling, then a convolution that adds position.

    As published, a static input is the same frame in each of the T steps.

    Shape: static [B, C_in, H, W] or timed [T, B, C_in, H, W] -> tokens [T, B, N, C] of 0, 1 or 2

    Args:
        in_channels: channels C_in of the input.
        channels: token width C.
        time_steps: T of static inputs.
        shallow: two stages and N = (H/4)(W/4) instead of four and N = (H/16)(W/16).
        node: builds each layer of neurons.
    """

    def __init__(self, in_channels: int, channels: int, *, time_steps: int, shallow: bool, node: NodeFactory) -> None:
        super().__init__()
        divisors = (2, 1) if shallow else (8, 4, 2, 1)
        widths = (in_channels, *(channels // divisor for divisor in divisors))
        self.time_steps = time_steps
        self.stages = nn.ModuleList(ConvLayer(before, after, node) for before, after in pairwise(widths))
        self.pool = layer.MaxPool2d(3, stride=2, padding=1, step_mode="m")
        self.position = ConvLayer(channels, channels, node)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C_in, H, W] or [T, B, C_in, H, W] -> tokens [T, B, N, C]."""
        if x.dim() == 4:
            x = x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1)
        for stage in self.stages:
            x = self.pool(stage(x))
        x = x + self.position(x)
        return x.flatten(3).transpose(2, 3).contiguous()


class CrossModalReader(nn.Module):
    """Residual of a target from a source: mean over tokens of spatial times mean over time of temporal attention.

    Shape: target [T, B, N, C], source [T, B, N, C] -> residual [T, B, N, C]
    """

    def __init__(self, channels: int, num_heads: int, node: NodeFactory) -> None:
        super().__init__()
        self.spatial = Attention(channels, num_heads, node, over_time=False)
        self.temporal = Attention(channels, num_heads, node, over_time=True)
        self.projection = Projection(channels, node)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Target [T, B, N, C], source [T, B, N, C] -> residual [T, B, N, C]."""
        spatial, temporal = self.spatial(target, source), self.temporal(target, source)
        return self.projection(spatial.mean(2, keepdim=True) * temporal.mean(0, keepdim=True))


class Fusion(nn.Module):
    """Audio and visual tokens read each other: x' = x + alpha * residual.

    Shape: audio [T, B, N, C], visual [T, B, N, C] -> both fused, and both residuals, of the same shapes
    """

    def __init__(self, channels: int, num_heads: int, alpha: float, node: NodeFactory) -> None:
        super().__init__()
        self.alpha = alpha
        self.readers = nn.ModuleDict(
            {
                "audio_reads_visual": CrossModalReader(channels, num_heads, node),
                "visual_reads_audio": CrossModalReader(channels, num_heads, node),
            }
        )

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens [T, B, N, C] of both modalities -> fused audio, fused visual, residual of audio, of visual."""
        of_audio = self.readers["audio_reads_visual"](audio, visual)
        of_visual = self.readers["visual_reads_audio"](visual, audio)
        return audio + self.alpha * of_audio, visual + self.alpha * of_visual, of_audio, of_visual


class Readout(nn.Module):
    """A residual MLP per modality, mean over tokens, sum over modalities, mean over time, linear head.

    Shape: audio [T, B, N, C], visual [T, B, N, C] -> logits [B, K]
    """

    def __init__(self, channels: int, num_classes: int, node: NodeFactory) -> None:
        super().__init__()
        self.mlps = nn.ModuleDict({"audio": MLP(channels, node), "visual": MLP(channels, node)})
        self.head = nn.Linear(channels, num_classes)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Fused tokens [T, B, N, C] of both modalities -> logits [B, K]."""
        audio = (audio + self.mlps["audio"](audio)).mean(2)
        visual = (visual + self.mlps["visual"](visual)).mean(2)
        return self.head((audio + visual).mean(0))


@dataclass(frozen=True)
class Output:
    """The output of a forward pass."""

    logits: Tensor
    """Class scores [B, K]."""
    features: tuple[Tensor, Tensor]
    """Residuals of audio and visual averaged over tokens [T, B, C]."""


@dataclass(frozen=True)
class Loss:
    """The training loss and its parts, each a scalar."""

    total: Tensor
    classification: Tensor
    alignment: Tensor


class SCMRL(nn.Module):
    """The published audio-visual model.

    Args:
        in_channels: channels of `audio` and `visual` inputs.
        channels: token width C.
        num_classes: classes K.
        time_steps: T of static inputs.
        shallow: see `PatchSplitting`.
        num_heads: attention heads.
        alpha: scale of the residuals.
        temperature: of the alignment loss.
        node: builds each layer of neurons.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        channels: int,
        num_classes: int,
        *,
        time_steps: int,
        shallow: bool = False,
        num_heads: int = 16,
        alpha: float = 1.5,
        temperature: float = 0.1,
        node: NodeFactory = DetachedLIFNode,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.encoders = nn.ModuleDict(
            {
                name: PatchSplitting(number, channels, time_steps=time_steps, shallow=shallow, node=node)
                for name, number in in_channels.items()
            }
        )
        self.fusion = Fusion(channels, num_heads, alpha, node)
        self.readout = Readout(channels, num_classes, node)

    def forward(self, inputs: Mapping[str, Tensor]) -> Output:
        """Images [B, C_in, H, W], or frames [T, B, C_in, H, W], of `audio` and `visual` -> the output.

        All potentials are 0 at the start of each call.
        """
        functional.reset_net(self)
        tokens = [self.encoders[name](inputs[name]) for name in ("audio", "visual")]
        audio, visual, of_audio, of_visual = self.fusion(*tokens)
        return Output(self.readout(audio, visual), (of_audio.mean(2), of_visual.mean(2)))

    def loss(self, output: Output, labels: Tensor) -> Loss:
        """Cross-entropy with label smoothing plus the alignment of the two features; labels [B].

        With features a, b [B, C] averaged over time and S = a b^T / temperature, the alignment is
        - mean over i, j of [y_i = y_j] log_softmax_j(S)[i, j].
        """
        classification = F.cross_entropy(output.logits, labels, label_smoothing=0.1)
        a, b = (feature.mean(0) for feature in output.features)
        shares = F.log_softmax(a @ b.T / self.temperature, dim=1)
        same = (labels[:, None] == labels[None, :]).to(shares.dtype)
        alignment = -torch.mean(same * shares)
        return Loss(classification + alignment, classification, alignment)
