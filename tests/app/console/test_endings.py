"""Every failed command ends in one line, never in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from app.finished import scmrl
from scmrl.commands import spec as spec_commands
from scmrl.console.errors import is_out_of_memory


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> tuple[int, str]:
    """Exit code and message of a command that raises an error."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(spec_commands, "read_experiment", broken)
    code = scmrl(monkeypatch, "spec", "show")
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    assert all(line.startswith("scmrl: ") for line in printed.err.splitlines() if line)
    return code, printed.err


@pytest.mark.parametrize(
    "error",
    [
        KeyError("training"),
        RuntimeError("shapes do not fit"),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        AssertionError(),
        ValueError(),
        TypeError("a\nmessage of two lines"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_is_named_and_its_traceback_saved(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, message = ended(monkeypatch, capsys, error)
    assert code == 1
    assert message.startswith(f"scmrl: this is a bug in scmrl: {type(error).__name__}")
    (selected,) = tmp_path.iterdir()
    assert str(selected) in message
    assert "SCMRL_DEBUG=1" in message
    text = selected.read_text(encoding="utf-8")
    assert "command: scmrl spec show" in text
    assert "Traceback (most recent call last)" in text
    assert type(error).__name__ in text


def test_a_bug_is_named_if_no_file_can_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    code, message = ended(monkeypatch, capsys, KeyError("training"))
    assert code == 1
    assert "KeyError: 'training'" in message
    assert "SCMRL_DEBUG=1 in the environment prints the traceback here" in message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3. TiB for an array with shape (1, 2)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_not_a_bug(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, message = ended(monkeypatch, capsys, error)
    assert code == 2
    assert message.startswith("scmrl: out of memory")
    assert "--train.batch_size" in message


def test_real_out_of_memory_errors_are_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, dtype=np.uint8)
    assert is_out_of_memory(of_numpy.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_an_interruption_prints_no_empty_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert ended(monkeypatch, capsys, KeyboardInterrupt()) == (130, "\nscmrl: interrupted\n")
    assert ended(monkeypatch, capsys, KeyboardInterrupt("stopped")) == (130, "\nscmrl: interrupted; stopped\n")


def test_debugging_prints_the_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCMRL_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["scmrl", "spec", "show", "--nonsense", "1"])
    from scmrl import cli

    with pytest.raises(ValueError, match="nonsense"):
        cli.main()


@pytest.mark.parametrize(("command", "code"), [(["spec", "show"], 141), (["train", "--help", "all"], 1)])
def test_a_reader_that_ends_early_ends_the_command_quietly(command: list[str], code: int):
    script = f"import sys; sys.argv = ['scmrl', *{command}]; from scmrl.cli import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (code, b"")  # rich ends what it prints with 1


def test_unencodable_characters_are_escaped():
    script = "import sys; sys.argv = ['scmrl', 'train', '--help', 'seed']; from scmrl.cli import main; main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert "--seed" in done.stdout
    assert done.stdout.isascii()


def test_a_file_is_not_blamed_if_memory_ran_out_while_reading_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    error = ValueError("clip7.wav cannot be read as sound: ; replace or convert the file")
    error.__cause__ = MemoryError()
    code, message = ended(monkeypatch, capsys, error)
    assert code == 2
    assert message.splitlines()[1].startswith("scmrl: memory ran out there, so the file may be intact")
