"""`scmrl train` from the command line: it learns, writes a readable folder, is reproducible, and reports errors."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from app.tiny import tiny_options, write_tiny_dataset
from scmrl import cli
from scmrl.console.progress import Progress
from snn_fusion import calibrate, from_pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"))


def scmrl(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["scmrl", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_it_learns_and_writes_a_readable_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert scmrl(monkeypatch, "train", *tiny_options(data, out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["test"]["accuracy"] > 0.9  # of 16 samples after 27 steps: rounding decides about one of them
    assert summary["test"]["n"] == 16
    assert summary["validation"]["accuracy"] == 1.0
    assert summary["seconds"] > 0
    assert 1 <= summary["best_epoch"] <= 3
    assert sum(map(sum, summary["test"]["confusion"])) == 16

    branch = summary["branch"]
    assert branch["first_step"].keys() == branch["last_step"].keys()
    assert len(branch["last_step"]) == 22
    assert min(branch["first_step"].values()) > 0.01
    assert branch["silent"] == []

    experiment = json.loads((out / "experiment.json").read_text())
    assert experiment["data"]["kind"] == "manifest"
    assert experiment["train"]["epochs"] == 3
    environment = json.loads((out / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["seed"] == 0
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == [1, 2, 3]
    for picture in ("curves.png", "confusion.png", "firing_rates.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")

    printed = capsys.readouterr()
    assert printed.out == (out / "summary.txt").read_text()
    assert "next commands:" in printed.out
    commands = [line.split("  ")[1] for line in printed.out.splitlines() if line.startswith("  scmrl ")]
    assert commands == [
        f"scmrl evaluate {out}",
        f"scmrl explain {out}",
        f"scmrl report {out} --open",
        f"scmrl demo {out} --open",
        f"scmrl predict {out} image=FILE audio=FILE",
    ]
    pictures = [f"{name}={data / file}" for name, file in (("image", "test0.png"), ("audio", "test0.wav"))]
    assert scmrl(monkeypatch, *commands[-1].replace("image=FILE audio=FILE", " ".join(pictures)).split()[1:]) == 0
    assert "left" in capsys.readouterr().out
    assert "branch is alive" in printed.out.splitlines()[-1]
    assert "\x1b" not in printed.err + printed.out
    assert [line for line in printed.err.splitlines() if "3/3" in line]

    model = from_pretrained(out)
    assert model.modalities == ("image", "audio")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    timing = {"samples_per_second", "memory_mb"}
    records = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert scmrl(monkeypatch, "train", *tiny_options(data, tmp_path / name), "--seed", seed) == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        records.append([{k: v for k, v in json.loads(line).items() if k not in timing} for line in lines])
    assert records[0] == records[1]
    assert records[0] != records[2]


def test_one_modality_trains_the_same_network_without_a_branch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert scmrl(monkeypatch, "train", *tiny_options(data, out), "--data.modalities", "audio") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["modalities"] == ["audio"]
    assert summary["branch"]["last_step"] == {}
    assert "branch" not in capsys.readouterr().out
    assert not (out / "firing_rates.png").exists()


def test_a_file_may_exclude_a_modality(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(
        "data: {kind: manifest, modalities: [image, audio]}\nmodel: {encoders: {image: null}}\n", encoding="utf-8"
    )
    assert scmrl(monkeypatch, "train", "--config", str(config), *tiny_options(data, out)) == 0
    assert json.loads((out / "summary.json").read_text())["modalities"] == ["audio"]


def test_a_silent_branch_is_reported_in_the_last_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert scmrl(monkeypatch, "train", *tiny_options(data, out), "--model.init", "uncalibrated") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "branch is SILENT" in last
    assert "--model.init calibrated" in last
    assert json.loads((out / "summary.json").read_text())["branch"]["silent"]


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        (("--model.init", "calibrated"), {"encoders", "fusion", "readout"}),
        (("--model.init", "calibrated_fusion"), {"fusion"}),
        (("--model.init", "uncalibrated"), set()),
        (("--model.init", "calibrated_fusion", "--model.fusion.kind", "none", "--model.alignment", "none"), set()),
    ],
)
def test_init_selects_the_calibrated_layers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], begins: set[str]
):
    calibrated = set[str]()

    def note(*value: Any, **named: Any) -> None:
        calibrated.update(name.partition(".")[0] for name in calibrate(*value, **named))

    monkeypatch.setattr("scmrl.engine.train.calibrate", note)
    tiny = list(tiny_options(data, tmp_path / "run"))
    if "none" in options:
        heads = tiny.index("--model.fusion.num-heads")
        del tiny[heads : heads + 2]
    assert scmrl(monkeypatch, "train", *tiny, *options) == 0
    assert calibrated == begins


def test_a_folder_that_is_not_empty_is_unchanged(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "precious.txt").write_text("mine")
    assert scmrl(monkeypatch, "train", *tiny_options(data, tmp_path)) == 2
    assert "is not empty, and a run overwrites nothing" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_an_interruption_says_how_to_resume_and_keeps_the_best_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    epoch = Progress.epoch

    def interrupted(self: Progress, index: int, *rest: Any, **named: Any) -> None:
        epoch(self, index, *rest, **named)
        if index == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "epoch", interrupted)
    out = tmp_path / "run"
    assert scmrl(monkeypatch, "train", *tiny_options(data, out)) == 130
    error = capsys.readouterr().err
    assert f"interrupted; stopped after epoch 2 of 3; resume with the same command and --resume --out {out}" in error
    assert from_pretrained(out).modalities == ("image", "audio")
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2

    monkeypatch.setattr(Progress, "epoch", epoch)
    assert scmrl(monkeypatch, "train", *tiny_options(data, out), "--resume") == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_diverging_loss_names_the_step_and_keeps_the_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = [*tiny_options(data, tmp_path / "run"), "--train.gradient-clip", "0", "--train.warmup-epochs", "0"]
    options[options.index("--train.learning-rate") + 1] = "1e30"
    assert scmrl(monkeypatch, "train", *options) == 2
    error = capsys.readouterr().err
    assert "is inf or NaN in epoch 1, step" in error
    assert "--train.learning_rate (now 1e+30)" in error
    assert (tmp_path / "run" / "experiment.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train.epohcs", "3"], "did you mean --train.epochs?"),
        (["--train.epochs", "0"], "must be a whole number ≥ 1 or auto"),
        (["--data.modalities", "smell"], "digits has no modality 'smell'; choose among audio, visual"),
        (["--data.kind", "manifest"], "--data.root is required when data.kind is manifest"),
        (["--data.kind", "manifest", "--data.root", "nowhere"], "nowhere"),
        (["--model.channels", "40"], "fusion.num_heads"),
        (["--model.encoders.image.kind", "patch_splitting", "--model.encoders.image.depth", "deep"], "full"),
        (["--model.fusion.kind", "none"], "set alignment to none"),
        (["--train.device", "gpu"], "--train.device gpu cannot be used here"),
        (["train"], "options start with --"),
    ],
)
def test_user_errors_end_in_a_message_and_change_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, "train", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "command", [[], ["--help"], ["--version"], ["train", "--help"], ["train", "--help", "data.manifest"]]
)
def test_help_needs_no_pytorch(command: list[str]):
    code = (
        "import sys; sys.argv = ['scmrl', *sys.argv[1:]]\n"
        "from scmrl.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_explains_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from scmrl.config.experiment import Experiment
    from scmrl.config.overlay import options_of

    monkeypatch.setenv("COLUMNS", "200")
    assert scmrl(monkeypatch, "train", "--help", "all") == 0
    printed = capsys.readouterr().out
    options = options_of(Experiment)
    assert len(options) > 40
    for option in options:
        assert option.name.removeprefix("--") in printed
        assert option.meaning, option.name
