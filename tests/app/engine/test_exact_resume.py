"""A run that is stopped after any step and resumed gives the same result, bit for bit."""

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.amp.grad_scaler import GradScaler

from app.processes import in_processes
from app.stopping import STEPS, differing_stops, drawing_dataset, every_stop_in_two_processes, options, plugin, run
from app.tiny import write_tiny_dataset

CASES = {
    "modality dropout": ("--model.modality_dropout", "0.4"),
    "noise": ("--train.noise_snr_db", "0,10"),
    "average": ("--train.average", "0.9"),
    "two workers": ("--train.workers", "2", "--model.modality_dropout", "0.4"),
    "float16 with accumulation": ("--train.precision", "float16", "--train.accumulate", "2"),
    "bfloat16": ("--train.precision", "bfloat16"),
    "plug-in with dropout": ("--model.fusion.kind", "dropped_mean"),
}
TOGETHER = (*CASES["modality dropout"], *CASES["noise"], *CASES["average"], *CASES["plug-in with dropout"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), train=32, test=8)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_all_random_draws_resume_exactly_in_the_middle_of_an_epoch(data: Path, tmp_path: Path):
    with plugin():
        assert differing_stops(lambda out: options(data, out, *TOGETHER), tmp_path, [STEPS + 1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
def test_a_stop_after_any_step_changes_nothing(
    data: Path, tmp_path: Path, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    if "float16" in more:  # the first steps are skipped, so that the optimizer has no state yet
        scaler = partial(GradScaler, init_scale=2.0**22)
        monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    with ExitStack() as stack:
        stack.enter_context(plugin())
        if "--train.workers" in more:
            stack.enter_context(drawing_dataset())
        stops = range(1, 2 * STEPS)
        assert differing_stops(lambda out: options(data, out, *more), tmp_path, stops) == []


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_a_stop_after_any_step_of_two_processes_changes_nothing(data: Path, tmp_path: Path, sharing: str):
    more = ("--train.parallel", sharing, "--train.average", "0.9", *CASES["plug-in with dropout"])
    assert in_processes(2, every_stop_in_two_processes, str(data), str(tmp_path), more, seconds=500) == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"differing-{rank}.json").read_text()) == []


def test_the_draws_of_a_dataset_do_not_depend_on_workers_or_a_resume(data: Path, tmp_path: Path):
    with drawing_dataset():
        arguments = [options(data, tmp_path / f"{n}", "--train.workers", f"{n}", "--train.epochs", "1") for n in (0, 1)]
        none, one = map(run, arguments)
    assert none is not None
    assert one is not None
    assert none.position.history[0]["train_loss"] == one.position.history[0]["train_loss"]
