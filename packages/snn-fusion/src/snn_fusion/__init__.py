"""Fuse any number of senses in a spiking neural network, from typed specs or module by module.

Names are loaded when they are first used, so that working with specs alone never waits for PyTorch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_fusion.alignment import ClassContrastive
    from snn_fusion.calibration import calibrate
    from snn_fusion.encoders.patch_splitting import PatchSplitting
    from snn_fusion.methods import Fused, FusionMethod, NoFusion, Pair
    from snn_fusion.methods.ccssa import CCSSA
    from snn_fusion.model import FusionModel, FusionOutput, Loss
    from snn_fusion.pretrained import from_pretrained, save_pretrained
    from snn_fusion.published import translate_published
    from snn_fusion.readout import Readout
    from snn_fusion.specs import (
        BackboneSpec,
        CCSSASpec,
        ClassContrastiveSpec,
        LIFSpec,
        ModelSpec,
        NoFusionSpec,
        PatchSplittingSpec,
        ReadoutSpec,
        Spec,
    )

__version__ = version("snn-fusion")

_HOME = {
    "CCSSA": "methods.ccssa",
    "BackboneSpec": "specs",
    "CCSSASpec": "specs",
    "ClassContrastive": "alignment",
    "ClassContrastiveSpec": "specs",
    "Fused": "methods",
    "FusionMethod": "methods",
    "FusionModel": "model",
    "FusionOutput": "model",
    "LIFSpec": "specs",
    "Loss": "model",
    "ModelSpec": "specs",
    "NoFusion": "methods",
    "NoFusionSpec": "specs",
    "Pair": "methods",
    "PatchSplitting": "encoders.patch_splitting",
    "PatchSplittingSpec": "specs",
    "Readout": "readout",
    "ReadoutSpec": "specs",
    "Spec": "specs",
    "calibrate": "calibration",
    "from_pretrained": "pretrained",
    "save_pretrained": "pretrained",
    "translate_published": "published",
}

__all__ = [
    "CCSSA",
    "BackboneSpec",
    "CCSSASpec",
    "ClassContrastive",
    "ClassContrastiveSpec",
    "Fused",
    "FusionMethod",
    "FusionModel",
    "FusionOutput",
    "LIFSpec",
    "Loss",
    "ModelSpec",
    "NoFusion",
    "NoFusionSpec",
    "Pair",
    "PatchSplitting",
    "PatchSplittingSpec",
    "Readout",
    "ReadoutSpec",
    "Spec",
    "calibrate",
    "from_pretrained",
    "save_pretrained",
    "translate_published",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
