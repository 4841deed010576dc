"""Quick checks fail before PyTorch is loaded and data are prepared."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.finished import scmrl
from scmrl.config import preflight


def refused(*arguments: str, cwd: Path) -> str:
    """Standard error of a command that fails before PyTorch is loaded."""
    code = (
        "import sys; sys.argv = ['scmrl', *sys.argv[1:]]\n"
        "import os.path; os.path.exists = lambda path, true=os.path.exists: 'dev/' not in str(path) and true(path)\n"
        "from scmrl.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.skipif(not Path("/proc/driver").is_dir(), reason="only Linux tells drivers without PyTorch")
@pytest.mark.parametrize("command", [("train",), ("study", "ablation")])
def test_a_missing_gpu_is_reported_first(command: tuple[str, ...], tmp_path: Path):
    message = refused(*command, "--train.device", "cuda", cwd=tmp_path)
    assert "--train.device cuda cannot be used here (this machine has no GPU driver); auto always can" in message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_reported_first(tmp_path: Path):
    (tmp_path / "precious.txt").write_text("mine")
    assert "is not empty, and a run overwrites nothing" in refused("train", "--out", str(tmp_path), cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("command", [("train",), ("study", "ablation")])
def test_a_missing_extra_is_reported_first(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert scmrl(monkeypatch, *command, "--train.wandb", "mine") == 2
    assert 'pip install "scmrl-app[wandb]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prefix", ["--", "--data."])
def test_dataset_options_have_the_same_names_in_every_command(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "data", "check", "manifest", f"{prefix}root", str(tmp_path / "gone")) != 0
    message = capsys.readouterr()
    assert "no such option" not in message.err + message.out
    assert "gone" in message.err + message.out


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["--data.root", "clips"], "manifest"),
        (["--data.root=data/crema-d"], "crema-d"),
        (["--data.root", "data/crema-d"], "crema-d"),
    ],
)
def test_the_suggested_dataset_is_that_of_the_folder(
    options: list[str], kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "train", *options) == 2
    assert f"(add --data.kind {kind}; other kinds" in capsys.readouterr().err
