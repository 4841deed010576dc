"""Finished runs, for commands that need one."""

import sys
from pathlib import Path

import pytest

from app.tiny import tiny_options, write_tiny_dataset
from scmrl import cli


def scmrl(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run a command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["scmrl", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code is None or isinstance(end.value.code, int)
    return end.value.code or 0


def finished_run(data: Path, out: Path, *options: str) -> Path:
    """Train for one epoch on the tiny dataset."""
    tiny = tiny_options(data, out)
    tiny[tiny.index("--train.epochs") + 1] = "1"
    with pytest.MonkeyPatch.context() as patch:
        assert scmrl(patch, "train", *tiny, *options) == 0
    return out


def data_and_run(folder: Path, *, test: int) -> Path:
    """Fill the folder: `data` with the tiny dataset with this many test samples, `run` with a run trained on it."""
    (folder / "data").mkdir()
    finished_run(write_tiny_dataset(folder / "data", train=24, test=test), folder / "run")
    return folder
