"""Unimodal models with the encoder of a multimodal one."""

import pytest
import torch

from fusion.models import inputs_for, small_model
from snn_core import IF, SpikingMLP
from snn_fusion import NoFusion, calibrate
from snn_fusion.unimodal import unimodal_model


@pytest.mark.parametrize("combine", ["add", "concat"])
def test_the_encoder_is_the_same_and_the_readout_is_new(combine: str):
    model = small_model(readout={"combine": combine}, label_smoothing=0.2)
    inputs = inputs_for(model)
    calibrate(model, inputs_for(model, batch=32))
    carried = unimodal_model(model, "visual", num_classes=7).eval()
    assert carried.modalities == ("visual",)
    assert isinstance(carried.fusion, NoFusion)
    assert carried.label_smoothing == 0.2
    tokens = model.eval().encoders["visual"](inputs["visual"])
    assert tokens.any()
    assert torch.equal(carried.encoders["visual"](inputs["visual"]), tokens)
    assert carried({"visual": inputs["visual"]}).logits.shape == (6, 7)


def test_training_it_does_not_change_the_multimodal_model():
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    carried = unimodal_model(model, "audio")
    inputs = {"audio": inputs_for(model, batch=32)["audio"]}
    optimizer = torch.optim.SGD(carried.parameters(), lr=1.0)
    carried.total_loss(carried.train()(inputs), torch.arange(32) % 5).total.backward()
    optimizer.step()
    after = carried.state_dict()
    assert not torch.equal(after["encoders.audio.position.conv.weight"], before["encoders.audio.position.conv.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_transformer_blocks_are_copied():
    blocks = {"depth": 1, "num_heads": 4}
    shapes = {"audio": (1, 8, 16), "visual": (3, 16, 8)}
    encoders = {name: {"kind": "patch_splitting", "depth": "shallow", "blocks": blocks} for name in shapes}
    model = small_model(input_shapes=shapes, encoders=encoders)
    ours = unimodal_model(model, "audio").state_dict()
    name = "encoders.audio.blocks.0.attention.query.linear.weight"
    assert torch.equal(ours[name], model.state_dict()[name])


def test_the_readout_has_the_given_options():
    model = small_model()
    assert unimodal_model(model, "audio").readout.head.out_features == 5
    assert len(unimodal_model(model, "audio", mlp_expansion=0).readout.mlps) == 0
    mlp = unimodal_model(model, "audio", mlp_expansion=2, neuron=IF).readout.mlps["audio"]
    assert isinstance(mlp, SpikingMLP)
    assert isinstance(mlp.expand.neuron, IF)
    assert mlp.expand.linear.out_features == 32
    assert unimodal_model(model.double(), "audio").readout.head.weight.dtype == torch.float64


def test_an_unknown_modality_is_reported():
    with pytest.raises(ValueError, match="the model reads audio, visual, and 'touch' is not among them"):
        unimodal_model(small_model(), "touch")
