"""One modality of a fused model on its own."""

from __future__ import annotations

from copy import deepcopy

from snn_core import LIF, NeuronFactory
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.inputs import check_modality
from snn_fusion.methods import NoFusion
from snn_fusion.model import FusionModel
from snn_fusion.readout import Readout


def encoder_from(
    model: FusionModel,
    modality: str,
    *,
    num_classes: int | None = None,
    mlp_expansion: int = 4,
    neuron: NeuronFactory = LIF,
) -> FusionModel:
    """A model of one modality that starts from a fused model's encoder.

    It shows what a sense is worth alone after it was trained with others. The encoder is a copy, its Transformer blocks
    included, so that training one model leaves the other as it is; the readout is new and untrained. To train the
    readout alone, freeze the encoder with `requires_grad_(False)` and keep its batch norm in evaluation mode.

    Args:
        model: the fused model.
        modality: which of its modalities.
        num_classes: classes K of the new readout; those of `model` by default.
        mlp_expansion: see `Readout`; 0 is the published unimodal readout, a linear head alone.
        neuron: makes the neuron layers of the readout's MLP; give it if the model's are not `LIF()`.

    Raises:
        ValueError: a modality that the model does not have.
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
