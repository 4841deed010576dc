"""Encoders: from a modality's raw input to tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from snn_fusion.encoders.token_counts import PATCH_STRIDE, patch_splitting_tokens, series_tokens
from snn_fusion.specs.base import Registry, Spec
from snn_fusion.specs.neurons import NeuronSpec

if TYPE_CHECKING:
    from snn_fusion.encoders.encoder import Encoder


class BlocksSpec(Spec):
    """Spiking Transformer blocks within one modality, before modalities meet."""

    depth: int = Field(default=1, ge=0)
    """Blocks of self-attention and MLP; 0 passes tokens unchanged."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; the token width must be divisible by it."""
    over: Literal["tokens", "time"] = "tokens"
    """Whether tokens attend over places within a time step, or over time steps within a place."""
    mlp_expansion: int = Field(default=4, ge=1)
    """Width of the MLP's middle, in multiples of the token width."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Each block is built one by one: a mistyped number would not end.
        if self.depth > 1000:
            raise ValueError(f"depth is at most 1000 blocks, but it is {self.depth}")
        return self


class EncoderSpec(Spec, ABC):
    """From a modality's raw input to tokens."""

    blocks: BlocksSpec = BlocksSpec(depth=0)
    """Spiking Transformer blocks after the encoder."""

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens N of one sample."""

    @abstractmethod
    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""

    def build(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder with its blocks, for inputs of the spec's shape alone."""
        encoder = self.build_encoder(channels=channels, time_steps=time_steps, neuron=neuron)
        encoder.require_shape(shape_of(self))
        if self.blocks.depth == 0:
            return encoder
        from snn_fusion.encoders.transformer import EncoderWithBlocks, TransformerBlocks

        return EncoderWithBlocks(encoder, TransformerBlocks(channels, **self.blocks.model_dump(), neuron=neuron.build))


ENCODERS: Registry[EncoderSpec] = Registry("encoder", EncoderSpec, default="patch_splitting")
"""Every encoder that a spec can name."""


@ENCODERS.register
class PatchSplittingSpec(EncoderSpec):
    """Spiking patch splitting: convolutions that turn an image, spectrogram or event frame into tokens."""

    kind: Literal["patch_splitting"] = "patch_splitting"
    """Which encoder: patch_splitting, for images, spectrograms and event frames."""
    input_shape: tuple[int, int, int]
    """Channels, height and width of the input; event frames have two channels."""
    depth: Literal["full", "shallow"] = "full"
    """full: four stages, one token for 16 x 16 pixels; shallow: two stages, one token for 4 x 4."""

    @property
    def stride(self) -> int:
        """Pixels along a token's edge."""
        return PATCH_STRIDE[self.depth]

    @property
    def num_tokens(self) -> int:
        """Tokens N of one image."""
        return patch_splitting_tokens(self.input_shape, depth=self.depth)

    @model_validator(mode="after")
    def _check(self) -> Self:
        patch_splitting_tokens(self.input_shape, depth=self.depth)
        return self

    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""
        from snn_fusion.encoders.patch_splitting import PatchSplitting

        return PatchSplitting(
            self.input_shape[0], channels, depth=self.depth, time_steps=time_steps, neuron=neuron.build
        )


@ENCODERS.register
class SeriesSpec(EncoderSpec):
    """Spiking convolutions along a window of a dense time series, such as muscle activity or touch."""

    kind: Literal["series"] = "series"
    """Which encoder: series, for windows of dense time series."""
    input_shape: tuple[int, int]
    """Channels (electrodes, sensors) and samples of one window."""
    num_stages: int = Field(default=4, ge=1)
    """Stages, each of which halves the window's length."""
    kernel_size: int = Field(default=3, ge=1)
    """Samples that a convolution's kernel covers, odd."""

    @property
    def num_tokens(self) -> int:
        """Tokens N of one window."""
        return series_tokens(self.input_shape, num_stages=self.num_stages)

    @model_validator(mode="after")
    def _check(self) -> Self:
        series_tokens(self.input_shape, num_stages=self.num_stages)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is an odd number of samples, but it is {self.kernel_size}")
        return self

    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""
        from snn_fusion.encoders.series import SeriesEncoder

        return SeriesEncoder(
            self.input_shape[0],
            channels,
            num_stages=self.num_stages,
            kernel_size=self.kernel_size,
            time_steps=time_steps,
            neuron=neuron.build,
        )


@ENCODERS.register
class VectorSpec(EncoderSpec):
    """One vector of sensor values a time step, projected to tokens."""

    kind: Literal["vector"] = "vector"
    """Which encoder: vector, for one vector of sensor values a time step."""
    in_channels: int = Field(ge=1)
    """Sensor values in a vector."""
    tokens: int = Field(default=4, ge=1)
    """Tokens N that each vector becomes."""

    @property
    def num_tokens(self) -> int:
        """Tokens N of one vector."""
        return self.tokens

    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""
        from snn_fusion.encoders.vector import VectorEncoder

        return VectorEncoder(
            self.in_channels, channels, num_tokens=self.tokens, time_steps=time_steps, neuron=neuron.build
        )


@ENCODERS.register
class TokensSpec(EncoderSpec):
    """Tokens that were made elsewhere, such as by a pretrained network."""

    kind: Literal["tokens"] = "tokens"
    """Which encoder: tokens, for tokens that were made elsewhere."""
    input_shape: tuple[int, int]
    """Tokens N and their width; another width than the model's passes one spiking linear layer."""

    @property
    def num_tokens(self) -> int:
        """Tokens N of one sample."""
        return self.input_shape[0]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.input_shape) < 1:
            raise ValueError(f"input_shape is (tokens, width), both at least 1, but it is {self.input_shape}")
        return self

    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""
        from snn_fusion.encoders.token_input import TokenInput

        return TokenInput(self.input_shape[1], channels, time_steps=time_steps, neuron=neuron.build)


Fittable = PatchSplittingSpec | SeriesSpec | VectorSpec | TokensSpec
"""Encoders that inputs can be padded or flattened for."""


@ENCODERS.register
class FittedSpec(EncoderSpec):
    """An encoder for inputs of another shape: they are padded with zeros, or their last axes are made one."""

    kind: Literal["fitted"] = "fitted"
    """Which encoder: fitted, another one for inputs that are padded or flattened for it."""
    input_shape: tuple[int, ...]
    """Axes of the input, without time and batch."""
    encoder: Annotated[Fittable, Field(discriminator="kind")]
    """What takes the input then. Its shape has as many axes, none of them shorter; or fewer, the last of which stands
    for all that follow."""

    @property
    def num_tokens(self) -> int:
        """Tokens N of one input."""
        return self.encoder.num_tokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        given, taken = self.input_shape, shape_of(self.encoder)
        merged = (*given[: len(taken) - 1], math.prod(given[len(taken) - 1 :]))
        padded = len(given) == len(taken) and all(a <= b for a, b in zip(given, taken, strict=True))
        if min(given, default=0) < 1 or not (padded or (len(given) > len(taken) and merged == taken)):
            raise ValueError(f"input_shape {given} can be neither padded nor flattened to {taken}, which encoder takes")
        return self

    def build_encoder(self, *, channels: int, time_steps: int, neuron: NeuronSpec) -> Encoder:
        """The encoder alone, to tokens of width `channels`."""
        from snn_fusion.encoders.fitted import FittedEncoder

        inner = self.encoder.build(channels=channels, time_steps=time_steps, neuron=neuron)
        return FittedEncoder(inner, self.input_shape, shape_of(self.encoder))


def shape_of(spec: EncoderSpec) -> tuple[int, ...]:
    """Axes of the input that an encoder takes, without time and batch."""
    channels = getattr(spec, "in_channels", None)
    return cast("tuple[int, ...]", getattr(spec, "input_shape", ())) if channels is None else (channels,)
