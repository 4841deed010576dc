"""Spiking Transformer blocks within one modality, between its encoder and the fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingAttention, SpikingMLP
from snn_fusion.encoders.encoder import Encoder


class TransformerBlock(nn.Module):
    """`x + self-attention(x)`, then `x + MLP(x)`, of spikes.

    Shape: tokens [T, B, N, C] -> tokens [T, B, N, C]

    Args: those of `TransformerBlocks`.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        over: Literal["tokens", "time"],
        mlp_expansion: int,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        self.attention = SpikingAttention(channels, num_heads=num_heads, over=over, neuron=neuron)
        self.mlp = SpikingMLP(channels, expansion=mlp_expansion, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [T, B, N, C] to tokens [T, B, N, C]."""
        x = x + self.attention(x)
        return x + self.mlp(x)


class TransformerBlocks(nn.Sequential):
    """Residual blocks of spiking self-attention and spiking MLP.

    Source: Spikformer (Zhou et al. 2023, arXiv:2209.15425), in the form of the unimodal models of S-CMRL
    (arXiv:2502.12488). Each block adds the spikes of two layers, so tokens of at most k become integers of at most
    k + 2 depth. As published, the attention's neuron may start silent; `snn_fusion.calibrate` makes it fire.

    Shape: tokens [T, B, N, C] -> tokens [T, B, N, C]

    Args:
        channels: token width C, divisible by num_heads.
        depth: number of blocks; with 0, tokens pass unchanged.
        num_heads: attention heads.
        over: `tokens` attends over the tokens of a time step (published), `time` over the time steps of a token.
        mlp_expansion: hidden width of the MLP in multiples of C.
        neuron: factory of each neuron layer.

    Raises:
        ValueError: a depth below 0, or channels not divisible by num_heads.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int,
        num_heads: int,
        over: Literal["tokens", "time"] = "tokens",
        mlp_expansion: int = 4,
        neuron: NeuronFactory = LIF,
    ) -> None:
        if depth < 0:
            raise ValueError(f"depth must be a number of blocks, 0 or more, but it is {depth}")
        super().__init__(
            *(
                TransformerBlock(channels, num_heads=num_heads, over=over, mlp_expansion=mlp_expansion, neuron=neuron)
                for _ in range(depth)
            )
        )


class EncoderWithBlocks(Encoder):
    """An encoder followed by Transformer blocks.

    Args:
        encoder: from the raw input to tokens.
        blocks: from tokens to tokens of the same shape.
    """

    def __init__(self, encoder: Encoder, blocks: TransformerBlocks) -> None:
        super().__init__(encoder.axes, time_steps=encoder.time_steps)
        self.encoder = encoder
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """Encode the encoder's input as tokens [T, B, N, C]."""
        return self.blocks(self.encoder(x))

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return the encoder's number of tokens, which blocks do not change."""
        return self.encoder.count_tokens(input_shape)
