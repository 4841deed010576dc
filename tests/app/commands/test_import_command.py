"""`scmrl import` from the command line."""

import json
from pathlib import Path

import pytest
import torch

from app.finished import scmrl
from fusion.test_published import K, fused, save, unimodal
from snn_fusion import from_pretrained, read_published
from snn_fusion.published.names import PublishedMethod


def test_a_checkpoint_becomes_a_folder_that_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    checkpoint = save(tmp_path, {"state_dict": fused("spatiotemporal", aligned=True)})
    out = tmp_path / "model"
    sizes = ("--size", "audio=16x24", "--size", "visual=12x12")
    assert scmrl(monkeypatch, "import", checkpoint, "--time-steps", "3", "--out", out, *sizes) == 0
    printed = capsys.readouterr().out
    assert f"spatiotemporal, audio and visual, {K} classes" in printed
    assert "note: " not in printed
    inputs = {"audio": torch.randn(2, 1, 16, 24), "visual": torch.randn(2, 3, 12, 12)}
    with torch.no_grad():
        result = from_pretrained(out)(inputs).logits
        torch.testing.assert_close(result, read_published(checkpoint, time_steps=3).build()(inputs).logits)
    assert json.loads((out / "spec.json").read_text())["model"]["input_shapes"]["audio"] == [1, 16, 24]


def test_default_sizes_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    checkpoint = save(tmp_path, unimodal())
    options = ("--modality", "dvs", "--time-steps", "2", "--out", tmp_path / "model")
    assert scmrl(monkeypatch, "import", checkpoint, *options) == 0
    assert "note: the size of dvs is set to 128 x 128" in capsys.readouterr().out
    assert from_pretrained(tmp_path / "model").modalities == ("dvs",)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sca", [], "SCA works at one size, which the weights do not determine: add --size audio=HEIGHTxWIDTH"),
        ("spatiotemporal", ["--size", "128"], "--size 128: give height and width as HEIGHTxWIDTH"),
        ("spatiotemporal", ["--size", "0x16"], "--size 0x16: give height and width"),
        ("spatiotemporal", ["--size", "smell=16x16"], "no modality 'smell'; it has audio, visual"),
        ("spatiotemporal", ["--size", "13x16"], "13"),
        ("spatiotemporal", ["--method", "magic"], "method must be spatiotemporal, spatial"),
        ("spatiotemporal", ["--method", "cmci"], "contradict method 'cmci'"),
        ("spatial", [], "pass method, spatial or temporal"),
        ("spatiotemporal", ["--num-heads", "5"], "heads"),
        ("spatiotemporal", ["--ema"], "holds no weights under state_dict_ema or model_ema"),
        ("spatiotemporal", ["--time-steps", "0"], "must be at least 1"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: PublishedMethod,
    options: list[str],
    message: str,
):
    checkpoint, out = save(tmp_path, fused(method)), tmp_path / "model"
    steps = [] if "--time-steps" in options else ["--time-steps", "2"]
    assert scmrl(monkeypatch, "import", checkpoint, "--out", out, *steps, *options) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert len(output.err.splitlines()) == 1
    assert not out.exists()


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no checkpoint at"),
        (b"", "is not a PyTorch checkpoint"),
        (b"PK\x03\x04 cut off", "is not a PyTorch checkpoint, or it is damaged"),
        (b"<!doctype html>", "it is a web page"),
        (Evil(), "holds more than data"),
    ],
)
def test_files_that_are_not_checkpoints_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: object, message: str
):
    checkpoint = tmp_path / "checkpoint.pth.tar"
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    elif content is not None:
        torch.save({"state_dict": content}, checkpoint)
    assert scmrl(monkeypatch, "import", checkpoint, "--time-steps", "2", "--out", tmp_path / "model") == 2
    output = capsys.readouterr()
    assert message in output.err
    assert len(output.err.splitlines()) == 1
    assert output.out == ""
    assert not (tmp_path / "model").exists()


@pytest.mark.filterwarnings("ignore")  # PyTorch deprecates what made such files
def test_a_torchscript_program_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    program = tmp_path / "program.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), program)
    assert scmrl(monkeypatch, "import", program, "--time-steps", "2", "--out", tmp_path / "model") == 2
    message = capsys.readouterr().err
    assert f"{program} is a TorchScript program, which contains code" in message
    assert "weights_only" not in message


def test_a_folder_that_is_not_empty_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    checkpoint = save(tmp_path, unimodal())
    assert scmrl(monkeypatch, "import", checkpoint, "--time-steps", "2", "--out", tmp_path) == 2
    assert "is not empty, and nothing is overwritten" in capsys.readouterr().err
    assert scmrl(monkeypatch, "import", checkpoint, "--time-steps", "2", "--out", checkpoint) == 2
    assert "is a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
