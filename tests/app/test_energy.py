"""What an inference costs: counts by hand, by brute force and by SpikingJelly, and the command as a person meets it."""

import itertools
import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from einops import rearrange
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn

from app.finished import finished_run, scmrl
from app.tiny import write_tiny_dataset
from scmrl.energy.account import Account, Cost, account, update_cost
from scmrl.energy.picture import draw, energy_figure
from scmrl.energy.tables import TABLES, energy_table
from scmrl.energy.wording import contents, count, joules, markdown, tables
from snn_core import ALIF, IF, LIF, PLIF, SpikingConv2d, SpikingLinear, spiking_layers
from snn_datasets import Batch
from snn_fusion import METHODS, NEURONS, FusionModel, ModelSpec, calibrate
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.methods import NoFusion
from snn_fusion.methods.residual import SourceGates
from snn_fusion.readout import Readout

T, B, K = 3, 4, 5
CPU = torch.device("cpu")


class TwoLayers(Encoder):
    """A convolution with stride on [2, 5, 4] and a linear layer, one token."""

    def __init__(self, *, neuron=LIF) -> None:
        super().__init__((2, 5, 4), time_steps=T)
        self.conv = SpikingConv2d(2, 3, kernel_size=3, stride=2, padding=1, neuron=neuron)  # to 3 x 3 x 2
        self.linear = SpikingLinear(18, 8, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x, time_steps=self.time_steps).flatten(2)).unsqueeze(2)

    def count_tokens(self, input_shape) -> int:
        return 1


def two_layers(**options) -> FusionModel:
    readout = Readout(("sight",), 8, K, mlp_expansion=0)
    model = FusionModel({"sight": TwoLayers(**options)}, NoFusion(), readout).eval()
    encoder = model.encoders["sight"]
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
    """What a module of the model gives for a batch."""
    caught: list[Tensor] = []
    handle = module.register_forward_hook(lambda *call: caught.append(call[-1]))
    with torch.no_grad():
        model(batch["inputs"])
    handle.remove()
    return caught[0].double().numpy()


def outputs_reached(row: int, column: int) -> int:
    """Places of the 3 x 2 outputs whose 3 x 3 window, at stride 2 and padding 1, covers a pixel of 5 x 4."""
    return sum(abs(2 * i - row) <= 1 and abs(2 * j - column) <= 1 for i in range(3) for j in range(2))


def layers_of(found: Account) -> dict:
    return {layer.name.removeprefix("encoders.sight."): layer for layer in found.layers}


def test_a_still_picture_is_counted_as_by_hand():
    model, batch = two_layers(), batch_of(sight=torch.rand(B, 2, 5, 4) + 0.1)
    fired = spikes_of(model.encoders["sight"].conv, model, batch)
    found = account(model, [batch], CPU)
    assert (found.samples, found.time_steps, found.timed, found.unlayered) == (B, T, (), ())
    layers = layers_of(found)
    assert list(layers) == ["conv.conv", "linear.linear", "readout.head"]

    # The picture stands still: its convolution of 2 x 9 weights for each of 18 outputs runs once, on real values.
    assert layers["conv.conv"].paper == layers["conv.conv"].strict == Cost(mac=18 * 18)
    linear = layers["linear.linear"]
    assert (linear.inputs, linear.dense) == ("spikes", T * 18 * 8)
    assert 0.05 < linear.rate < 0.95
    assert linear.strict == Cost(ac=fired.sum() / B * 8)
    assert linear.paper.ac == pytest.approx(fired.mean() * T * 18 * 8)
    # Means over time are real, which the paper's convention does not mind.
    head = layers["readout.head"]
    assert (head.inputs, head.strict) == ("real", Cost(mac=8 * K))
    assert head.paper == Cost(ac=pytest.approx(head.rate * 8 * K))

    assert found.paper == sum((layer.paper for layer in found.layers), Cost())
    assert found.strict == Cost(mac=18 * 18 + 8 * K, ac=linear.strict.ac)
    assert found.dense == Cost(mac=18 * 18 + T * 18 * 8 + 8 * K)
    assert found.dense_once == Cost(mac=18 * 18 + 18 * 8 + 8 * K)
    assert [(neurons.name, neurons.updates) for neurons in found.neurons] == [
        ("encoders.sight.conv", T * 18),
        ("encoders.sight.linear", T * 8),
    ]
    assert found.neurons[0].rate == pytest.approx(fired.mean())
    assert found.updates == Cost(mac=T * 26)


def test_events_are_counted_as_by_hand_at_the_border_too():
    events = binary(T, B, 2, 5, 4)
    found = account(two_layers(), [batch_of(sight=events)], CPU)
    conv = layers_of(found)["conv.conv"]
    reached = sum(
        events[:, :, :, i, j].sum().item() * outputs_reached(i, j) for i, j in itertools.product(range(5), range(4))
    )
    assert conv.strict == Cost(ac=3 * reached / B)
    assert conv.paper == Cost(ac=pytest.approx(events.double().mean().item() * T * 18 * 18))
    assert conv.strict.ac < conv.paper.ac  # which takes padding for places that spikes reach
    assert found.timed == ("sight",)
    assert found.dense.mac == pytest.approx(T * (found.dense_once.mac - 8 * K) + 8 * K)


def test_the_first_product_of_an_encoder_is_its_first_layer_whoever_computes_it():
    class Functional(TwoLayers):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.einsum("b c h w, d c -> b d h w", x, 0.5 * torch.eye(2)))

    model = FusionModel({"sight": Functional(), "sight2": TwoLayers()}, NoFusion(), Readout(("sight", "sight2"), 8, K))
    x = torch.rand(B, 2, 5, 4)
    found = {layer.name: layer for layer in account(model, [batch_of(sight=x, sight2=x)], CPU).layers}
    macs = {name: layer.paper.mac for name, layer in found.items() if layer.paper.mac}
    assert macs == {"encoders.sight[0]": 2 * 2 * 20, "encoders.sight2.conv.conv": 18 * 18}


def test_counted_events_are_no_spikes():
    found = account(two_layers(), [batch_of(sight=2 * binary(T, B, 2, 5, 4))], CPU)
    conv = layers_of(found)["conv.conv"]
    assert conv.inputs == "whole"
    assert conv.paper == conv.strict == Cost(mac=T * 18 * 18)


def test_samples_are_averaged_over_batches_and_the_model_stays_as_it_was():
    model = two_layers().train()
    inputs = torch.rand(2 * B, 2, 5, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done: list[int] = []
    batches = [batch_of(sight=inputs[:B]), batch_of(sight=inputs[B:])]
    both = account(model, batches, CPU, done.append)
    alone = [account(model, [batch], CPU) for batch in batches]
    assert done == [B, 2 * B]
    assert both.strict.ac == pytest.approx((alone[0].strict.ac + alone[1].strict.ac) / 2)
    assert both.dense == alone[0].dense
    assert model.training
    assert model.encoders["sight"].time_steps == T
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_neurons_cost_what_their_states_need():
    assert update_cost(LIF()) == update_cost(PLIF()) == update_cost(nn.Identity()) == Cost(mac=1)
    assert update_cost(IF()) == Cost(ac=1)
    assert update_cost(ALIF()) == Cost(mac=2, ac=1)
    found = account(two_layers(neuron=IF), [batch_of(sight=torch.rand(B, 2, 5, 4))], CPU)
    assert found.updates == Cost(ac=T * 26)


def small_model(fusion: dict, *, blocks: int = 0, neuron: str = "lif") -> tuple[FusionModel, Batch]:
    torch.manual_seed(0)
    image = {"kind": "patch_splitting", "depth": "shallow", "blocks": {"depth": blocks, "num_heads": 4}}
    model = ModelSpec.model_validate(
        {
            "encoders": {
                "a": {**image, "input_shape": (1, 8, 12)},  # 6 tokens
                "b": {"kind": "series", "input_shape": (3, 18), "num_stages": 2},  # 5 tokens
            },
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


def test_every_kind_of_neuron_is_counted_for_its_updates_alone():
    seen = {}
    for kind in NEURONS.specs():
        model, batch = small_model({"kind": "ccssa", "num_heads": 4}, neuron=kind)
        found = account(model, [batch], CPU)
        seen[kind] = [(neurons.name, neurons.updates) for neurons in found.neurons], found.dense, found.dense_once
    assert {"if", "lif", "plif", "alif"} <= seen.keys()
    assert all(counts == seen["lif"] for counts in seen.values())
    assert [name for name, _ in seen["lif"][0]] == list(spiking_layers(model))


@pytest.mark.parametrize("sharing", ["pair", "source"])
def test_attention_is_counted_by_brute_force(sharing):
    fusion = {"kind": "ccssa", "num_heads": 8, "attention": "spatial", "sharing": sharing}
    model, batch = small_model(fusion)
    found = {layer.name: layer for layer in account(model, [batch], CPU).layers}
    readers = model.fusion.readers
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
            first, second = found[f"{name}[0]"], found[f"{name}[1]"]
        else:  # the states of the sources a reads and b reads, then what a and b read
            place = ("a", "b").index(target)
            first, second = found[f"fusion.readers.spatial[{place}]"], found[f"fusion.readers.spatial[{place + 2}]"]
        assert first.strict == Cost(ac=state_met / B)
        assert second.strict == Cost(ac=read_met / B)
        assert first.paper.ac == pytest.approx(k.mean() * first.dense)
        assert second.paper.ac == pytest.approx(q.mean() * second.dense)


METHOD_OPTIONS = {
    **{name: {} for name in METHODS.specs()},
    "ccssa": {"combine": "gate"},
    "sca": {"biased": ()},
}


@pytest.mark.parametrize("method", METHODS.specs())
def test_multiplications_are_those_that_spikingjelly_finds(method):
    fusion = {"kind": method, **METHOD_OPTIONS[method]}
    if "num_heads" in METHODS.specs()[method].model_fields:
        fusion["num_heads"] = 4
    model, batch = small_model(fusion, blocks=1)
    for module in model.modules():
        if isinstance(module, SourceGates):  # their weights begin at 0, which SpikingJelly takes for spikes
            for weight in module.parameters():
                torch.nn.init.uniform_(weight, 0.1, 0.2)
    found = account(model, [batch], CPU)
    assert {layer.name.partition(".")[0] for layer in found.layers} <= {"encoders", "fusion", "readout"}
    for layer in found.layers:
        assert 0 <= layer.strict.ac + layer.strict.mac <= layer.dense
        assert layer.paper.ac <= layer.dense
    theirs = MACCounter()
    with torch.no_grad(), DispatchCounterMode([theirs]):
        model(batch["inputs"])
    assert found.strict.mac * B == theirs.get_total()


def test_additions_are_those_that_spikingjelly_finds_where_all_spikes_are_binary():
    model, batch = two_layers(), batch_of(sight=binary(T, B, 2, 5, 4))
    theirs = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([theirs]):
        model.encoders["sight"](batch["inputs"]["sight"])
    found = layers_of(account(model, [batch], CPU))
    assert (found["conv.conv"].strict.ac + found["linear.linear"].strict.ac) * B == theirs.get_total() > 0


def test_sums_of_spikes_are_where_the_conventions_part():
    """SpikingJelly and the strict convention multiply what is 2; the paper's does not look."""
    model, batch = small_model({"kind": "none"}, blocks=1)
    for layer in (model.encoders["a"].encoder.stages[-1], model.encoders["a"].encoder.position):
        layer.adjust_drive(4.0, 1.0)
    found = {layer.name: layer for layer in account(model, [batch], CPU).layers}
    query = found["encoders.a.blocks.0.attention.query.linear"]
    assert query.inputs == "whole"
    assert query.strict == Cost(mac=query.dense)
    assert query.paper == Cost(ac=query.rate * query.dense)
    linear = model.encoders["a"].blocks[0].attention.query.linear
    x = torch.from_numpy(spikes_of(model.encoders["a"].encoder, model, batch)).float()
    theirs = MACCounter()
    with torch.no_grad(), DispatchCounterMode([theirs]):
        linear(x)
    assert theirs.get_total() == query.strict.mac * B


def test_tables_have_names_or_values_of_ones_own():
    fp32 = energy_table("45nm")
    assert (fp32.mac, fp32.ac) == (4.6, 0.9)
    assert fp32.joules(2, 10) == pytest.approx(18.2e-12)
    assert next(iter(TABLES)) == "45nm"
    own = energy_table("ac=0.5, mac=3")
    assert (own.mac, own.ac, own.name) == (3.0, 0.5, "ac=0.5, mac=3")


@pytest.mark.parametrize(
    "text", ["mac=1", "mac=1,ac=x", "mac=1,ac=-1", "mac=1,ac=nan", "mac=1,mac=2", "a=1,mac=1,ac=1"]
)
def test_values_that_are_none(text):
    with pytest.raises(ValueError, match="are the picojoules of the two operations"):
        energy_table(text)


def test_an_unknown_table_lists_what_there_is():
    with pytest.raises(ValueError, match="no such energy table; there are: 45nm, 45nm-fp16, 45nm-int32, 45nm-int8"):
        energy_table("7nm")


def test_numbers_stay_short():
    texts = ["0", "640", "999", "1 k", "73.7 k", "1 M", "2.5 G"]
    assert [count(n) for n in (0, 640, 999.4, 999.7, 73728, 999_999, 2.5e9)] == texts
    assert [joules(e) for e in (0, 4.6e-12, 9.999e-10, 33.8e-6, 2)] == ["0 pJ", "4.6 pJ", "1 nJ", "33.8 µJ", "2e+03 mJ"]


def test_names_from_files_do_not_become_markup():
    found = account(two_layers(), [batch_of(sight=torch.rand(B, 2, 5, 4))], CPU)
    content = contents(found, TABLES["45nm"], data="a|b <i>", split="test")
    content["layers"][0]["layer"] = r"encoders.$\nothing$|<b>"
    text = markdown(content, tables(content))
    assert r"a\|b \<i\>" in text
    assert r"\$\\nothing\$\|\<b\>" in text
    assert "<" not in text.replace("\\<", "")
    figure = energy_figure(content)
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"encoders: $\nothing$|<b>"


def test_what_a_time_axis_and_an_encoder_without_layers_mean_is_noted():
    spec = {
        "encoders": {"a": {"kind": "tokens", "input_shape": (4, 16)}},
        "num_classes": K,
        "channels": 16,
        "fusion": {"kind": "none"},
        "alignment": None,
    }
    model = ModelSpec.model_validate(spec).build().eval()
    found = account(model, [batch_of(a=torch.rand(T, B, 4, 16))], CPU)
    assert (found.unlayered, found.timed) == (("a",), ("a",))
    notes = contents(found, TABLES["45nm"], data="x", split="test")["notes"]
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


def test_a_run_is_counted_and_its_totals_are_those_of_its_layers(counted, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "copy.json"
    assert scmrl(monkeypatch, "energy", counted, "--samples", "9", "--json", copy) == 0
    found = json.loads((counted / "energy.json").read_text())
    assert json.loads(copy.read_text()) == found
    assert (found["format_version"], found["table"], found["samples"], found["split"]) == (1, "45nm", 9, "test")
    assert found["time_steps"] == 3
    totals = found["totals"]
    for name, part in (("paper", lambda layer: layer["paper"]), ("strict", lambda layer: layer)):
        for quantity in ("mac", "ac", "energy_j"):
            total = math.fsum(part(layer)[quantity] for layer in found["layers"])
            assert totals[name][quantity] == pytest.approx(total)
        assert totals[name]["energy_j"] == pytest.approx(4.6e-12 * totals[name]["mac"] + 0.9e-12 * totals[name]["ac"])
    assert totals["dense_twin_same_steps"]["mac"] == pytest.approx(sum(layer["dense"] for layer in found["layers"]))
    assert totals["dense_twin_same_steps"]["time_steps"] == 3
    assert totals["dense_twin"]["time_steps"] == 1
    assert totals["dense_twin"]["mac"] < totals["dense_twin_same_steps"]["mac"]
    assert totals["strict_with_neurons"]["energy_j"] == pytest.approx(
        totals["strict"]["energy_j"] + totals["neurons"]["energy_j"]
    )
    macs = [layer["layer"] for layer in found["layers"] if layer["paper"]["mac"]]
    assert macs == ["encoders.image.stages.0.conv", "encoders.audio.stages.0.conv"]
    assert len(found["neurons"]) == 32

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


def test_the_same_numbers_give_the_same_picture_and_another_table_other_energies(counted, monkeypatch):
    seen = []
    for table in ("45nm", "mac=2,ac=1"):
        assert scmrl(monkeypatch, "energy", counted, "--samples", "2", "--table", table) == 0
        seen.append(json.loads((counted / "energy.json").read_text()))
    first, other = (content["totals"]["strict"] for content in seen)
    assert (first["mac"], first["ac"]) == (other["mac"], other["ac"])
    assert other["energy_j"] == pytest.approx(2e-12 * other["mac"] + 1e-12 * other["ac"])
    picture = (counted / "energy.svg").read_bytes()
    draw(seen[1], counted)
    assert (counted / "energy.svg").read_bytes() == picture


def test_more_samples_than_there_are_count_all(counted, monkeypatch):
    assert scmrl(monkeypatch, "energy", counted, "--split", "val") == 0
    found = json.loads((counted / "energy.json").read_text())
    assert (found["samples"], found["split"]) == (10, "val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "0"], "--samples 0: counting needs at least 1 sample"),
        (["--table", "horowitz"], "there is no such energy table; there are: 45nm,"),
        (["--json", "nowhere/x.json"], "there is no folder"),
        (["--split", "all"], "all"),
    ],
)
def test_mistakes_end_in_a_message(run, options, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, "energy", run, *options) == 2
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert "Traceback" not in said.err
    assert not (run / "energy.json").exists()


def test_a_folder_that_is_no_run(tmp_path, monkeypatch, capsys):
    assert scmrl(monkeypatch, "energy", tmp_path) == 2
    assert "is no run folder: it holds no experiment.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
