"""The spec of a fusion method, which `pyproject.toml` registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from snn_fusion import MethodSpec, NeuronSpec

if TYPE_CHECKING:
    from snn_fusion.methods.base import FusionMethod


class ContextSpec(MethodSpec):
    """Each modality reads what the others are about as a whole, without attention."""

    makes_residuals: ClassVar[bool] = True

    kind: Literal["context"] = "context"
    """Which fusion method: context, each modality reads the average of every other one's tokens."""
    alpha: float = Field(default=1.0, ge=0)
    """Scale of the residual that a modality adds to itself."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion_context.method import Context

        return Context(tuple(tokens), channels, alpha=self.alpha, neuron=neuron.build)
