"""A run that is killed and resumed gives the same weights and metrics, bit for bit."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app.processes import CONTEXT, Moment, run
from app.stopping import outcome as weights_and_metrics
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.engine.checkpoints.checkpoint import complete_checkpoints

STEPS = 27
"""Optimizer steps of a whole run: 9 per epoch."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"))


def options(data: Path, out: Path, *more: str) -> list[str]:
    # A checkpoint after every step or so, so that a kill may strike between any two of them.
    return [*tiny_options(data, out), "--train.checkpoint-minutes", "0.0001", "--train.average", "0.9", *more]


def outcome(out: Path) -> tuple[Any, ...]:
    return *weights_and_metrics(out), json.loads((out / "summary.json").read_text())["test"]


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(options(data, out), log=out.parent / "log") == [0]
    return out


def moments(seed: int) -> list[Moment]:
    """Kill at five random moments, including while a checkpoint and the best model are written."""
    rng = random.Random(seed)
    return [
        ("step", rng.randint(1, STEPS // 2)),
        ("write_tensors", rng.randint(1, 3)),
        ("write_json", rng.randint(1, 6)),
        ("predict_split", 1),
        ("save_pretrained", 1),
    ]


@pytest.mark.slow
def test_five_kills_change_nothing(data: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "run"
    for moment in moments(seed=1):
        assert run(options(data, out, "--resume"), log=tmp_path / "log", moment=moment) == [-signal.SIGKILL], moment
    assert run(options(data, out, "--resume"), log=tmp_path / "log") == [0]
    assert "resuming from step-" in (tmp_path / "log.0").read_text()
    assert outcome(out) == outcome(whole)
    assert not list(out.rglob("*.part"))


def test_resuming_a_finished_run_changes_nothing(data: Path, whole: Path, tmp_path: Path):
    before = outcome(whole)
    assert run(options(data, whole, "--resume"), log=tmp_path / "log") == [0]
    assert outcome(whole) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_signal_leaves_a_checkpoint_and_exit_code_0(data: Path, whole: Path, tmp_path: Path, number: int):
    from app.processes import _train

    out, log = tmp_path / "run", tmp_path / "log"
    child = CONTEXT.Process(target=_train, args=(options(data, out), 0, 1, 0, None, log))
    child.start()
    while not (out / "checkpoints").is_dir():
        time.sleep(0.005)
        assert child.is_alive(), log.read_text()
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == 0
    assert "resume with the same command and --resume" in log.read_text()
    assert not (out / "summary.json").exists()
    assert run(options(data, out, "--resume"), log=log) == [0]
    assert outcome(out) == outcome(whole)


def test_different_settings_are_refused(data: Path, whole: Path, tmp_path: Path):
    changed = [*options(data, whole, "--resume"), "--seed", "3", "--train.weight-decay", "0.5"]
    assert run(changed, log=tmp_path / "log") == [2]
    message = (tmp_path / "log.0").read_text()
    assert "seed was 0 and is now 3" in message
    assert "train.weight_decay was 0.01 and is now 0.5" in message


def test_resume_requires_the_folder(data: Path, tmp_path: Path):
    without = options(data, tmp_path)
    index = without.index("--out")
    assert run([*without[:index], *without[index + 2 :], "--resume"], log=tmp_path / "log") == [2]
    assert "--resume needs --out" in (tmp_path / "log.0").read_text()


@pytest.mark.slow
def test_killing_two_processes_changes_nothing(data: Path, tmp_path: Path):
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    assert run(options(data, whole), log=log, world=2) == [0, 0], (tmp_path / "log.0").read_text()
    for moment in (("step", 12), ("write_tensors", 2)):
        codes = run(options(data, killed, "--resume"), log=log, world=2, moment=moment)
        assert codes == [-signal.SIGKILL] * 2
    assert run(options(data, killed, "--resume"), log=log, world=2) == [0, 0]
    assert outcome(killed) == outcome(whole)
    # One process cannot resume exactly what two began.
    assert run(options(data, killed, "--resume"), log=log) == [2]
    assert "written by 2 processes" in (tmp_path / "log.0").read_text()


@pytest.mark.slow
def test_all_ranks_resume_from_the_same_checkpoint_if_one_file_is_damaged(data: Path, tmp_path: Path):
    whole, damaged, log = tmp_path / "whole", tmp_path / "damaged", tmp_path / "log"
    assert run(options(data, whole), log=log, world=2) == [0, 0], (tmp_path / "log.0").read_text()
    shutil.copytree(whole, damaged)
    file = complete_checkpoints(damaged)[-1] / "rank-1.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    assert run(options(data, damaged, "--resume"), log=log, world=2) == [0, 0], (tmp_path / "log.0").read_text()
    text = (tmp_path / "log.0").read_text()
    assert "is damaged (rank-1.safetensors does not match its checksum): resuming from step-" in text
    assert outcome(damaged) == outcome(whole)
