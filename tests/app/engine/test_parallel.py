"""Several processes train like one on the same batches: DDP and FSDP, batch norm and alignment over all ranks."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from app.parallel_work import Net, clipped, gather, inputs, joined_steps, normalize, steps
from app.processes import in_processes, run
from app.tiny import tiny_options, write_tiny_dataset


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    steps(str(folder), "ddp", 0, 1)
    return torch.load(folder / "ddp-1.pt", weights_only=True)


def distance(both: dict[str, Any], alone: dict[str, Any]) -> float:
    assert both["weights"].keys() == alone["weights"].keys()
    weights = [float((both["weights"][name] - value).abs().max()) for name, value in alone["weights"].items()]
    return max(*weights, *(abs(a - b) for a, b in zip(both["losses"], alone["losses"], strict=True)))


@pytest.mark.parametrize("sharing", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_two_processes_end_with_the_weights_of_one(alone: dict[str, Any], tmp_path: Path, sharing: str):
    assert in_processes(2, joined_steps, str(tmp_path), sharing, True) == [0, 0]
    both = torch.load(tmp_path / f"{sharing}-2.pt", weights_only=True)
    assert distance(both, alone) < 1e-9


def test_batch_norm_that_is_not_synchronized_would_differ(alone: dict[str, Any], tmp_path: Path):
    assert in_processes(2, joined_steps, str(tmp_path), "ddp", False) == [0, 0]
    assert distance(torch.load(tmp_path / "ddp-2.pt", weights_only=True), alone) > 1e-4


@pytest.mark.slow
@pytest.mark.needs("compiler")
@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_the_command_trains_in_two_processes(tmp_path: Path, sharing: str):
    data = write_tiny_dataset(tmp_path)
    out, log = tmp_path / "run", tmp_path / "log"
    more = ["--train.parallel", sharing, "--train.accumulate", "2", "--train.average", "0.9"]
    assert run([*tiny_options(data, out), *more], log=log, world=2) == [0, 0], (tmp_path / "log.0").read_text()[-2000:]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["test"]["n"] == 16
    assert summary["test"]["accuracy"] >= 0.9
    assert sum(map(sum, summary["test"]["confusion"])) == 16
    assert (tmp_path / "log.1").read_text() == ""  # one process speaks


@pytest.mark.slow
def test_a_lost_process_is_reported_in_one_line(tmp_path: Path):
    data = write_tiny_dataset(tmp_path, train=32)
    out, log = tmp_path / "run", tmp_path / "log"
    assert run(tiny_options(data, out), log=log, world=2, moment=("step", 5), by_hand=True) == [2, -signal.SIGKILL]
    last = (tmp_path / "log.0").read_text().splitlines()[-1]
    assert last.startswith("scmrl: process 0 of 2 stopped, because another process is gone")
    assert last.endswith(f"start all of them again: resume with the same command and --resume --out {out}")
    assert "Traceback" not in (tmp_path / "log.0").read_text()


@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_all_ranks_get_the_same_gradient_norm(tmp_path: Path, sharing: str):
    assert in_processes(2, clipped, str(tmp_path), sharing) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first, second, equal_nan=True)
    unlimited, limited, *broken = first
    assert unlimited[0] == limited[0] == unlimited[1] > 0.5
    assert float(limited[1]) == pytest.approx(0.5, rel=1e-4)
    for norm, _, finite in broken:
        assert norm.isnan()
        assert finite  # only the gradient shows it


def test_synchronized_batch_norm_equals_one_over_the_whole_batch(tmp_path: Path):
    assert in_processes(2, normalize, str(tmp_path)) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    net, x = Net().double(), inputs().double().requires_grad_()
    y = net(x)
    (y * y.tanh() * torch.arange(50.0, dtype=torch.float64).view(10, 5)).sum().backward()
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), y.detach())
    torch.testing.assert_close(torch.cat([first["x"], second["x"]]), x.grad)
    for name, p in net.named_parameters():
        torch.testing.assert_close(first["grads"][name], p.grad)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(first["state"][name], value)
        assert torch.equal(first["state"][name], second["state"][name])


def test_gathering_keeps_ranks_in_order_and_sums_the_gradient_of_all(tmp_path: Path):
    assert in_processes(2, gather, str(tmp_path)) == [0, 0]
    rows = torch.arange(6.0).view(3, 2)
    for rank in range(2):
        gathered = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(gathered["every"], torch.cat([rows, rows + 10]))
        assert torch.equal(gathered["grad"], 2 * torch.arange(12.0).view(6, 2)[3 * rank : 3 * rank + 3])
