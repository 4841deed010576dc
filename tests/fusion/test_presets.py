"""Presets are the published configurations: the same sizes, the same numbers from the same weights."""

import pytest
import torch
from pydantic import BaseModel

from parity.golden import load, model_arrays
from present import present
from snn_fusion import PRESETS, preset, scmrl

PUBLISHED = {
    # name: (parameters that take part in the computation, T, C, K, tokens, temperature)
    "scmrl-cremad-published": (4_204_038, 4, 256, 6, 64, 0.07),
    "scmrl-urbansound8k-av-published": (267_146, 4, 64, 10, 64, 0.08),
    "scmrl-mnistdvs-ntidigits-published": (4_022_666, 16, 256, 10, 49, 0.1),
}


def test_every_preset_is_a_published_configuration():
    assert set(PRESETS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_published(name: str):
    spec = preset(name)
    parameters, time_steps, channels, classes, tokens, temperature = PUBLISHED[name]
    assert sum(p.numel() for p in spec.build().parameters()) == parameters
    assert (spec.time_steps, spec.channels, spec.num_classes) == (time_steps, channels, classes)
    assert set(spec.num_tokens.values()) == {tokens}
    fusion, alignment = spec.fusion.model_dump(), present(spec.alignment).model_dump()
    assert (fusion["num_heads"], fusion["alpha"], alignment["temperature"]) == (16, 1.5, temperature)
    assert (fusion["head_merge"], spec.init, spec.neuron.detach_membrane) == ("published", "uncalibrated", True)


def test_a_preset_states_every_field():
    # A preset must not depend on defaults, which may change.
    def unstated(spec: BaseModel, path: str) -> list[str]:
        missing = [f"{path}{name}" for name in type(spec).model_fields if name not in spec.model_fields_set]
        inner = {name: getattr(spec, name) for name in spec.model_fields_set}
        inner |= {f"encoders.{name}": encoder for name, encoder in inner.pop("encoders", {}).items()}
        unset_fields = [
            fault
            for name, one in inner.items()
            if hasattr(one, "model_fields_set")
            for fault in unstated(one, f"{path}{name}.")
        ]
        return missing + unset_fields

    left = [name for name in unstated(preset("scmrl-cremad-published"), "") if not name.endswith("kind")]
    # Without blocks, their options have no effect.
    assert [name for name in left if ".blocks." not in name] == []


@pytest.mark.parametrize(("case", "static"), [("model_scmrl", True), ("model_scmrl_events", False)])
def test_logits_and_losses_are_those_of_the_published_code(case: str, static: bool):
    golden = load(case)
    s = golden.settings
    spec = scmrl(
        {"audio": (1, s["size"], s["size"]), "visual": (s["visual_channels"], s["size"], s["size"])},
        num_classes=s["num_classes"],
        depth="full" if static else "shallow",
        channels=s["embed_dims"],
        num_heads=s["num_heads"],
        time_steps=s["T"],
        temperature=s["temperature"],
    )
    model = spec.build()
    _, unexpected = model.load_state_dict(model_arrays(golden, "weights/"), strict=False)
    assert not unexpected
    inputs = {name: golden.arrays[f"in/{name}"] for name in ("audio", "visual")}
    if not static:
        inputs = {name: x.transpose(0, 1).contiguous() for name, x in inputs.items()}
    with torch.no_grad():
        logits = model.eval()(inputs).logits
        output = model.train()(inputs)
    torch.testing.assert_close(logits, golden.arrays["eval/logits"], rtol=1e-4, atol=1e-5)
    loss = model.total_loss(output, golden.arrays["in/labels"]).total
    torch.testing.assert_close(loss, golden.arrays["train/loss"], rtol=1e-4, atol=1e-5)


def test_it_is_built_for_any_modalities():
    spec = scmrl({"audio": (1, 32, 16), "visual": (3, 32, 16), "touch": (2, 32, 16)}, num_classes=5, channels=32)
    output = spec.build().eval()({name: torch.rand(2, *shape) for name, shape in spec.input_shapes.items()})
    assert output.logits.shape == (2, 5)
    assert len(output.residuals) == 6


def test_without_a_temperature_there_is_no_projection_or_alignment():
    spec = scmrl({"audio": (1, 16, 16), "visual": (3, 16, 16)}, num_classes=5, temperature=None)
    assert spec.alignment is None
    assert not spec.fusion.model_dump()["semantic_projection"]


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match="no preset 'cremad'; did you mean scmrl-cremad-published\\? known: scmrl-cremad-published, ",
    ):
        preset("cremad")
