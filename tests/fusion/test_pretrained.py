"""A saved model loads unchanged; errors in its folder are reported."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

from damage import mutated
from fusion.models import inputs_for, small_model, small_spec
from snn_fusion import METHODS, FusionModel, NoFusionSpec, calibrate, from_pretrained, save_pretrained


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_pretrained(small_model(), small_spec(), tmp_path)
    return tmp_path


def test_a_saved_model_loads_unchanged(tmp_path: Path):
    model = small_model()
    calibrate(model, inputs_for(model, batch=32))
    save_pretrained(model, small_spec(), tmp_path / "new" / "folder")
    again = from_pretrained(tmp_path / "new" / "folder")
    assert not again.training
    assert torch.equal(again(inputs_for(model)).logits, model.eval()(inputs_for(model)).logits)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["model.safetensors", "spec.json"]


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_mismatched_weights_are_listed(saved: Path):
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["stray"] = torch.zeros(1)
        del weights["readout.head.bias"]
        weights["readout.head.weight"] = torch.zeros(3, 16)

    rewrite(saved, change)
    with pytest.raises(ValueError, match="do not match") as error:
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
def test_an_invalid_spec_is_reported(saved: Path, spec: str, message: str):
    (saved / "spec.json").write_text(spec)
    rewrite(saved, lambda _weights: None)  # without the checksum of the spec
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)


def test_a_missing_file_is_reported(saved: Path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        from_pretrained(saved)


def test_the_spec_file_states_its_format_version(saved: Path):
    assert json.loads((saved / "spec.json").read_text())["format_version"] == 1


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compiled(model: FusionModel) -> Any:
    return torch.compile(model, backend="eager")


def averaged(model: FusionModel) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model)


def compiled_part(model: FusionModel) -> nn.Module:
    part: Any = torch.compile(model.encoders["audio"], backend="eager")
    model.encoders["audio"] = part
    return model


def weight_normed(model: FusionModel) -> nn.Module:
    parametrizations.weight_norm(model.readout.head)
    return model


@pytest.mark.parametrize(
    "wrap",
    [compiled, torch.nn.DataParallel, averaged, compiled_part, weight_normed],
    ids=lambda wrap: wrap.__name__,
)
def test_wrappers_of_pytorch_are_removed(tmp_path: Path, wrap: Callable[[FusionModel], nn.Module]):
    expected = small_model().eval()
    save_pretrained(wrap(small_model()), small_spec(), tmp_path)
    x = inputs_for(expected)
    torch.testing.assert_close(from_pretrained(tmp_path)(x).logits, expected(x).logits, rtol=1e-5, atol=1e-5)


def spectral_normed() -> FusionModel:
    model = small_model()
    torch.nn.utils.spectral_norm(model.readout.head)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (spectral_normed, "unexpected: readout.head.weight_orig"),
        (lambda: small_model(("audio",)), "missing: encoders.visual"),
        (lambda: torch.nn.Linear(2, 2), "takes a FusionModel, not Linear"),
    ],
)
def test_a_model_that_could_not_be_loaded_leaves_the_folder_unchanged(
    saved: Path, model: Callable[[], nn.Module], message: str
):
    before = files(saved)
    with pytest.raises(ValueError, match="nothing was saved") as error:
        save_pretrained(model(), small_spec(), saved)
    assert message in str(error.value)
    assert files(saved) == before


def test_a_failed_write_leaves_the_folder_unchanged(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = files(saved)

    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"spec\.json cannot be written: the disk is full: free some space") as error:
        save_pretrained(small_model(seed=3), small_spec(label_smoothing=0.0), saved)
    assert str(saved) in str(error.value)
    assert files(saved) == before


@pytest.mark.parametrize("name", ["spec.json", "model.safetensors"])
def test_damage_is_an_error_or_changes_nothing(saved: Path, name: str):
    expected = from_pretrained(saved).state_dict()
    whole, rng, refused = (saved / name).read_bytes(), random.Random(0), 0
    for _ in range(60):
        (saved / name).write_bytes(mutated(whole, rng))
        message = ""
        try:
            loaded = from_pretrained(saved, require_checksums=True)
            assert all(torch.equal(loaded.state_dict()[each], value) for each, value in expected.items())
        except ValueError as error:
            message = str(error)
            refused += 1
        assert not message or name in message
        assert "\n" not in message
    assert refused > 30


def test_a_spec_of_another_model_is_refused(saved: Path, tmp_path: Path):
    save_pretrained(small_model(), small_spec(label_smoothing=0.3), tmp_path / "other")
    (saved / "spec.json").write_bytes((tmp_path / "other" / "spec.json").read_bytes())
    with pytest.raises(ValueError, match="not the spec that its weights were saved with"):
        from_pretrained(saved)


def test_files_without_checksums_load_unless_checksums_are_required(saved: Path):
    content = json.loads((saved / "spec.json").read_text())
    del content["sha256"]
    (saved / "spec.json").write_text(json.dumps(content))
    rewrite(saved, lambda _weights: None)
    assert from_pretrained(saved).modalities == ("audio", "visual")
    with pytest.raises(ValueError, match=r"spec\.json has no checksum"):
        from_pretrained(saved, require_checksums=True)


def by_hand(folder: Path, **changes: object) -> None:
    """Change the spec and omit its checksum, as other programs may."""
    content = json.loads((folder / "spec.json").read_text())
    del content["sha256"]
    content["model"] |= changes
    (folder / "spec.json").write_text(json.dumps(content))
    rewrite(folder, lambda _weights: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 8 * 10**5}, "do not match their spec"),
        ({"channels": 8 * 10**9}, "cannot be built"),
        ({"channels": 8 * 10**30}, "cannot be built"),
        ({"num_classes": 10**12}, "do not match their spec"),
    ],
)
def test_shapes_are_compared_before_memory_is_allocated(saved: Path, changes: dict[str, int], message: str):
    by_hand(saved, **changes)
    with pytest.raises(ValueError, match=message):
        from_pretrained(saved)


def test_a_deeply_nested_spec_is_reported(saved: Path):
    (saved / "spec.json").write_text('{"format_version": 1, "model": ' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(ValueError, match=r"spec\.json is not a model's spec: it is nested too deep"):
        from_pretrained(saved)


def test_a_model_of_a_missing_plug_in_reports_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Elsewhere(NoFusionSpec):
        kind: Literal["elsewhere"] = "elsewhere"  # pyright: ignore[reportIncompatibleVariableOverride]

    METHODS.register(Elsewhere)
    try:
        spec = small_spec(fusion={"kind": "elsewhere"}, alignment=None)
        save_pretrained(spec.build(), spec, tmp_path / "by hand")
        monkeypatch.setattr(
            "snn_fusion.pretrained.plugins.distribution_of", lambda _: {"distribution": "mine", "version": "3"}
        )
        save_pretrained(spec.build(), spec, tmp_path / "installed")
        assert from_pretrained(tmp_path / "installed").modalities == ("audio", "visual")
    finally:
        del METHODS._models["elsewhere"]
    with pytest.raises(ValueError, match=r"kind 'elsewhere'.* saved with plug-ins: install mine \(it was 3\)"):
        from_pretrained(tmp_path / "installed")
    with pytest.raises(ValueError, match=f"saved with plug-ins: import {__name__} first"):
        from_pretrained(tmp_path / "by hand")


def test_a_spec_with_a_flipped_byte_is_reported_in_one_short_line(tmp_path: Path):
    folder = tmp_path / "model"
    spec = small_spec()
    save_pretrained(spec.build(), spec, folder)
    content = bytearray((folder / "spec.json").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "spec.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"spec\.json is not a model's spec: 'utf-8' codec can't decode") as error:
        from_pretrained(folder)
    assert len(str(error.value)) < 300 + len(str(folder))
