"""Explanations of single samples, compared with counts by hand and with direct runs of the model."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scmrl.explain.attention import coincidences, unpool
from scmrl.explain.explanation import explain
from scmrl.explain.geometry import geometry_of
from snn_datasets import DatasetInfo, ModalityInfo
from snn_datasets.base.kinds import RecordingKind
from snn_fusion import FittedEncoder, FusionModel, ModelSpec, PatchSplitting, SeriesEncoder, TokenInput, VectorEncoder
from snn_fusion.encoders.encoder import Encoder

SHAPES: dict[str, tuple[int, ...]] = {"image": (1, 8, 16), "touch": (3, 20), "smell": (6,)}
KINDS: dict[str, RecordingKind] = {"image": "image", "touch": "series", "smell": "series"}
ENCODERS: dict[str, dict[str, Any]] = {
    "image": {"kind": "patch_splitting", "shape": (1, 8, 16), "depth": "shallow"},
    "touch": {"kind": "series", "shape": (3, 20), "num_stages": 2},
    "smell": {"kind": "vector", "shape": (6,), "tokens": 3},
}
CCSSA: dict[str, Any] = {"kind": "ccssa", "num_heads": 4}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "weights": {"kind": "weight_attention"},
    "cmci": {"kind": "cmci"},
    "sca": {"kind": "sca", "num_heads": 4, "biased": ()},
    "qk": {"kind": "qk", "num_heads": 4},
    **{
        f"{attention} {sharing}": CCSSA | {"attention": attention, "sharing": sharing}
        for attention in ("spatial", "temporal", "spatiotemporal")
        for sharing in ("pair", "source", "all")
    },
    "gate": CCSSA | {"combine": "gate"},
    "ring": CCSSA | {"topology": "ring"},
}
HAS_ATTENTION = {name for name in METHODS if name not in ("none", "weights", "cmci")}


def model_of(
    fusion: dict[str, Any],
    modalities: Sequence[str] = tuple(SHAPES),
    encoders: dict[str, dict[str, Any]] = ENCODERS,
    combine: str = "add",
) -> FusionModel:
    """Return a model with three classes that fires: its linear weights are scaled up."""
    spec = ModelSpec.model_validate(
        {
            "input_shapes": {name: encoders[name]["shape"] for name in modalities},
            "encoders": {
                name: {field: value for field, value in encoders[name].items() if field != "shape"}
                for name in modalities
            },
            "num_classes": 3,
            "channels": 16,
            "time_steps": 2,
            "readout": {"combine": combine},
            "fusion": fusion,
            "alignment": None,
        }
    )
    model = spec.build()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(12)
    return model


def info_of(
    modalities: Sequence[str] = tuple(SHAPES),
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    kinds: Mapping[str, RecordingKind] = KINDS,
) -> DatasetInfo:
    return DatasetInfo("x", ("a", "b", "c"), {name: ModalityInfo(kinds[name], shapes[name]) for name in modalities})


def sample_of(modalities: Sequence[str] = tuple(SHAPES)) -> dict[str, Tensor]:
    return {name: torch.rand(1, *SHAPES[name]) * 3 for name in modalities}


def tokens_of(model: FusionModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: model.encoders[name](x) for name, x in inputs.items()}


def heads(x: Tensor, h: int = 4) -> Tensor:
    """[T, 1, N, C] -> [T, h, N, d], without einops."""
    T, _, N, C = x.shape
    return x[:, 0].reshape(T, N, h, C // h).transpose(1, 2).double()


def relative(x: Tensor) -> np.ndarray:
    values = np.asarray(x, np.float64)
    return values / values.mean() if values.sum() else values


def test_coinciding_spikes_counted_by_hand():
    # Two target tokens, three source tokens, one step, one head of width 2.
    query = torch.tensor([[[1.0, 1], [0, 1]]])
    key = torch.tensor([[[1.0, 0], [1, 1], [0, 0]]])
    value = torch.tensor([[[1.0, 1], [0, 1], [1, 1]]])
    # Scores: [[1, 2, 0], [0, 1, 0]], values of the sources: 2, 1, 2.
    by_target, of_source = coincidences(query, key, value, num_heads=1, over="tokens")
    assert by_target.tolist() == [1 * 2 + 2 * 1, 1 * 1]
    assert of_source.tolist() == [1 * 2, 2 * 1 + 1 * 1, 0]


@pytest.mark.parametrize("over", ["tokens", "time"])
def test_counts_are_those_of_the_whole_product(over: Literal["tokens", "time"]):
    T, N, h, d = 3, 5, 2, 4
    M = 7 if over == "tokens" else N
    q, k, v = (torch.randint(0, 2, (T, n, h * d)).float() for n in (N, M, M))
    by_target, of_source = coincidences(q, k, v, num_heads=h, over=over)
    read = np.zeros((N, M))
    for n in range(N):
        for m in range(M):
            if over == "time" and n != m:
                continue
            for head in range(h):
                cut = slice(head * d, head * d + d)
                for t in range(T):
                    for s in range(T):
                        if over == "time" or t == s:
                            read[n, m] += float(q[t, n, cut] @ k[s, m, cut]) * float(v[s, m, cut].sum())
    assert by_target.tolist() == read.sum(1).tolist()
    assert of_source.tolist() == read.sum(0).tolist()


def test_counts_of_pooled_tokens_are_distributed_to_their_tokens():
    # Four tokens, two positions: each position is the mean of two tokens.
    assert unpool(torch.tensor([6.0, 2.0]), 4).tolist() == [3, 3, 1, 1]
    # Two tokens, four positions: each token is in two positions.
    assert unpool(torch.tensor([1.0, 2, 3, 4]), 2).tolist() == [3, 7]
    read = torch.rand(5)
    assert float(unpool(read, 3).sum()) == pytest.approx(float(read.sum()))


@pytest.mark.parametrize("attention", ["spatial", "temporal"])
@pytest.mark.parametrize("sharing", ["pair", "source"])
def test_attention_maps_match_the_outputs_of_the_layers(attention: str, sharing: str):
    names = ("image", "touch")
    model, inputs = model_of(CCSSA | {"attention": attention, "sharing": sharing}, names).eval(), sample_of(names)
    explanation = explain(model, inputs, info_of(names))
    with torch.no_grad():
        tokens = tokens_of(model, inputs)
        part = "spatial" if attention == "spatial" else "temporal"
        readers: Any = model.fusion.readers
        if sharing == "pair":
            layers = getattr(readers["touch_reads_image"], part)
            query, key, value = layers.query, layers.key, layers.value
        else:
            layers = getattr(readers, part)
            query, key, value = layers.query["touch"], layers.key["image"], layers.value["image"]
        source = tokens["image"]
        if attention == "temporal":
            # Adaptive pooling of the 8 image tokens to the 5 touch tokens.
            source = nn.functional.adaptive_avg_pool1d(source[:, 0].transpose(1, 2), 5).transpose(1, 2)[:, None]
        q, k, v = heads(query(tokens["touch"])), heads(key(source)), heads(value(source))
        if attention == "spatial":
            read = torch.einsum("thnd,thmd,thme->nm", q, k, v)
            of_source, by_target = read.sum(0), read.sum(1)
        else:
            by_target = torch.einsum("thnd,shnd,shne->n", q, k, v)
            weights = np.zeros((8, 5))
            for position in range(5):
                first, last = math.floor(position * 8 / 5), math.ceil((position + 1) * 8 / 5)
                weights[first:last, position] = 1 / (last - first)
            of_source = torch.from_numpy(weights) @ by_target
    assert by_target.sum() > 0
    encoders = {name: cast("Encoder", model.encoders[name]) for name in names}
    geometries = {name: geometry_of(encoders[name], inputs[name]) for name in names}
    expected = geometries["image"].interpolate(relative(of_source).astype(np.float32))
    np.testing.assert_allclose(explanation.attention["touch", "image"], expected, rtol=1e-5)
    expected = geometries["touch"].interpolate(relative(by_target).astype(np.float32))
    np.testing.assert_allclose(explanation.target_attention["touch", "image"], expected, rtol=1e-5)


def test_both_attentions_have_equal_weight():
    names = ("image", "touch")
    model, inputs = model_of(CCSSA, names).eval(), sample_of(names)
    both = explain(model, inputs, info_of(names)).attention["image", "touch"]
    reader = model.fusion.get_submodule("readers.image_reads_touch")
    single: list[np.ndarray] = []
    for part in ("spatial", "temporal"):
        attention = getattr(reader, part)
        setattr(reader, part, None)
        single.append(explain(model, inputs, info_of(names)).attention["image", "touch"])
        setattr(reader, part, attention)
    assert not np.allclose(single[0], single[1])
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, rtol=1e-5)


def test_scores_that_pass_a_neuron_count_if_they_spike():
    encoders = {"image": ENCODERS["touch"] | {"shape": (3, 16)}, "touch": ENCODERS["touch"]}
    names = ("touch", "image")
    model = model_of({"kind": "sca", "num_heads": 2, "biased": ("image",)}, names, encoders).eval()
    inputs = {"touch": torch.rand(1, 3, 20) * 3, "image": torch.rand(1, 3, 16) * 3}
    explanation = explain(model, inputs, info_of(names, {"touch": (3, 20), "image": (3, 16)}))
    with torch.no_grad():
        tokens = tokens_of(model, inputs)
        reader: Any = model.fusion.get_submodule("readers.image_reads_touch")
        source = nn.functional.adaptive_avg_pool1d(tokens["touch"][:, 0].transpose(1, 2), 4).transpose(1, 2)[:, None]
        q, k, v = (heads(x, 2) for x in (reader.query(tokens["image"]), reader.key(source), reader.value(source)))
        fired = reader.score(torch.einsum("thnd,thmd->thnm", q, k).float()[:, None])[:, 0]
        by_target = torch.einsum("thnm,thme->n", fired.double(), v)
    assert by_target.sum() > 0
    centers = explanation.target_attention["image", "touch"][::4]
    np.testing.assert_allclose(centers, relative(by_target), rtol=1e-5)


def test_query_key_attention_counts_the_keys_that_pass():
    names = ("image", "touch")
    model, inputs = model_of(METHODS["qk"], names).eval(), sample_of(names)
    explanation = explain(model, inputs, info_of(names))
    with torch.no_grad():
        tokens = tokens_of(model, inputs)
        source = nn.functional.adaptive_avg_pool1d(tokens["image"][:, 0].transpose(1, 2), 5).transpose(1, 2)[:, None]
        fusion: Any = model.fusion
        q, k = fusion.query["touch"](tokens["touch"]), heads(fusion.key["image"](source))
        counts = heads(q).sum(-1).permute(0, 2, 1)[:, None].float()
        gate = fusion.gate["touch"](counts)[:, 0].double()
        passed = torch.einsum("tnh,thnd->n", gate, k)
    assert passed.sum() > 0
    np.testing.assert_allclose(explanation.target_attention["touch", "image"][::4], relative(passed), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("absent", [None, "touch"])
def test_every_method_is_explained(method: str, absent: str | None):
    model = model_of(METHODS[method])
    present = [name for name in SHAPES if name != absent]
    inputs = {name: x for name, x in sample_of().items() if name in present}
    explanation = explain(model, inputs, info_of(), label=2)

    planes = {"image": (8, 16), "touch": (20,), "smell": (6,)}
    assert list(explanation.inputs) == present
    assert {name: x.shape for name, x in explanation.inputs.items()} == {name: SHAPES[name] for name in present}
    assert {name: x.shape for name, x in explanation.occlusion.items()} == {name: planes[name] for name in present}
    assert {name: x.shape for name, x in explanation.saliency.items()} == {name: planes[name] for name in present}
    assert all(x.min() >= 0 and x.max() in (0, 1) for x in explanation.saliency.values())
    assert explanation.label == 2
    np.testing.assert_allclose(explanation.probabilities, model.eval()(inputs).logits[0].softmax(0).detach(), rtol=1e-5)
    assert sum(explanation.contributions.values()) == pytest.approx(explanation.probabilities.max() - 1 / 3, abs=1e-6)

    pairs = {(t, s) for t in present for s in present if t != s}
    if method == "ring":
        pairs &= {("image", "touch"), ("touch", "smell"), ("smell", "image")}
    assert (
        set(explanation.attention) == set(explanation.target_attention) == (pairs if method in HAS_ATTENTION else set())
    )
    for (target, source), values in explanation.attention.items():
        tokens = {"image": (8, 16), "touch": (20,), "smell": (3,)}
        assert values.shape == tokens[source]
        assert explanation.target_attention[target, source].shape == tokens[target]
    assert explanation.saliency_source.get("smell") == "occlusion"
    assert set(explanation.weights) == (set(present) if method == "weights" else set())
    assert all(x.shape == (2,) for x in [*explanation.weights.values(), *explanation.residuals.values()])
    assert {x.dtype for x in explanation.rasters.values()} == {np.dtype(bool)}
    assert all(x.shape[0] == 2 and x.shape[1] <= 200 for x in explanation.rasters.values())
    assert {name.split(".")[1] for name in explanation.rasters if name.startswith("encoders.")} == set(present)


def test_a_single_modality_reads_itself_in_its_blocks():
    encoders = {"image": ENCODERS["image"] | {"blocks": {"depth": 2, "num_heads": 4}}}
    model, inputs = model_of({"kind": "none"}, ("image",), encoders), sample_of(("image",))
    explanation = explain(model, inputs, info_of(("image",)))
    assert list(explanation.attention) == [("image", "image")]
    assert explanation.saliency_source == {"image": "attention"}
    assert explanation.attention["image", "image"].any()


def test_residuals_are_the_magnitudes_that_are_added():
    names = ("image", "touch")
    model, inputs = (
        model_of(CCSSA | {"alpha": 0.7, "attention": "spatial", "semantic_projection": False}, names).eval(),
        sample_of(names),
    )
    with torch.no_grad():
        output = model(inputs)
    for pair, values in explain(model, inputs, info_of(names)).residuals.items():
        expected = [0.7 * float(step.abs().mean()) for step in output.residuals[pair]]
        assert values.tolist() == pytest.approx(expected)
        assert max(expected) > 0


def test_contributions_are_shapley_values():
    model, inputs = model_of(CCSSA).eval(), sample_of()
    explanation = explain(model, inputs, info_of())
    probability: dict[tuple[str, ...], float] = {(): 1 / 3}
    for size in (1, 2, 3):
        for subset in combinations(SHAPES, size):
            with torch.no_grad():
                probabilities = model({name: inputs[name] for name in subset}).logits[0].softmax(0)
            probability[subset] = float(probabilities[explanation.prediction])
    for name in SHAPES:
        others = [other for other in SHAPES if other != name]
        expected = 0.0
        for size in (0, 1, 2):
            for subset in combinations(others, size):
                joined = tuple(n for n in SHAPES if n in (*subset, name))
                weight = math.factorial(size) * math.factorial(2 - size) / math.factorial(3)
                expected += weight * (probability[joined] - probability[subset])
        assert explanation.contributions[name] == pytest.approx(expected, abs=1e-6)


def test_contributions_of_many_modalities_add_up_and_an_ignored_one_has_none():
    names = [f"modality{number}" for number in range(7)]
    encoders = {name: {"kind": "vector", "shape": (4,), "tokens": 2} for name in names}
    model = model_of({"kind": "none"}, names, encoders, combine="concat").eval()
    with torch.no_grad():
        model.readout.head.weight[:, 32:48] = 0  # the third modality is ignored
        model.readout.head.bias.zero_()
    info = DatasetInfo("x", tuple("abc"), {name: ModalityInfo("series", (4,)) for name in names})
    explanation = explain(model, {name: torch.rand(1, 4) * 3 for name in names}, info)
    assert sum(explanation.contributions.values()) == pytest.approx(explanation.probabilities.max() - 1 / 3, abs=1e-6)
    assert explanation.contributions["modality2"] == pytest.approx(0, abs=1e-6)
    assert all(abs(value) > 1e-4 for name, value in explanation.contributions.items() if name != "modality2")


def test_a_bright_corner_has_attention_and_effect():
    encoders = {"image": ENCODERS["image"] | {"shape": (1, 24, 40)}, "touch": ENCODERS["touch"]}
    names = ("image", "touch")
    model = model_of(CCSSA | {"attention": "spatial"}, names, encoders)
    image = torch.zeros(1, 1, 24, 40)
    image[..., :5, 35:] = 20 * torch.rand(5, 5)  # top right
    explanation = explain(
        model, {"image": image, "touch": sample_of()["touch"]}, info_of(names, SHAPES | {"image": (1, 24, 40)})
    )
    for values in (explanation.attention["touch", "image"], np.abs(explanation.occlusion["image"])):
        assert values[:12, 24:].any()
        assert not values[20:].any()
        assert not values[:, :20].any()
    assert explanation.saliency["image"][:12, 24:].max() == 1


def test_a_token_is_at_the_center_of_its_receptive_field():
    encoder = PatchSplitting(1, 16, depth="shallow", time_steps=1, neuron=nn.Identity).eval()
    image = torch.randn(1, 1, 32, 40)
    changed = image.clone()
    changed[0, 0, 12, 16] += 50
    with torch.no_grad():
        affected = (encoder(changed) != encoder(image))[0, 0].any(1).view(8, 10)
    row, column = (indices.double().mean().item() for indices in affected.nonzero(as_tuple=True))
    tokens = np.zeros((8, 10), np.float32)
    tokens[int(row), int(column)] = 1
    heat = geometry_of(encoder, image).interpolate(tokens.flatten())
    assert np.unravel_index(heat.argmax(), heat.shape) == (12, 16)
    assert (row, column) == (3, 4)


def test_token_positions_account_for_padding_and_flattening():
    splitting = PatchSplitting(1, 16, depth="full", time_steps=2)
    fitted = FittedEncoder(splitting, (1, 20, 40), (1, 32, 48))  # 6 above and below, 4 left and right
    geometry = geometry_of(fitted, torch.zeros(2, 1, 1, 20, 40))
    tokens = np.zeros(6, np.float32)
    tokens[1 * 3 + 2] = 1
    heat = geometry.interpolate(tokens)
    assert heat.shape == (20, 40)
    assert np.unravel_index(heat.argmax(), heat.shape) == (16 - 6, 32 - 4)
    assert geometry.interpolate(np.ones(6, np.float32)) == pytest.approx(np.ones((20, 40)))

    series = SeriesEncoder(2, 16, num_stages=2, time_steps=2)
    assert geometry_of(series, torch.zeros(1, 2, 18)).interpolate(np.eye(5, dtype=np.float32)[3]).argmax() == 12
    flattened = FittedEncoder(series, (2, 3, 7), (2, 21))
    heat = geometry_of(flattened, torch.zeros(1, 2, 3, 7)).interpolate(np.eye(6, dtype=np.float32)[2])
    assert np.unravel_index(heat.argmax(), heat.shape) == (1, 1)  # position 8 of 21

    vector = geometry_of(VectorEncoder(6, 16, num_tokens=3, time_steps=2), torch.zeros(1, 6))
    assert (vector.kind, vector.plane, vector.weights) == ("vector", (6,), None)
    tokens_in = geometry_of(TokenInput(5, 16, time_steps=2), torch.zeros(1, 7, 5))
    assert tokens_in.interpolate(np.arange(7, dtype=np.float32)).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("plane", "parts"), [((16, 16), 64), ((8, 16), 64), ((1, 300), 64), ((10, 1000), 64), ((5,), 5)]
)
def test_parts_cover_the_plane(plane: tuple[int, ...], parts: int):
    size = math.prod(plane)
    encoder = VectorEncoder(size, 16, num_tokens=1, time_steps=1)
    shape = (1, *plane) if len(plane) == 2 else plane
    if len(plane) == 2:
        encoder = FittedEncoder(encoder, shape, (size,))
    x = torch.zeros(1, *shape)
    indices = geometry_of(encoder, x).part_indices(64)
    assert indices.shape == plane
    assert np.unique(indices).tolist() == list(range(indices.max() + 1))
    assert parts / 2 < indices.max() + 1 <= parts


def test_input_tokens_are_blanked_separately():
    encoders = {"image": {"kind": "tokens", "shape": (5, 7)}}
    model = model_of({"kind": "none"}, ("image",), encoders).eval()
    x = torch.zeros(1, 5, 7)
    x[0, 3] = 5 * torch.rand(7)
    explanation = explain(model, {"image": x}, info_of(("image",), {"image": (5, 7)}, {"image": "image"}))
    with torch.no_grad():
        blank = model({"image": torch.zeros(1, 5, 7)}).logits.softmax(1)[0, explanation.prediction]
    assert explanation.occlusion["image"][[0, 1, 2, 4]].tolist() == [0, 0, 0, 0]
    assert explanation.occlusion["image"][3] == pytest.approx(float(explanation.probabilities.max() - blank), abs=1e-6)


def test_explaining_changes_neither_model_nor_random_state():
    model, inputs = model_of(CCSSA), sample_of()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    explain(model, inputs, info_of())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_explanations_repeat_for_methods_that_draw_random_numbers():
    encoders = {"image": ENCODERS["touch"] | {"shape": (3, 16)}, "touch": ENCODERS["touch"]}
    shapes = {"touch": (3, 20), "image": (3, 16)}
    names = ("touch", "image")
    model = model_of({"kind": "sca", "num_heads": 4, "position_bias": "random"}, names, encoders)
    inputs = {name: torch.rand(1, *shape) * 3 for name, shape in shapes.items()}
    first, second = (explain(model, inputs, info_of(names, shapes)) for _ in range(2))
    assert first.contributions == second.contributions
    for name in names:
        assert np.array_equal(first.occlusion[name], second.occlusion[name])
        assert np.array_equal(first.saliency[name], second.saliency[name])


def test_one_sample_at_a_time():
    with pytest.raises(ValueError, match=r"one sample .* image has shape \(2, 1, 8, 16\)"):
        explain(model_of({"kind": "none"}), {"image": torch.rand(2, 1, 8, 16)}, info_of())
    with pytest.raises(ValueError, match="at least one of image, touch, smell must be present"):
        explain(model_of({"kind": "none"}), {}, info_of())
    with pytest.raises(ValueError, match="has no modality 'taste'; it has image, touch, smell"):
        explain(model_of({"kind": "none"}), {"taste": torch.rand(1, 4)}, info_of())
