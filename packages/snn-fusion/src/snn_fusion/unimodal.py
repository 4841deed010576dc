"""Unimodal models from a multimodal one."""

from __future__ import annotations

from copy import deepcopy

from snn_core import LIF, NeuronFactory
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.inputs import check_modality
from snn_fusion.methods.no_fusion import NoFusion
from snn_fusion.model import FusionModel
from snn_fusion.readout import Readout


def unimodal_model(
    model: FusionModel,
    modality: str,
    *,
    num_classes: int | None = None,
    mlp_expansion: int = 4,
    neuron: NeuronFactory = LIF,
) -> FusionModel:
    """Return a model of one modality with a multimodal model's encoder and a new readout.

    It measures what a modality predicts alone after training with others. The encoder, including its Transformer
    blocks, is a copy, so training one model does not change the other; the readout is untrained. To train only the
    readout, freeze the encoder with `requires_grad_(False)` and keep its batch norm in evaluation mode.

    Args:
        model: the multimodal model.
        modality: which of its modalities.
        num_classes: classes K of the new readout; by default those of `model`.
        mlp_expansion: see `Readout`; 0 is the published unimodal readout, a linear head alone.
        neuron: factory of the neuron layers of the readout's MLP; pass it if the model's are not `LIF()`.

    Raises:
        ValueError: an unknown modality.
    """
    check_modality(modality, model.modalities)
    encoder = deepcopy(model.encoders[modality])
    assert isinstance(encoder, Encoder)
    head, joined = model.readout.head, model.readout.combine == "concat" and model.readout.heads is None
    readout = Readout(
        (modality,),
        head.in_features // (len(model.modalities) if joined else 1),
        head.out_features if num_classes is None else num_classes,
        mlp_expansion=mlp_expansion,
        neuron=neuron,
    )
    return FusionModel({modality: encoder}, NoFusion(), readout.to(head.weight), label_smoothing=model.label_smoothing)
