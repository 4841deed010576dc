"""A saved model is the same model; a folder that is not right says what is wrong with it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.models import inputs_for, small_model, small_spec
from snn_fusion import calibrate, from_pretrained, save_pretrained


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_pretrained(small_model(), small_spec(), tmp_path)
    return tmp_path


def test_a_saved_model_comes_back_the_same(tmp_path: Path):
    model = small_model()
    calibrate(model, inputs_for(model, batch=32))
    save_pretrained(model, small_spec(), tmp_path / "new" / "folder")
    again = from_pretrained(tmp_path / "new" / "folder")
    assert not again.training
    assert torch.equal(again(inputs_for(model)).logits, model.eval()(inputs_for(model)).logits)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["model.safetensors", "spec.json"]


def rewrite(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_weights_that_do_not_fit_are_listed(saved: Path):
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["stray"] = torch.zeros(1)
        del weights["readout.head.bias"]
        weights["readout.head.weight"] = torch.zeros(3, 16)

    rewrite(saved, change)
    with pytest.raises(ValueError, match="do not fit") as error:
        from_pretrained(saved)
    for part in ("missing: readout.head.bias", "unexpected: stray", "(3, 16) in the file, (5, 16) in the model"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{", "is not a model's spec"),
        ("[]", "is not a model's spec"),
        ('{"format_version": 1}', "is not a model's spec"),
        ('{"format_version": 99, "model": {}}', "format version 99"),
        ('{"format_version": 1, "model": {"num_classes": 1}}', "num_classes: .*greater than or equal to 2"),
    ],
)
def test_a_spec_that_is_none_is_named(saved: Path, spec: str, message: str):
    (saved / "spec.json").write_text(spec)
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)


def test_a_missing_file_is_named(saved: Path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        from_pretrained(saved)


def test_the_spec_file_says_which_format_it_is(saved: Path):
    assert json.loads((saved / "spec.json").read_text())["format_version"] == 1
