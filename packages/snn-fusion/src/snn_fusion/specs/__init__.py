"""Everything about a model that can be configured, as typed, frozen data.

Specs are plain pydantic models: they validate before any tensor exists, survive a round trip through JSON, and
`build()` the modules, which know nothing of specs. Nothing here imports PyTorch, so that reading, checking and printing
a spec is instant. Third parties add specs to the registries.
"""

from snn_fusion.specs.alignment import ALIGNMENTS, AlignmentSpec, ClassContrastiveSpec, InfoNCESpec
from snn_fusion.specs.base import Registry, Spec
from snn_fusion.specs.encoders import (
    ENCODERS,
    BlocksSpec,
    EncoderSpec,
    FittedSpec,
    PatchSplittingSpec,
    SeriesSpec,
    TokensSpec,
    VectorSpec,
)
from snn_fusion.specs.faults import SpecFileError
from snn_fusion.specs.files import dump_spec, json_schema, load_spec
from snn_fusion.specs.methods import (
    METHODS,
    CCSSASpec,
    CMCISpec,
    MethodSpec,
    NoFusionSpec,
    QKSpec,
    SCASpec,
    WeightAttentionSpec,
)
from snn_fusion.specs.model import BackboneSpec, ModelSpec, ReadoutSpec
from snn_fusion.specs.neurons import NEURONS, ALIFSpec, IFSpec, LIFSpec, NeuronSpec, PLIFSpec
from snn_fusion.specs.presets import PRESETS, preset, scmrl

__all__ = [
    "ALIGNMENTS",
    "ENCODERS",
    "METHODS",
    "NEURONS",
    "PRESETS",
    "ALIFSpec",
    "AlignmentSpec",
    "BackboneSpec",
    "BlocksSpec",
    "CCSSASpec",
    "CMCISpec",
    "ClassContrastiveSpec",
    "EncoderSpec",
    "FittedSpec",
    "IFSpec",
    "InfoNCESpec",
    "LIFSpec",
    "MethodSpec",
    "ModelSpec",
    "NeuronSpec",
    "NoFusionSpec",
    "PLIFSpec",
    "PatchSplittingSpec",
    "QKSpec",
    "ReadoutSpec",
    "Registry",
    "SCASpec",
    "SeriesSpec",
    "Spec",
    "SpecFileError",
    "TokensSpec",
    "VectorSpec",
    "WeightAttentionSpec",
    "dump_spec",
    "json_schema",
    "load_spec",
    "preset",
    "scmrl",
]
