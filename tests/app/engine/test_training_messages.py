"""Messages of a training that is stopped, extended, out of memory, or has non-finite inputs."""

import json
import math
import os
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from app.stopping import final_state, options, outcome, plugin, run
from app.tiny import write_tiny_dataset
from scmrl.config.experiment import TrainSpec
from scmrl.console.progress import Progress
from scmrl.engine import train as engine
from scmrl.engine.checkpoints.checkpoint import complete_checkpoints
from scmrl.engine.failures import explain_failure
from scmrl.engine.interruption import Interruption, Stopped
from scmrl.engine.parallel import Processes
from snn_datasets import RecordedDataset, Sample
from snn_fusion import from_pretrained

ALONE, TWO = (Processes(0, world, torch.device("cpu")) for world in (1, 2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), train=32, test=8)


@pytest.fixture(scope="module")
def ended(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    out = tmp_path_factory.mktemp("ended") / "run"
    assert run(options(data, out)) is not None
    return out


def messages_of(arguments: list[str], **more: Any) -> str:
    """Messages of a run."""
    text = StringIO()
    run(arguments, progress=Progress(Console(file=text, width=1000), None, lambda: 0.0), **more)
    return text.getvalue()


def killing(number: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it first sends this process a signal."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*arguments, **named)

    return wrapped


@pytest.mark.parametrize(
    ("function", "where"),
    [
        ("model_spec", "stopped before the training began"),
        ("from_pretrained", "stopped in the evaluation after the training, whose model is kept"),
    ],
)
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])
def test_a_stop_outside_the_loop_says_what_is_kept_and_the_run_can_resume(
    data: Path, ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, where: str, number: int,
    kind: type[BaseException],
):  # fmt: skip
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(engine, function, killing(number, getattr(engine, function)))
        with pytest.raises(kind) as stop:
            engine.train(engine_experiment(options(data, out)), Progress.create().mute())
    assert str(stop.value) == f"{where}; resume with the same command and --resume --out {out}"
    assert run([*options(data, out), "--resume"]) is not None
    assert outcome(out) == outcome(ended)


def engine_experiment(arguments: list[str]) -> Any:
    from scmrl.config.experiment import Experiment
    from scmrl.config.overlay import load

    return load(Experiment, arguments)


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_ends_the_loop_at_once(tmp_path: Path):
    with Interruption(tmp_path) as stop, stop.after_steps():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_number_of_threads_is_restored_and_reported(data: Path, ended: Path, tmp_path: Path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        out = tmp_path / "run"
        assert run(options(data, out), stop_after=2) is None
        torch.set_num_threads(2)
        text = messages_of([*options(data, out), "--resume"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert "using 1 threads as before, not 2" in text
    assert json.loads((complete_checkpoints(out)[-1] / "rank-0.json").read_text())["platform"]["threads"] == 1


@pytest.mark.slow
def test_more_epochs_extend_a_run_and_the_learning_rate_follows_the_longer_schedule(data: Path, tmp_path: Path):
    out, warmup = tmp_path / "run", ("--train.warmup_epochs", "1")
    assert run(options(data, out, *warmup)) is not None
    before = outcome(out)[1]
    longer = options(data, out, *warmup, "--train.epochs", "4")
    text = messages_of([*longer, "--resume"], stop_after=2)  # stopped once more
    assert "the run is extended from 2 to 4 epochs: the learning rate now follows the schedule of 4" in text
    assert run([*longer, "--resume"]) is not None
    assert run(options(data, tmp_path / "whole", *warmup, "--train.epochs", "4")) is not None
    extended = outcome(out)[1]
    assert extended[:2] == before
    rates = [record["learning_rate"] for record in extended]
    expected = [record["learning_rate"] for record in outcome(tmp_path / "whole")[1]]
    assert rates[2:] == expected[2:]
    assert rates[1] < expected[1]
    with pytest.raises(ValueError, match=r"train\.epochs was 4 and is now 3"):
        run([*options(data, out, *warmup, "--train.epochs", "3"), "--resume"])


def test_a_run_starts_from_the_weights_of_another(data: Path, ended: Path, tmp_path: Path):
    out = tmp_path / "run"
    # A learning rate of nothing leaves the weights as they were taken over.
    still = ("--train.learning_rate", "1e-30", "--train.final_learning_rate", "0", "--train.warmup_epochs", "0")
    arguments = options(data, out, *still, "--train.weight_decay", "0", "--init_from", str(ended))
    arguments = [x for pair in zip(arguments[::2], arguments[1::2], strict=True) if pair[0] != "--train.learning-rate"
                 for x in pair]  # fmt: skip
    text = messages_of(arguments)
    assert f"weights of {ended}: loaded " in text
    theirs, mine = from_pretrained(ended), from_pretrained(out)
    for name, weight in theirs.named_parameters():
        assert torch.allclose(mine.get_parameter(name), weight, rtol=0, atol=1e-20), name
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        run(options(data, tmp_path / "other", "--init_from", str(tmp_path)))
    assert not (tmp_path / "other").exists()


def test_an_unused_parameter_is_named(data: Path, tmp_path: Path):
    with plugin():
        text = messages_of(
            options(data, tmp_path / "run", "--model.fusion.kind", "dropped_mean", "--train.epochs", "1")
        )
    assert "1 parameters do not affect the loss, so they are not trained: fusion.unused;" in text


def poison(monkeypatch: pytest.MonkeyPatch, *ids: str) -> None:
    """Put one NaN into each of these samples."""
    read = RecordedDataset.__getitem__

    def poisoned(self: RecordedDataset, index: int | tuple[int, int]) -> Sample:
        sample = read(self, index)
        if sample.id.split(".")[0] in ids:
            sample.inputs["audio"] = sample.inputs["audio"].clone()
            sample.inputs["audio"].flatten()[5] = math.nan
        return sample

    monkeypatch.setattr(RecordedDataset, "__getitem__", poisoned)


def test_non_finite_samples_are_named_in_every_split(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = run(options(data, tmp_path / "sound", "--train.epochs", "1"))
    assert first is not None
    of_training = first.splits.train[3].id.split(".")[0]
    of_validation = first.splits.val[2].id.split(".")[0]
    uncalibrated = ("--train.precision", "float16", "--model.init", "uncalibrated")
    with monkeypatch.context() as patch:
        poison(patch, of_training)
        with pytest.raises(FloatingPointError, match=f"replace or leave out: audio of {of_training}.png"):
            run(options(data, tmp_path / "stopped", *uncalibrated))
    poison(monkeypatch, of_validation, "test5")
    text = messages_of(options(data, tmp_path / "run", *uncalibrated))
    assert f"validation: audio of {of_validation}.png+{of_validation}.wav holds inf or NaN" in text
    assert "test: audio of test5.png+test5.wav holds inf or NaN" in text


def test_a_faulty_sample_is_reported_without_a_workers_traceback(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = RecordedDataset.__getitem__

    def unreadable(self: RecordedDataset, index: int | tuple[int, int]) -> Sample:
        if isinstance(index, tuple):
            raise ValueError("train7.wav is damaged; replace it")
        return read(self, index)

    monkeypatch.setattr(RecordedDataset, "__getitem__", unreadable)
    with pytest.raises(ValueError, match=r"^train7\.wav is damaged; replace it$"):
        run(options(data, tmp_path / "run", "--train.workers", "1", "--model.init", "uncalibrated"))


@pytest.mark.parametrize(
    ("error", "processes", "kind", "text"),
    [
        (MemoryError(), ALONE, MemoryError, "out of memory on cpu: lower --train.batch_size (now 8)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ALONE, MemoryError, "out of memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            ALONE,
            MemoryError,
            "--train.accumulate (now 1)",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore"),
            ALONE,
            OSError,
            "a data loader worker died (is killed by signal: Killed)",
        ),
        (
            RuntimeError("[/pytorch/third_party/gloo/x.cc:534] Connection closed by peer [127.0.0.1]:1234"),
            TWO,
            OSError,
            "process 0 of 2 stopped, because another process is gone",
        ),
    ],
    ids=["memory", "GPU memory", "CPU memory", "worker", "process"],
)
def test_machine_failures_are_one_line_with_a_remedy(
    error: Exception, processes: Processes, kind: type[Exception], text: str
):
    message = explain_failure(error, Path("runs/x"), TrainSpec(batch_size=8), processes)
    assert isinstance(message, kind)
    assert text in str(message)
    assert "--resume --out runs/x" in str(message)
    assert len(str(message).splitlines()) == 1


def test_other_errors_are_unchanged():
    assert explain_failure(RuntimeError("a bug"), None, TrainSpec(), TWO) is None
    assert explain_failure(RuntimeError("Connection closed by peer"), None, TrainSpec(), ALONE) is None


def test_resuming_twice_gives_the_same_checkpoints(data: Path, ended: Path, tmp_path: Path):
    out = tmp_path / "run"
    for stop in (1, 1, 2):
        assert run([*options(data, out), "--resume"], stop_after=stop) is None
    assert run([*options(data, out), "--resume"]) is not None
    assert outcome(out) == outcome(ended)
    assert final_state(out) == final_state(ended)
