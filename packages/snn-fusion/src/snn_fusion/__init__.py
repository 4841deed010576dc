"""Fuse any number of senses in a spiking neural network, from typed specs or module by module.

Names are loaded when they are first used, so that working with specs alone never waits for PyTorch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_fusion.alignment import ClassContrastive, InfoNCE
    from snn_fusion.calibration import calibrate
    from snn_fusion.encoders.encoder import Encoder
    from snn_fusion.encoders.fitted import FittedEncoder
    from snn_fusion.encoders.patch_splitting import PatchSplitting
    from snn_fusion.encoders.series import SeriesEncoder
    from snn_fusion.encoders.token_input import TokenInput
    from snn_fusion.encoders.transformer import EncoderWithBlocks, TransformerBlocks
    from snn_fusion.encoders.vector import VectorEncoder
    from snn_fusion.layer_health import Health, LayerHealth, health, residual_share
    from snn_fusion.methods import FusedTokens, FusionMethod, NoFusion, Pair
    from snn_fusion.methods.ccssa import CCSSA
    from snn_fusion.methods.cmci import CMCI
    from snn_fusion.methods.qk import QKFusion
    from snn_fusion.methods.sca import SCA
    from snn_fusion.methods.weight_attention import WeightAttention
    from snn_fusion.model import FusionModel, FusionOutput, Loss
    from snn_fusion.model_summary import ModelPart, ModelSummary, summary
    from snn_fusion.presence import Presence
    from snn_fusion.pretrained import from_pretrained, save_pretrained
    from snn_fusion.published import (
        ImageSizes,
        PublishedCheckpoint,
        PublishedMethod,
        import_published,
        read_published,
        translate_published,
    )
    from snn_fusion.readout import Readout, ReadoutOutput
    from snn_fusion.specs import (
        ALIGNMENTS,
        ENCODERS,
        METHODS,
        NEURONS,
        PRESETS,
        ALIFSpec,
        AlignmentSpec,
        BackboneSpec,
        BlocksSpec,
        CCSSASpec,
        ClassContrastiveSpec,
        CMCISpec,
        EncoderSpec,
        FittedSpec,
        IFSpec,
        InfoNCESpec,
        LIFSpec,
        MethodSpec,
        ModelSpec,
        NeuronSpec,
        NoFusionSpec,
        PatchSplittingSpec,
        PLIFSpec,
        QKSpec,
        ReadoutSpec,
        Registry,
        SCASpec,
        SeriesSpec,
        Spec,
        SpecFileError,
        TokensSpec,
        VectorSpec,
        WeightAttentionSpec,
        dump_spec,
        json_schema,
        load_spec,
        preset,
        scmrl,
    )
    from snn_fusion.unimodal import unimodal_model
    from snn_fusion.weights import LoadReport, ShapeMismatch, load_weights

__version__ = version("snn-fusion")

_HOME = {
    "PRESETS": "specs",
    "preset": "specs",
    "scmrl": "specs",
    "SpecFileError": "specs",
    "json_schema": "specs",
    "dump_spec": "specs",
    "load_spec": "specs",
    "unimodal_model": "unimodal",
    "ImageSizes": "published",
    "PublishedMethod": "published",
    "PublishedCheckpoint": "published",
    "read_published": "published",
    "import_published": "published",
    "WeightAttention": "methods.weight_attention",
    "SCA": "methods.sca",
    "QKFusion": "methods.qk",
    "CMCI": "methods.cmci",
    "WeightAttentionSpec": "specs",
    "SCASpec": "specs",
    "QKSpec": "specs",
    "CMCISpec": "specs",
    "Health": "layer_health",
    "LayerHealth": "layer_health",
    "health": "layer_health",
    "residual_share": "layer_health",
    "ALIFSpec": "specs",
    "ALIGNMENTS": "specs",
    "AlignmentSpec": "specs",
    "BackboneSpec": "specs",
    "BlocksSpec": "specs",
    "CCSSA": "methods.ccssa",
    "CCSSASpec": "specs",
    "ClassContrastive": "alignment",
    "ClassContrastiveSpec": "specs",
    "ENCODERS": "specs",
    "Encoder": "encoders.encoder",
    "EncoderSpec": "specs",
    "EncoderWithBlocks": "encoders.transformer",
    "FittedEncoder": "encoders.fitted",
    "FittedSpec": "specs",
    "FusedTokens": "methods",
    "FusionMethod": "methods",
    "FusionModel": "model",
    "FusionOutput": "model",
    "IFSpec": "specs",
    "InfoNCE": "alignment",
    "InfoNCESpec": "specs",
    "LIFSpec": "specs",
    "Loss": "model",
    "ModelSummary": "model_summary",
    "ModelPart": "model_summary",
    "summary": "model_summary",
    "METHODS": "specs",
    "MethodSpec": "specs",
    "ModelSpec": "specs",
    "NEURONS": "specs",
    "NeuronSpec": "specs",
    "NoFusion": "methods",
    "NoFusionSpec": "specs",
    "PLIFSpec": "specs",
    "Pair": "methods",
    "PatchSplitting": "encoders.patch_splitting",
    "PatchSplittingSpec": "specs",
    "Presence": "presence",
    "ReadoutOutput": "readout",
    "Readout": "readout",
    "ReadoutSpec": "specs",
    "Registry": "specs",
    "SeriesEncoder": "encoders.series",
    "SeriesSpec": "specs",
    "Spec": "specs",
    "TokenInput": "encoders.token_input",
    "TokensSpec": "specs",
    "TransformerBlocks": "encoders.transformer",
    "VectorEncoder": "encoders.vector",
    "VectorSpec": "specs",
    "calibrate": "calibration",
    "from_pretrained": "pretrained",
    "load_weights": "weights",
    "LoadReport": "weights",
    "ShapeMismatch": "weights",
    "save_pretrained": "pretrained",
    "translate_published": "published",
}

__all__ = [
    "ALIGNMENTS",
    "CCSSA",
    "CMCI",
    "ENCODERS",
    "METHODS",
    "NEURONS",
    "PRESETS",
    "SCA",
    "ALIFSpec",
    "AlignmentSpec",
    "BackboneSpec",
    "BlocksSpec",
    "CCSSASpec",
    "CMCISpec",
    "ClassContrastive",
    "ClassContrastiveSpec",
    "Encoder",
    "EncoderSpec",
    "EncoderWithBlocks",
    "FittedEncoder",
    "FittedSpec",
    "FusedTokens",
    "FusionMethod",
    "FusionModel",
    "FusionOutput",
    "Health",
    "IFSpec",
    "ImageSizes",
    "InfoNCE",
    "InfoNCESpec",
    "LIFSpec",
    "LayerHealth",
    "LoadReport",
    "Loss",
    "MethodSpec",
    "ModelPart",
    "ModelSpec",
    "ModelSummary",
    "NeuronSpec",
    "NoFusion",
    "NoFusionSpec",
    "PLIFSpec",
    "Pair",
    "PatchSplitting",
    "PatchSplittingSpec",
    "Presence",
    "PublishedCheckpoint",
    "PublishedMethod",
    "QKFusion",
    "QKSpec",
    "Readout",
    "ReadoutOutput",
    "ReadoutSpec",
    "Registry",
    "SCASpec",
    "SeriesEncoder",
    "SeriesSpec",
    "ShapeMismatch",
    "Spec",
    "SpecFileError",
    "TokenInput",
    "TokensSpec",
    "TransformerBlocks",
    "VectorEncoder",
    "VectorSpec",
    "WeightAttention",
    "WeightAttentionSpec",
    "calibrate",
    "dump_spec",
    "from_pretrained",
    "health",
    "import_published",
    "json_schema",
    "load_spec",
    "load_weights",
    "preset",
    "read_published",
    "residual_share",
    "save_pretrained",
    "scmrl",
    "summary",
    "translate_published",
    "unimodal_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
