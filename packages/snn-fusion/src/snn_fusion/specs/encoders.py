"""Encoder specs: from a modality's raw input to tokens.

An encoder spec holds for inputs of any shape. The shape is an argument of `build`, and a field of the model's spec.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from snn_fusion.encoders.token_counts import PATCH_STRIDE, patch_splitting_tokens, series_tokens
from snn_fusion.specs.neurons import NeuronSpec
from snn_fusion.specs.registry import Registry
from snn_fusion.specs.spec import Spec

if TYPE_CHECKING:
    from snn_fusion.encoders.encoder import Encoder

FULL_FROM = 64
"""Height and width in pixels from which `auto` chooses full patch splitting: below, it leaves fewer than 16 tokens."""
SERIES_STAGES = 4
"""Stages of the series encoder that `auto` chooses for windows of up to 1,024 values."""
SERIES_TOKENS = 64
"""Maximum number of tokens of a window with `auto`."""


class BlocksSpec(Spec):
    """Spiking Transformer blocks within one modality, before fusion."""

    depth: int = Field(default=1, ge=0)
    """Blocks of self-attention and MLP; 0 passes tokens unchanged."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; the token width must be divisible by it."""
    over: Literal["tokens", "time"] = "tokens"
    """Attention over the tokens of a time step, or over the time steps of a token."""
    mlp_expansion: int = Field(default=4, ge=1)
    """Hidden width of the MLP, in multiples of the token width."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Blocks are built in a loop, which a mistyped number would make endless.
        if self.depth > 1000:
            raise ValueError(f"depth must be at most 1000 blocks, but it is {self.depth}")
        return self


class EncoderSpec(Spec, ABC):
    """Encoder of a modality's raw input, for inputs of any shape that it accepts.

    Shapes are those of one input, without time and batch.
    """

    blocks: BlocksSpec = BlocksSpec(depth=0)
    """Spiking Transformer blocks after the encoder."""

    @abstractmethod
    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return the number of tokens N of one input.

        Raises:
            ValueError: a shape that the encoder does not accept.
        """

    @abstractmethod
    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks, with tokens of width `channels`; the shape is one that it accepts."""

    def fitted_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape to which inputs can be padded or flattened for this encoder; by default unchanged."""
        return input_shape

    def resolve(self, input_shape: tuple[int, ...]) -> EncoderSpec:
        """Return the spec that encodes inputs of this shape; another one for `auto`."""
        return self

    def build(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec, fit: bool = False
    ) -> Encoder:
        """Build the encoder with its blocks, which then accepts only inputs of this shape.

        Args:
            input_shape: axes of one input, without time and batch.
            channels: token width C.
            time_steps: T for static inputs.
            neuron: the neuron of every layer.
            fit: pad or flatten inputs to `fitted_shape`, instead of refusing them.

        Raises:
            ValueError: a shape that the encoder does not accept.
        """
        encoder_shape = self.fitted_shape(input_shape) if fit else input_shape
        self.count_tokens(encoder_shape)
        encoder = self.build_encoder(encoder_shape, channels=channels, time_steps=time_steps, neuron=neuron)
        encoder.require_shape(encoder_shape)
        if encoder_shape != input_shape:
            from snn_fusion.encoders.fitted import FittedEncoder

            encoder = FittedEncoder(encoder, input_shape, encoder_shape)
        if self.blocks.depth == 0:
            return encoder
        from snn_fusion.encoders.transformer import EncoderWithBlocks, TransformerBlocks

        return EncoderWithBlocks(encoder, TransformerBlocks(channels, **self.blocks.model_dump(), neuron=neuron.build))


ENCODERS: Registry[EncoderSpec] = Registry("encoder", "snn_fusion.encoders", EncoderSpec, default="auto")
"""Every encoder that a spec can name."""


@ENCODERS.register
class AutoSpec(EncoderSpec):
    """The encoder that suits the data: patch splitting for [C, H, W], series for [C, L], vector for [C]."""

    kind: Literal["auto"] = "auto"
    """Which encoder: auto, the one that suits the shape of the data; images from 64 x 64 pixels on are split fully."""

    def resolve(self, input_shape: tuple[int, ...]) -> EncoderSpec:
        """Return the spec that encodes inputs of this shape.

        Raises:
            ValueError: a number of axes for which there is no encoder.
        """
        if len(input_shape) == 3:
            depth = "full" if min(input_shape[1:]) >= FULL_FROM else "shallow"
            return PatchSplittingSpec(depth=depth, blocks=self.blocks)
        if len(input_shape) == 1:
            return VectorSpec(blocks=self.blocks)
        if len(input_shape) == 2:
            # Each stage halves the length; long windows get more stages.
            stages = max(SERIES_STAGES, math.ceil(math.log2(max(1, input_shape[1]) / SERIES_TOKENS)))
            return SeriesSpec(num_stages=stages, blocks=self.blocks)
        raise ValueError(
            f"there are encoders for [channels], [channels, length] and [channels, height, width], but the input has "
            f"{len(input_shape)} axes, {list(input_shape)}"
        )

    def fitted_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape to which inputs can be padded."""
        return self.resolve(input_shape).fitted_shape(input_shape)

    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return the number of tokens N of one input."""
        return self.resolve(input_shape).count_tokens(input_shape)

    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks."""
        spec = self.resolve(input_shape)
        return spec.build_encoder(input_shape, channels=channels, time_steps=time_steps, neuron=neuron)


@ENCODERS.register
class PatchSplittingSpec(EncoderSpec):
    """Spiking patch splitting: convolutions that turn an image, spectrogram or event frame into tokens."""

    kind: Literal["patch_splitting"] = "patch_splitting"
    """Which encoder: patch_splitting, for images, spectrograms and event frames."""
    depth: Literal["full", "shallow"] = "full"
    """full: four stages, one token per 16 x 16 pixels; shallow: two stages, one token per 4 x 4."""

    def fitted_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with height and width rounded up to multiples of the stride."""
        if len(input_shape) != 3:
            return input_shape
        stride = PATCH_STRIDE[self.depth]
        return (input_shape[0], *(-(-size // stride) * stride for size in input_shape[1:]))

    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return the number of tokens N of an image (channels, height, width); event frames have two channels."""
        return patch_splitting_tokens(input_shape, depth=self.depth)

    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks."""
        from snn_fusion.encoders.patch_splitting import PatchSplitting

        return PatchSplitting(input_shape[0], channels, depth=self.depth, time_steps=time_steps, neuron=neuron.build)


@ENCODERS.register
class SeriesSpec(EncoderSpec):
    """Spiking convolutions along a window of a dense time series, such as muscle activity or touch."""

    kind: Literal["series"] = "series"
    """Which encoder: series, for windows of dense time series."""
    num_stages: int = Field(default=4, ge=1)
    """Stages, each of which halves the window's length."""
    kernel_size: int = Field(default=3, ge=1)
    """Width of the convolution kernels in samples, odd."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be an odd number of samples, but it is {self.kernel_size}")
        return self

    def fitted_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with all axes after the first flattened."""
        return (input_shape[0], math.prod(input_shape[1:])) if len(input_shape) > 2 else input_shape

    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return the number of tokens N of a window (channels, samples)."""
        return series_tokens(input_shape, num_stages=self.num_stages)

    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks."""
        from snn_fusion.encoders.series import SeriesEncoder

        return SeriesEncoder(
            input_shape[0],
            channels,
            num_stages=self.num_stages,
            kernel_size=self.kernel_size,
            time_steps=time_steps,
            neuron=neuron.build,
        )


@ENCODERS.register
class VectorSpec(EncoderSpec):
    """One vector of sensor values per time step, projected to tokens."""

    kind: Literal["vector"] = "vector"
    """Which encoder: vector, for one vector of sensor values per time step."""
    tokens: int = Field(default=4, ge=1)
    """Tokens N per vector."""

    def fitted_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with all axes flattened."""
        return (math.prod(input_shape),)

    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return the number of tokens N of a vector (values,)."""
        if len(input_shape) != 1 or input_shape[0] < 1:
            raise ValueError(f"input_shape must be (values,), at least 1, but it is {tuple(input_shape)}")
        return self.tokens

    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks."""
        from snn_fusion.encoders.vector import VectorEncoder

        return VectorEncoder(
            input_shape[0], channels, num_tokens=self.tokens, time_steps=time_steps, neuron=neuron.build
        )


@ENCODERS.register
class TokensSpec(EncoderSpec):
    """Precomputed tokens, such as those of a pretrained network."""

    kind: Literal["tokens"] = "tokens"
    """Which encoder: tokens, for precomputed tokens; if their width differs, they pass one spiking linear layer."""

    def count_tokens(self, input_shape: tuple[int, ...]) -> int:
        """Return N of tokens (N, width)."""
        if len(input_shape) != 2 or min(input_shape) < 1:
            raise ValueError(f"input_shape must be (tokens, width), both at least 1, but it is {tuple(input_shape)}")
        return input_shape[0]

    def build_encoder(
        self, input_shape: tuple[int, ...], *, channels: int, time_steps: int, neuron: NeuronSpec
    ) -> Encoder:
        """Build the encoder without its blocks."""
        from snn_fusion.encoders.token_input import TokenInput

        return TokenInput(input_shape[1], channels, time_steps=time_steps, neuron=neuron.build)
