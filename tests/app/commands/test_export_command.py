"""`scmrl export` from the command line; exported files run without this library."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from app.finished import finished_run, scmrl
from app.tiny import write_tiny_dataset
from present import present
from scmrl.export import program as export
from scmrl.run_folder.files import read_experiment
from snn_core import ALIF, IF, LIF, SpikingConv2d, SpikingLinear
from snn_datasets import collate
from snn_fusion import VectorEncoder, from_pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"), train=24, test=6)


@pytest.fixture(scope="module")
def one_sense(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(data, tmp_path_factory.mktemp("export") / "run", "--data.modalities", "audio")


def logits_of(run: Path) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of the test split, and the model's logits."""
    splits = read_experiment(run).data.build()
    inputs = collate(list(splits.test))["inputs"]
    with torch.no_grad():
        return inputs, from_pretrained(run)(inputs).logits


@pytest.mark.parametrize("fault", [pytest.param(float("nan"), marks=pytest.mark.slow), float("inf")])
def test_an_exported_model_is_not_confident_about_non_finite_inputs(one_sense: Path, fault: float):
    from scmrl.export.program import export_program

    splits = read_experiment(one_sense).data.build()
    batch = collate(list(splits.test))
    model = from_pretrained(one_sense)
    exported = export_program(model, batch).module()
    inputs = {name: x.clone() for name, x in batch["inputs"].items()}
    inputs["audio"][1, 0, 3, 3] = fault
    logits = exported(inputs)
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


# Runs a PyTorch program where nothing of this library can be imported.
ALONE = """
import sys
for name in ("snn_core", "snn_fusion", "snn_datasets", "scmrl"):
    sys.modules[name] = None
import torch
program = torch.export.load(sys.argv[1]).module()
torch.save(program(torch.load(sys.argv[2])), sys.argv[3])
"""


@pytest.mark.slow
def test_a_program_needs_only_pytorch(
    one_sense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "model.pt2"
    assert scmrl(monkeypatch, "export", one_sense, "--format", "pt2", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "the logits of 6 test samples differ by" in printed
    assert "inputs audio [B, 1, 16, 16]; output logits [B, 2]" in printed
    inputs, expected = logits_of(one_sense)
    torch.save(inputs, tmp_path / "inputs.pt")
    command = [sys.executable, "-c", ALONE, out, tmp_path / "inputs.pt", tmp_path / "logits.pt"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.pt", "logits.pt", "model.pt2"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--model.neuron.kind", "alif", "--data.modalities", "image"]])
def test_onnx_runs_elsewhere_on_batches_of_any_size(
    data: Path, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import onnxruntime

    run = finished_run(data, tmp_path / "run", *options)
    out = tmp_path / "model.onnx"
    assert scmrl(monkeypatch, "export", run, "--format", "onnx", "--out", out) == 0
    assert "inputs image [B, 1, 16, 16]" in capsys.readouterr().out
    inputs, expected = logits_of(run)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(inputs)
    for B in (1, 3, 6):
        (result,) = session.run(["logits"], {name: x[:B].numpy() for name, x in inputs.items()})
        np.testing.assert_allclose(np.asarray(result), expected[:B].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        SpikingLinear(5, 7, neuron=lambda: LIF(tau=3.0, v_reset=0.1)),
        SpikingLinear(5, 7, neuron=lambda: IF(v_reset=None, v_threshold=0.7)),
        SpikingLinear(5, 7, norm=False, bias=True, neuron=lambda: LIF(decay_input=False, v_reset=-0.2)),
        SpikingLinear(5, 7, neuron=lambda: ALIF(tau=2.0, v_threshold=0.3)),
        SpikingLinear(5, 1, neuron=LIF),
    ],
    ids=["hard", "soft", "bias", "adaptive", "one"],
)
def test_decomposed_neurons_spike_alike(layer: SpikingLinear):
    if layer.norm is not None:
        uneven(layer.norm)
    assert_same(layer.eval(), torch.randn(6, 4, 3, 5) * 2)  # T=6 B=4 N=3 C=5


@pytest.mark.parametrize("size", [(4, 6), (1, 1)])
def test_decomposed_maps_spike_alike(size: tuple[int, ...]):
    layer = SpikingConv2d(3, 5).eval()
    uneven(present(layer.norm))
    assert_same(layer, torch.randn(4, 2, 3, *size) * 3)  # T=4 B=2 C=3
    held = Held(layer).eval()
    assert_same(held, torch.randn(2, 3, *size) * 3)


@torch.no_grad()
def uneven(norm: torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) -> None:
    """Set statistics and scales that differ by channel, such that neurons sometimes spike."""
    channels = torch.arange(len(norm.weight)) / 10
    present(norm.running_mean).copy_(channels - 0.3)
    present(norm.running_var).copy_(channels + 0.2)
    norm.weight.copy_(1.5 - channels)
    norm.bias.fill_(0.5)


class Held(torch.nn.Module):
    """A static input for 5 time steps."""

    def __init__(self, layer: SpikingConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, time_steps=5)


def assert_same(layer: torch.nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected = layer(x)
        exported = torch.export.export(layer, (x,))
        plain = export.decompose_neurons(exported)
        assert any("snn_core" in str(node.target) for node in exported.graph.nodes)
        assert not any("snn_core" in str(node.target) for node in plain.graph.nodes)
        result = plain.module()(x)
    assert 0.02 < expected.mean() < 0.98
    assert (result != expected).double().mean() < 0.01


@pytest.fixture(scope="module")
def gas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gas")
    draw = np.random.default_rng(0)
    rows = []
    for split, count in (("train", 24), ("test", 5)):
        for i in range(count):
            values = np.column_stack([np.arange(20) / 10, draw.normal(size=(20, 3)) + i % 2])
            np.savetxt(folder / f"{split}{i}.csv", values, delimiter=",", header="t,a,b,c", comments="")
            rows.append(f"{split},{'ab'[i % 2]},{split}{i}.csv")
    (folder / "manifest.csv").write_text("split,label,gas\n" + "\n".join(rows) + "\n")
    means = ("--data.columns.gas.coding.kind", "steps", "--data.columns.gas.coding.steps", "3")
    return finished_run(folder, folder / "run", "--data.time-steps", "3", *means)


def test_the_vector_encoder_becomes_nir(
    gas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import nir

    out = tmp_path / "gas.nir"
    assert scmrl(monkeypatch, "export", gas, "--format", "nir", "--out", out) == 0
    encoder = from_pretrained(gas).encoders["gas"]
    assert isinstance(encoder, VectorEncoder)
    assert isinstance(encoder.embed.neuron, LIF)
    total = 5 * 3 * encoder.num_tokens * 16  # samples, steps, tokens, channels
    assert f"0 of {total:,} spikes of gas's encoder differ, over 5 samples" in capsys.readouterr().out
    graph = nir.read(str(out))
    assert {type(node).__name__ for node in graph.nodes.values()} == {"Input", "Conv2d", "LIF", "Output"}
    node = graph.nodes["neuron"]
    assert isinstance(node, nir.LIF)
    np.testing.assert_allclose(node.tau.flat[0], encoder.embed.neuron.tau * 1e-4)


def test_an_encoder_that_nir_cannot_express_is_refused(
    one_sense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "export", one_sense, "--format", "nir", "--out", tmp_path / "x.nir") == 2
    message = capsys.readouterr().err
    assert "the encoder of audio, PatchSplitting, has max pooling" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_that_differs_is_not_written(
    one_sense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(export, "load_pt2", lambda path: lambda inputs: torch.ones(len(inputs["audio"]), 2))
    assert scmrl(monkeypatch, "export", one_sense, "--format", "pt2", "--out", tmp_path / "x.pt2") == 2
    assert "the exported model differs: 6 of 6 test samples by more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_extra_is_named(
    one_sense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert scmrl(monkeypatch, "export", one_sense, "--format", "onnx", "--out", tmp_path / "x.onnx") == 2
    assert 'pip install "scmrl-app[onnx]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "pt2", "--out", "there.pt2"], "exists already, and nothing is overwritten"),
        (["--format", "pt2", "--out", "nowhere/x.pt2"], "there is no folder"),
        (["--format", "pt2", "--out", "x.pt2", "--modality", "audio"], "--modality audio is for --format nir"),
        (["--format", "nir", "--out", "x.nir", "--modality", "smell"], "--modality smell: the run has audio"),
        (["--format", "exe", "--out", "x"], "exe"),
        (["--format", "pt2"], "--out"),
    ],
)
def test_mistakes_end_in_a_message(
    one_sense: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt2").write_text("precious")
    assert scmrl(monkeypatch, "export", one_sense, *options) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]
