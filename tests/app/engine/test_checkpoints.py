"""Checkpoint files: no code is executed, damage falls back to the previous checkpoint, a full disk loses nothing."""

import errno
import random
import shutil
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError
from torch import nn

from app.stopping import final_state, options, outcome, run
from app.tiny import write_tiny_dataset
from damage import mutated, planted_pickle
from mounts import filled, small_disk
from scmrl import cli
from scmrl.console.progress import Progress
from scmrl.engine.checkpoints import files as checkpoint_files
from scmrl.engine.checkpoints.checkpoint import (
    Position,
    TrainingState,
    complete_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
)
from scmrl.engine.checkpoints.files import read_json
from scmrl.engine.parallel import Processes
from snn_fusion import FusionModel, scmrl

ALONE = Processes.single(torch.device("cpu"))
FILES = ("checksums.json", "position.json", "rank-0.json", "rank-0.safetensors")


def trained(step: int = 0) -> TrainingState:
    """A small model after some optimizer steps."""
    torch.manual_seed(0)
    model = scmrl({"a": (1, 16, 16), "b": (1, 16, 16)}, num_classes=2, channels=8, num_heads=2, depth="shallow").build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    state = TrainingState(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), {}, Position())
    for _ in range(step):
        advance(state)
    return state


def advance(state: TrainingState) -> None:
    for parameter in state.net.parameters():
        parameter.grad = torch.rand_like(parameter)
    state.optimizer.step()
    state.position.step += 1


def saved(folder: Path, *steps: int) -> TrainingState:
    state = trained()
    for step in steps:
        state.position.step = step - 1
        advance(state)
        save_checkpoint(folder, state, ALONE)
    return state


def refuse(message: str) -> None:
    raise AssertionError(message)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def progress_to(text: StringIO) -> Progress:
    return Progress(Console(file=text, width=1000), None, lambda: 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), train=32, test=8)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with both checkpoints."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(options(data, out)) is not None
    assert [path.name for path in complete_checkpoints(out)] == ["step-000003-0002", "step-000006-0003"]
    return out


def test_what_is_saved_is_loaded(tmp_path: Path):
    state = saved(tmp_path, 5)
    draw = torch.rand(3), random.random()
    fresh = trained()
    loaded = load_newest_checkpoint(tmp_path, fresh, ALONE, refuse)
    assert loaded is not None
    loaded[1].restore(ALONE.device)
    assert torch.equal(torch.rand(3), draw[0])
    assert random.random() == draw[1]
    assert same(state.net, fresh.net)
    assert fresh.position == state.position
    for each in (state, fresh):
        torch.manual_seed(1)  # for the gradients
        advance(each)
    assert same(state.net, fresh.net)


def test_steps_past_a_million_are_sorted_as_numbers(tmp_path: Path):
    saved(tmp_path, 999_998, 999_999, 1_000_000, 1_000_001)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-1000000-0001", "step-1000001-0001"]
    fresh = trained()
    assert load_newest_checkpoint(tmp_path, fresh, ALONE, refuse)
    assert fresh.position.step == 1_000_001


def test_an_optimizer_without_state_is_saved_and_loaded(tmp_path: Path):
    state = trained()
    save_checkpoint(tmp_path, state, ALONE)
    fresh = trained(step=2)
    assert load_newest_checkpoint(tmp_path, fresh, ALONE, refuse)
    assert same(state.net, fresh.net)
    assert not fresh.optimizer.state


def test_a_part_of_the_optimizers_state_is_enough(tmp_path: Path):
    state = trained()
    first = next(state.net.parameters())
    first.grad = torch.ones_like(first)
    state.optimizer.step()
    save_checkpoint(tmp_path, state, ALONE)
    fresh = trained()
    assert load_newest_checkpoint(tmp_path, fresh, ALONE, refuse)
    assert len(fresh.optimizer.state) == 1
    assert torch.equal(
        fresh.optimizer.state[next(fresh.net.parameters())]["exp_avg"], state.optimizer.state[first]["exp_avg"]
    )


def test_incomplete_checkpoints_are_removed(tmp_path: Path):
    left = tmp_path / "checkpoints" / "step-000009-0001.part"
    left.mkdir(parents=True)
    (left / "rank-0.safetensors").write_bytes(b"half")
    saved(tmp_path, 1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001-0001"]


def test_extra_state_that_is_not_a_tensor_is_refused(tmp_path: Path):
    class Counting(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

        def set_extra_state(self, state: dict[str, int]) -> None: ...

    state = trained()
    assert isinstance(state.net, FusionModel)
    state.net.counting = Counting()
    with pytest.raises(ValueError, match=r"counting\._extra_state is dict"):
        save_checkpoint(tmp_path, state, ALONE)


def test_a_checkpoint_of_another_model_is_refused_with_names(tmp_path: Path):
    saved(tmp_path, 1)
    fresh = trained()
    assert isinstance(fresh.net, FusionModel)
    fresh.net.readout.head = nn.Linear(8, 5)
    with pytest.raises(ValueError, match=r"step-000001-0001: its tensors do not match this model.*head"):
        load_newest_checkpoint(tmp_path, fresh, ALONE, refuse)


# Damage


def damaged(file: Path, rng: random.Random) -> bool:
    """Damage a file; return whether it changed."""
    before = file.read_bytes()
    file.write_bytes(mutated(before, rng))
    return file.read_bytes() != before


def test_a_damaged_checkpoint_is_named_and_the_previous_one_is_loaded(tmp_path: Path):
    state = saved(tmp_path, 1)
    first = {name: x.clone() for name, x in state.net.state_dict().items()}
    advance(state)
    good = save_checkpoint(tmp_path, state, ALONE)
    draw = random.Random(0)
    for name in FILES:
        original = (good / name).read_bytes()
        for _ in range(25):
            if not damaged(good / name, draw):
                continue
            fresh, warnings = trained(), list[str]()
            loaded = load_newest_checkpoint(tmp_path, fresh, ALONE, warnings.append)
            assert loaded is not None
            if loaded[0] == good:  # white space in checksums.json means nothing
                assert name == "checksums.json"
                assert same(fresh.net, state.net)
                assert warnings == []
            else:
                assert all(torch.equal(x, first[key]) for key, x in fresh.net.state_dict().items())
                assert fresh.position.step == 1
                assert len(warnings) == 1
                assert "checkpoint step-000002-0001 is damaged (" in warnings[0]
                assert "resuming from step-000001-0001" in warnings[0]
            (good / name).write_bytes(original)


def test_a_missing_file_is_damage_and_a_run_without_an_intact_checkpoint_is_refused(tmp_path: Path):
    saved(tmp_path, 1, 2)
    first, second = complete_checkpoints(tmp_path)
    (second / "rank-0.safetensors").unlink()
    (first / "checksums.json").unlink()
    (first / ".metadata").write_bytes(b"")
    with pytest.raises(ValueError, match="can be used") as error:
        load_newest_checkpoint(tmp_path, trained(), ALONE, refuse)
    assert "step-000002-0001 is damaged (rank-0.safetensors cannot be read: No such file" in str(error.value)
    assert "step-000001-0001 is damaged (checksums.json is missing (an earlier version of scmrl" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_after_a_fallback_the_damaged_checkpoint_is_not_kept(tmp_path: Path):
    saved(tmp_path, 1, 5)
    (complete_checkpoints(tmp_path)[1] / "position.json").write_text("{}")
    state, warnings = trained(), list[str]()
    assert load_newest_checkpoint(tmp_path, state, ALONE, warnings.append)
    advance(state)
    save_checkpoint(tmp_path, state, ALONE)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000001-0001", "step-000002-0001"]


def test_a_forged_checkpoint_with_valid_checksums_is_only_data(tmp_path: Path):
    """Anyone who can write a run folder can write checksums; the files are read as data only."""
    saved(tmp_path, 1, 2)
    path = complete_checkpoints(tmp_path)[1]
    for name, content in (
        ("position.json", '{"world": 1, "epoch": "x"}'),
        ("rank-0.json", '{"generators": {"python": [3, [1], null], "numpy": []}, "scaler": {}, "platform": {}}'),
        ("rank-0.json", "[" * 100_000),
        ("rank-0.json", '{"generators": 7}'),
        ("rank-0.safetensors", "\\x08\\x00\\x00\\x00\\x00\\x00\\x00\\x00{}"),
    ):
        original = (path / name).read_bytes()
        (path / name).write_text(content)
        sums = read_json(path / "checksums.json")["files"]
        checkpoint_files.write_checksums(path, {**sums, name: checkpoint_files.checksum(path / name)})
        warnings = list[str]()
        loaded = load_newest_checkpoint(tmp_path, trained(), ALONE, warnings.append)
        assert loaded is not None
        assert loaded[0] == complete_checkpoints(tmp_path)[0], (name, content)
        (path / name).write_bytes(original)
        checkpoint_files.write_checksums(path, sums)


@pytest.mark.slow
def test_a_pickle_in_any_file_of_a_checkpoint_is_not_executed(data: Path, whole: Path, tmp_path: Path):
    mark = tmp_path / "executed"
    planted = planted_pickle(mark)
    for name in (*FILES, ".metadata", "__0_0.distcp"):
        out = tmp_path / "run"
        shutil.copytree(whole, out)
        newest = complete_checkpoints(out)[-1]
        (newest / name).write_bytes(planted)
        if name in ("position.json", "rank-0.json", "rank-0.safetensors"):  # with the right checksum
            sums = read_json(newest / "checksums.json")["files"]
            checkpoint_files.write_checksums(newest, {**sums, name: checkpoint_files.checksum(newest / name)})
        text = StringIO()
        assert run([*options(data, out), "--resume"], progress=progress_to(text)) is not None
        assert ("is damaged" in text.getvalue()) == (name in FILES), text.getvalue()
        assert not mark.exists(), name
        assert outcome(out) == outcome(whole)
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_300_mutations_of_a_file_end_in_the_same_run(data: Path, whole: Path, tmp_path: Path, name: str):
    draw = random.Random(name)
    for number in range(300):
        out = tmp_path / f"{number}"
        shutil.copytree(whole, out)
        if damaged(complete_checkpoints(out)[-1] / name, draw):
            text = StringIO()
            assert run([*options(data, out), "--resume"], progress=progress_to(text)) is not None
            named = "checkpoint step-000006-0003 is damaged (" in text.getvalue()
            assert named or name == "checksums.json", text.getvalue()
            assert named == ("resuming from step-000003-0002" in text.getvalue())
            assert outcome(out) == outcome(whole)
            assert final_state(out) == final_state(whole)
        shutil.rmtree(out)


# Full disks


def test_a_full_disk_is_reported_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state = saved(tmp_path, 1)
    advance(state)

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint_files, "save_file", full)
    with pytest.raises(OSError, match="the disk is full: free some space") as error:
        save_checkpoint(tmp_path, state, ALONE)
    assert "step-000002-0001" in str(error.value)
    assert f"--resume --out {tmp_path}" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001-0001"]
    assert load_newest_checkpoint(tmp_path, trained(), ALONE, refuse)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", kilobytes=3000) as folder:
        yield folder


def test_a_run_on_a_full_disk_ends_in_one_line_and_resumes_when_there_is_space(
    data: Path, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = disk / "run"
    assert run(options(data, out), stop_after=2) is None
    monkeypatch.setattr(sys, "argv", ["scmrl", "train", *options(data, out), "--resume"])
    with filled(disk, free=40_000), pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "the disk is full: free some space" in error
    assert str(out) in error
    assert run([*options(data, out), "--resume"]) is not None
    assert outcome(out) == outcome(whole)


def test_os_errors_keep_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(OSError, match="x") as error:
        checkpoint_files.write_tensors(tmp_path / "missing" / "x", {"x": torch.zeros(1)})
    assert error.value.errno == errno.ENOENT
