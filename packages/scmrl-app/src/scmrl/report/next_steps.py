"""What to type after a training, with the folder of the run in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote


def next_steps(folder: Path, modalities: Sequence[str], *, from_files: bool) -> list[str]:
    """One line a command, as a shell takes it, with what it does.

    Args:
        folder: of the run.
        modalities: of its model.
        from_files: whether its samples were read from files, so that it can predict others.
    """
    run = quote(str(folder))
    commands = {
        f"scmrl evaluate {run}": "accuracy with its interval, by class, and without a modality",
        f"scmrl explain {run}": "what its answers rest on",
        f"scmrl report {run} --open": "one page about it",
        f"scmrl demo {run} --open": "try it in the browser",
    }
    if from_files:
        files = " ".join(f"{name}=FILE" for name in map(quote, modalities))
        commands[f"scmrl predict {run} {files}"] = "the class of files of yours"
    width = max(len(command) for command in commands if "FILE" not in command)
    return [f"  {command.ljust(width)}  {meaning}" for command, meaning in commands.items()]
