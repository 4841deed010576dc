"""Operations and energy of one inference: counts by hand, by brute force and by SpikingJelly, and the command."""

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from einops import rearrange
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn

from app.finished import finished_run, scmrl
from app.tiny import write_tiny_dataset
from scmrl.energy.counting import LayerOperations, ModelOperations, Operations, count_operations, update_operations
from scmrl.energy.figure import energy_figure, write_figure
from scmrl.energy.output import format_count, format_joules, make_tables, to_json, to_markdown
from scmrl.energy.prices import TABLES, energy_table
from snn_core import ALIF, IF, LIF, PLIF, NeuronFactory, SpikingConv2d, SpikingLinear, spiking_layers
from snn_datasets import Batch
from snn_fusion import METHODS, NEURONS, FusionModel, ModelSpec, calibrate
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.methods.no_fusion import NoFusion
from snn_fusion.methods.residual import SourceGates
from snn_fusion.readout import Readout

T, B, K = 3, 4, 5
CPU = torch.device("cpu")


class TwoLayers(Encoder):
    """A convolution with stride on [2, 5, 4] and a linear layer, one token."""

    def __init__(self, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__((2, 5, 4), time_steps=T)
        self.conv = SpikingConv2d(2, 3, kernel_size=3, stride=2, padding=1, neuron=neuron)  # 3 x 3 x 2
        self.linear = SpikingLinear(18, 8, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x, time_steps=self.time_steps).flatten(2)).unsqueeze(2)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        return 1


def two_layers(*, neuron: NeuronFactory = LIF) -> FusionModel:
    readout = Readout(("sight",), 8, K, mlp_expansion=0)
    encoder = TwoLayers(neuron=neuron)
    model = FusionModel({"sight": encoder}, NoFusion(), readout).eval()
    encoder.conv.adjust_drive(4.0, 0.5)
    encoder.linear.adjust_drive(4.0, 0.5)
    return model


def batch_of(**inputs: Tensor) -> Batch:
    size = B
    return {
        "inputs": inputs,
        "present": {name: torch.ones(size, dtype=torch.bool) for name in inputs},
        "labels": torch.zeros(size, dtype=torch.int64),
        "ids": [str(number) for number in range(size)],
    }


def binary(*shape: int) -> Tensor:
    return (torch.rand(*shape) < 0.4).float()


def spikes_of(module: nn.Module, model: FusionModel, batch: Batch) -> np.ndarray:
    """Return the output of a module of the model for a batch."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda *call: outputs.append(call[-1]))
    with torch.no_grad():
        model(batch["inputs"])
    handle.remove()
    return outputs[0].double().numpy()


def outputs_reached(row: int, column: int) -> int:
    """Count the 3 x 2 outputs whose 3 x 3 window, at stride 2 and padding 1, covers a pixel of 5 x 4."""
    return sum(abs(2 * i - row) <= 1 and abs(2 * j - column) <= 1 for i in range(3) for j in range(2))


def approximately(value: float) -> Any:
    return pytest.approx(value)


def layers_of(counts: ModelOperations) -> dict[str, LayerOperations]:
    return {layer.name.removeprefix("encoders.sight."): layer for layer in counts.layers}


def test_counts_of_a_static_image_are_those_by_hand():
    model, batch = two_layers(), batch_of(sight=torch.rand(B, 2, 5, 4) + 0.1)
    fired = spikes_of(model.get_submodule("encoders.sight.conv"), model, batch)
    counts = count_operations(model, [batch], CPU)
    assert (counts.samples, counts.time_steps, counts.timed, counts.unlayered) == (B, T, (), ())
    layers = layers_of(counts)
    assert list(layers) == ["conv.conv", "linear.linear", "readout.head"]

    # For a static image, the convolution of 2 x 9 weights for each of 18 outputs runs once, on real values.
    assert layers["conv.conv"].paper == layers["conv.conv"].strict == Operations(mac=18 * 18)
    linear = layers["linear.linear"]
    assert (linear.inputs, linear.dense) == ("spikes", T * 18 * 8)
    assert 0.05 < linear.rate < 0.95
    assert linear.strict == Operations(ac=fired.sum() / B * 8)
    assert linear.paper.ac == pytest.approx(fired.mean() * T * 18 * 8)
    # Means over time are real, which the paper's convention ignores.
    head = layers["readout.head"]
    assert (head.inputs, head.strict) == ("real", Operations(mac=8 * K))
    assert head.paper == Operations(ac=approximately(head.rate * 8 * K))

    assert counts.paper == sum((layer.paper for layer in counts.layers), Operations())
    assert counts.strict == Operations(mac=18 * 18 + 8 * K, ac=linear.strict.ac)
    assert counts.dense == Operations(mac=18 * 18 + T * 18 * 8 + 8 * K)
    assert counts.dense_once == Operations(mac=18 * 18 + 18 * 8 + 8 * K)
    assert [(neurons.name, neurons.updates) for neurons in counts.neurons] == [
        ("encoders.sight.conv", T * 18),
        ("encoders.sight.linear", T * 8),
    ]
    assert counts.neurons[0].rate == pytest.approx(fired.mean())
    assert counts.updates == Operations(mac=T * 26)


def test_counts_of_events_are_those_by_hand_including_the_border():
    events = binary(T, B, 2, 5, 4)
    counts = count_operations(two_layers(), [batch_of(sight=events)], CPU)
    conv = layers_of(counts)["conv.conv"]
    reached = sum(
        events[:, :, :, i, j].sum().item() * outputs_reached(i, j) for i, j in itertools.product(range(5), range(4))
    )
    assert conv.strict == Operations(ac=3 * reached / B)
    assert conv.paper == Operations(ac=approximately(events.double().mean().item() * T * 18 * 18))
    assert conv.strict.ac < conv.paper.ac  # paper counts padding as reached by spikes
    assert counts.timed == ("sight",)
    assert counts.dense.mac == pytest.approx(T * (counts.dense_once.mac - 8 * K) + 8 * K)


def test_the_first_product_of_an_encoder_counts_as_its_first_layer():
    class Functional(TwoLayers):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.einsum("b c h w, d c -> b d h w", x, 0.5 * torch.eye(2)))

    model = FusionModel({"sight": Functional(), "sight2": TwoLayers()}, NoFusion(), Readout(("sight", "sight2"), 8, K))
    x = torch.rand(B, 2, 5, 4)
    counts = {layer.name: layer for layer in count_operations(model, [batch_of(sight=x, sight2=x)], CPU).layers}
    macs = {name: layer.paper.mac for name, layer in counts.items() if layer.paper.mac}
    assert macs == {"encoders.sight[0]": 2 * 2 * 20, "encoders.sight2.conv.conv": 18 * 18}


def test_event_counts_are_not_spikes():
    counts = count_operations(two_layers(), [batch_of(sight=2 * binary(T, B, 2, 5, 4))], CPU)
    conv = layers_of(counts)["conv.conv"]
    assert conv.inputs == "whole"
    assert conv.paper == conv.strict == Operations(mac=T * 18 * 18)


def test_samples_are_averaged_over_batches_and_the_model_is_unchanged():
    model = two_layers().train()
    inputs = torch.rand(2 * B, 2, 5, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    progress: list[int] = []
    batches = [batch_of(sight=inputs[:B]), batch_of(sight=inputs[B:])]
    both = count_operations(model, batches, CPU, progress.append)
    single = [count_operations(model, [batch], CPU) for batch in batches]
    assert progress == [B, 2 * B]
    assert both.strict.ac == pytest.approx((single[0].strict.ac + single[1].strict.ac) / 2)
    assert both.dense == single[0].dense
    assert model.training
    assert model.encoders["sight"].time_steps == T
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_updates_of_neurons_depend_on_their_states():
    for neuron in (LIF(), PLIF(), nn.Identity()):
        assert update_operations(neuron) == Operations(mac=1)
    assert update_operations(IF()) == Operations(ac=1)
    assert update_operations(ALIF()) == Operations(mac=2, ac=1)
    counts = count_operations(two_layers(neuron=IF), [batch_of(sight=torch.rand(B, 2, 5, 4))], CPU)
    assert counts.updates == Operations(ac=T * 26)


def small_model(fusion: dict[str, Any], *, blocks: int = 0, neuron: str = "lif") -> tuple[FusionModel, Batch]:
    torch.manual_seed(0)
    image = {"kind": "patch_splitting", "depth": "shallow", "blocks": {"depth": blocks, "num_heads": 4}}
    model = ModelSpec.model_validate(
        {
            "input_shapes": {"a": (1, 8, 12), "b": (3, 18)},  # 6 and 5 tokens
            "encoders": {"a": image, "b": {"kind": "series", "num_stages": 2}},
            "num_classes": K,
            "channels": 16,
            "time_steps": T,
            "neuron": {"kind": neuron},
            "fusion": fusion,
            "alignment": None,
        }
    ).build()
    inputs = {"a": torch.rand(32, 1, 8, 12) * 2, "b": torch.randn(32, 3, 18) * 2}
    calibrate(model, inputs)
    return model.eval(), batch_of(**{name: x[:B] for name, x in inputs.items()})


def test_kinds_of_neurons_differ_only_in_their_updates():
    by_kind, names = {}, dict[str, list[str]]()
    for kind in NEURONS.specs():
        model, batch = small_model({"kind": "ccssa", "num_heads": 4}, neuron=kind)
        counts = count_operations(model, [batch], CPU)
        names[kind] = list(spiking_layers(model))
        by_kind[kind] = [(neurons.name, neurons.updates) for neurons in counts.neurons], counts.dense, counts.dense_once
    assert {"if", "lif", "plif", "alif"} <= by_kind.keys()
    assert all(each == by_kind["lif"] for each in by_kind.values())
    assert [name for name, _ in by_kind["lif"][0]] == names["lif"]


@pytest.mark.parametrize("sharing", ["pair", "source"])
def test_counts_of_attention_are_those_by_brute_force(sharing: str):
    fusion = {"kind": "ccssa", "num_heads": 8, "attention": "spatial", "sharing": sharing}
    model, batch = small_model(fusion)
    counts = {layer.name: layer for layer in count_operations(model, [batch], CPU).layers}
    readers: Any = model.fusion.readers
    spikes = {}
    for target, source in (("a", "b"), ("b", "a")):
        reader = readers.spatial if sharing == "source" else readers[f"{target}_reads_{source}"].spatial
        parts = {"query": target, "key": source, "value": source}
        for part, modality in parts.items():
            layer = getattr(reader, part)
            layer = layer[modality] if sharing == "source" else layer
            spikes[part] = rearrange(spikes_of(layer, model, batch), "t b n (h d) -> (t b h) n d", h=8)
        q, k, v = (spikes[part] for part in ("query", "key", "value"))
        state_met = sum(
            int(kx[m, i] and vx[m, j])
            for kx, vx in zip(k, v, strict=True)
            for m, i, j in itertools.product(range(k.shape[1]), range(2), range(2))
        )
        state = k.swapaxes(1, 2) @ v
        read_met = sum(
            int(qx[n, i] and sx[i, j] != 0)
            for qx, sx in zip(q, state, strict=True)
            for n, i, j in itertools.product(range(q.shape[1]), range(2), range(2))
        )
        assert state_met > 0
        assert read_met > 0
        if sharing == "pair":
            name = f"fusion.readers.{target}_reads_{source}.spatial"
            first, second = counts[f"{name}[0]"], counts[f"{name}[1]"]
        else:  # the states of both sources come first, then the reads of both targets
            i = ("a", "b").index(target)
            first, second = counts[f"fusion.readers.spatial[{i}]"], counts[f"fusion.readers.spatial[{i + 2}]"]
        assert first.strict == Operations(ac=state_met / B)
        assert second.strict == Operations(ac=read_met / B)
        assert first.paper.ac == pytest.approx(k.mean() * first.dense)
        assert second.paper.ac == pytest.approx(q.mean() * second.dense)


METHOD_OPTIONS = {
    **{name: {} for name in METHODS.specs()},
    "ccssa": {"combine": "gate"},
    "sca": {"biased": ()},
}


@pytest.mark.parametrize("method", METHODS.specs())
def test_multiplications_equal_those_of_spikingjelly(method: str):
    fusion: dict[str, Any] = {"kind": method, **METHOD_OPTIONS[method]}
    if "num_heads" in METHODS.specs()[method].model_fields:
        fusion["num_heads"] = 4
    model, batch = small_model(fusion, blocks=1)
    for module in model.modules():
        if isinstance(module, SourceGates):  # their initial weights are 0, which SpikingJelly counts as spikes
            for weight in module.parameters():
                torch.nn.init.uniform_(weight, 0.1, 0.2)
    counts = count_operations(model, [batch], CPU)
    assert {layer.name.partition(".")[0] for layer in counts.layers} <= {"encoders", "fusion", "readout"}
    for layer in counts.layers:
        assert 0 <= layer.strict.ac + layer.strict.mac <= layer.dense
        assert layer.paper.ac <= layer.dense
    reference = MACCounter()
    with torch.no_grad(), DispatchCounterMode([reference]):
        model(batch["inputs"])
    assert counts.strict.mac * B == reference.get_total()


def test_additions_equal_those_of_spikingjelly_for_binary_spikes():
    model, batch = two_layers(), batch_of(sight=binary(T, B, 2, 5, 4))
    reference = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([reference]):
        model.encoders["sight"](batch["inputs"]["sight"])
    counts = layers_of(count_operations(model, [batch], CPU))
    assert (counts["conv.conv"].strict.ac + counts["linear.linear"].strict.ac) * B == reference.get_total() > 0


def test_the_conventions_differ_for_sums_of_spikes():
    """SpikingJelly and the strict convention multiply a value of 2; the paper's convention adds it."""
    model, batch = small_model({"kind": "none"}, blocks=1)
    encoder: Any = model.get_submodule("encoders.a.encoder")
    for layer in (encoder.stages[-1], encoder.position):
        layer.adjust_drive(4.0, 1.0)
    counts = {layer.name: layer for layer in count_operations(model, [batch], CPU).layers}
    query = counts["encoders.a.blocks.0.attention.query.linear"]
    assert query.inputs == "whole"
    assert query.strict == Operations(mac=query.dense)
    assert query.paper == Operations(ac=query.rate * query.dense)
    linear = model.get_submodule("encoders.a.blocks.0.attention.query.linear")
    x = torch.from_numpy(spikes_of(encoder, model, batch)).float()
    reference = MACCounter()
    with torch.no_grad(), DispatchCounterMode([reference]):
        linear(x)
    assert reference.get_total() == query.strict.mac * B


def test_energy_tables_have_a_name_or_custom_values():
    fp32 = energy_table("45nm")
    assert (fp32.mac, fp32.ac) == (4.6, 0.9)
    assert fp32.joules(2, 10) == pytest.approx(18.2e-12)
    assert next(iter(TABLES)) == "45nm"
    custom = energy_table("ac=0.5, mac=3")
    assert (custom.mac, custom.ac, custom.name) == (3.0, 0.5, "ac=0.5, mac=3")


@pytest.mark.parametrize(
    "text", ["mac=1", "mac=1,ac=x", "mac=1,ac=-1", "mac=1,ac=nan", "mac=1,mac=2", "a=1,mac=1,ac=1"]
)
def test_invalid_custom_values_are_refused(text: str):
    with pytest.raises(ValueError, match="must be the picojoules of both operations"):
        energy_table(text)


def test_an_unknown_table_lists_the_known_ones():
    with pytest.raises(ValueError, match="no such energy table; choose from 45nm, 45nm-fp16, 45nm-int32, 45nm-int8"):
        energy_table("7nm")


def test_numbers_are_formatted_with_three_digits():
    texts = ["0", "640", "999", "1 k", "73.7 k", "1 M", "2.5 G"]
    assert [format_count(n) for n in (0, 640, 999.4, 999.7, 73728, 999_999, 2.5e9)] == texts
    energies = ["0 pJ", "4.6 pJ", "1 nJ", "33.8 µJ", "2e+03 mJ"]
    assert [format_joules(e) for e in (0, 4.6e-12, 9.999e-10, 33.8e-6, 2)] == energies


def test_names_from_files_are_escaped():
    counts = count_operations(two_layers(), [batch_of(sight=torch.rand(B, 2, 5, 4))], CPU)
    content = to_json(counts, TABLES["45nm"], data="a|b <i>", split="test")
    content["layers"][0]["layer"] = r"encoders.$\nothing$|<b>"
    text = to_markdown(content, make_tables(content))
    assert r"a\|b \<i\>" in text
    assert r"\$\\nothing\$\|\<b\>" in text
    assert "<" not in text.replace("\\<", "")
    figure = energy_figure(content)
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"encoders: $\nothing$|<b>"


def test_a_time_axis_and_an_encoder_without_layers_are_noted():
    spec = {
        "input_shapes": {"a": (4, 16)},
        "encoders": {"a": {"kind": "tokens"}},
        "num_classes": K,
        "channels": 16,
        "fusion": {"kind": "none"},
        "alignment": None,
    }
    model = ModelSpec.model_validate(spec).build().eval()
    counts = count_operations(model, [batch_of(a=torch.rand(T, B, 4, 16))], CPU)
    assert (counts.unlayered, counts.timed) == (("a",), ("a",))
    notes = to_json(counts, TABLES["45nm"], data="x", split="test")["notes"]
    assert notes[-2].startswith("a: the input has a time axis")
    assert notes[-1].startswith("a: the encoder has no layer")
    assert any("arXiv:2409.08290" in note and note.startswith("not counted: memory access") for note in notes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("energy")
    (folder / "data").mkdir()
    return finished_run(write_tiny_dataset(folder / "data", train=40, test=14), folder / "run")


@pytest.fixture
def counted(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_totals_of_a_run_are_the_sums_of_its_layers(
    counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    copy = tmp_path / "copy.json"
    assert scmrl(monkeypatch, "energy", counted, "--samples", "9", "--json", copy) == 0
    content = json.loads((counted / "energy.json").read_text())
    assert json.loads(copy.read_text()) == content
    assert (content["format_version"], content["table"], content["samples"], content["split"]) == (1, "45nm", 9, "test")
    assert content["time_steps"] == 3
    totals = content["totals"]
    for name, part in (("paper", lambda layer: layer["paper"]), ("strict", lambda layer: layer)):
        for quantity in ("mac", "ac", "energy_j"):
            total = math.fsum(part(layer)[quantity] for layer in content["layers"])
            assert totals[name][quantity] == pytest.approx(total)
        assert totals[name]["energy_j"] == pytest.approx(4.6e-12 * totals[name]["mac"] + 0.9e-12 * totals[name]["ac"])
    assert totals["dense_twin_same_steps"]["mac"] == pytest.approx(sum(layer["dense"] for layer in content["layers"]))
    assert totals["dense_twin_same_steps"]["time_steps"] == 3
    assert totals["dense_twin"]["time_steps"] == 1
    assert totals["dense_twin"]["mac"] < totals["dense_twin_same_steps"]["mac"]
    assert totals["strict_with_neurons"]["energy_j"] == pytest.approx(
        totals["strict"]["energy_j"] + totals["neurons"]["energy_j"]
    )
    macs = [layer["layer"] for layer in content["layers"] if layer["paper"]["mac"]]
    assert macs == ["encoders.image.stages.0.conv", "encoders.audio.stages.0.conv"]
    assert len(content["neurons"]) == 32

    printed = capsys.readouterr()
    assert "spiking, strict" in printed.out
    assert "fusion.readers.image_reads_audio.temporal.output.linear  " in printed.out
    assert "memory access" in printed.out
    assert "\x1b" not in printed.out + printed.err
    text = (counted / "energy.md").read_text()
    assert "| spiking, strict |" in text
    assert r"fusion.readers.image\_reads\_audio.spatial\[0\]" in text
    assert (counted / "energy.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(counted / "energy.svg").getroot().tag.endswith("svg")
    assert not list(counted.glob("*.part"))


def test_the_figure_is_reproducible_and_another_table_changes_energies_only(
    counted: Path, monkeypatch: pytest.MonkeyPatch
):
    contents = []
    for table in ("45nm", "mac=2,ac=1"):
        assert scmrl(monkeypatch, "energy", counted, "--samples", "2", "--table", table) == 0
        contents.append(json.loads((counted / "energy.json").read_text()))
    first, other = (content["totals"]["strict"] for content in contents)
    assert (first["mac"], first["ac"]) == (other["mac"], other["ac"])
    assert other["energy_j"] == pytest.approx(2e-12 * other["mac"] + 1e-12 * other["ac"])
    figure = (counted / "energy.svg").read_bytes()
    write_figure(contents[1], counted)
    assert (counted / "energy.svg").read_bytes() == figure


def test_more_samples_than_available_counts_all(counted: Path, monkeypatch: pytest.MonkeyPatch):
    assert scmrl(monkeypatch, "energy", counted, "--split", "val") == 0
    content = json.loads((counted / "energy.json").read_text())
    assert (content["samples"], content["split"]) == (10, "val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "0"], "--samples 0: at least 1 sample is needed"),
        (["--table", "horowitz"], "no such energy table; choose from 45nm,"),
        (["--json", "nowhere/x.json"], "there is no folder"),
        (["--split", "all"], "all"),
    ],
)
def test_mistakes_end_with_a_message(
    run: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, "energy", run, *options) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err
    assert not (run / "energy.json").exists()


def test_a_folder_that_is_not_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "energy", tmp_path) == 2
    assert "is not a run folder: it has no experiment.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
