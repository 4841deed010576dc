"""A model is initialized from another one's weights, and the report lists what was loaded."""

from pathlib import Path

import pytest
import torch

from fusion.models import inputs_for, small_model, small_spec
from snn_fusion import from_pretrained, load_weights, save_pretrained


def test_the_same_model_is_loaded_completely(tmp_path: Path):
    save_pretrained(small_model(seed=0), small_spec(), tmp_path)
    model = small_model(seed=1)
    report = load_weights(model, tmp_path)
    assert report.complete
    assert set(report.loaded) == set(model.state_dict())
    inputs = inputs_for(model)
    assert torch.equal(model.eval()(inputs).logits, from_pretrained(tmp_path)(inputs).logits)
    assert str(report).startswith(f"loaded {len(report.loaded)} of {len(report.loaded)} tensors")


def test_mismatched_tensors_keep_their_values_and_are_reported(tmp_path: Path):
    save_pretrained(small_model(("audio", "visual"), num_classes=7), small_spec(num_classes=7), tmp_path)
    source = from_pretrained(tmp_path).state_dict()
    model = small_model(("visual", "touch"), seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, tmp_path)
    after = model.state_dict()
    for name, tensor in after.items():
        assert torch.equal(tensor, source[name] if name in report.loaded else before[name]), name
    assert {name.split(".")[1] for name in report.loaded if name.startswith("encoders.")} == {"visual"}
    assert [mismatch.name for mismatch in report.mismatched] == ["readout.head.weight", "readout.head.bias"]
    assert set(report.missing) == {name for name in after if name not in source}
    assert set(report.unexpected) == {name for name in source if name not in after}
    lines = str(report).splitlines()
    assert "  readout.head.bias: (7,) in the file, (5,) in the model" in lines
    assert any(line.startswith("  missing: encoders.touch.stages (") for line in lines)
    assert any(line.startswith("  unexpected: encoders.audio.stages (") for line in lines)


def test_values_follow_the_models_dtype(tmp_path: Path):
    save_pretrained(small_model(), small_spec(), tmp_path)
    model = small_model(seed=1).double()
    load_weights(model, tmp_path)
    assert model.readout.head.weight.dtype == torch.float64


def test_weights_without_any_matching_parameter_are_refused(tmp_path: Path):
    save_pretrained(small_model(("audio",)), small_spec(("audio",)), tmp_path)
    # Narrower and of another modality: only batch counters match.
    model = small_model(("touch",), channels=32, num_classes=9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="none of the weights in"):
        load_weights(model, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_folder_without_weights_is_reported(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        load_weights(small_model(), tmp_path)
