"""Commands to run after a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote


def next_steps(folder: Path, modalities: Sequence[str], *, from_files: bool) -> list[str]:
    """Return one line per command, quoted for a shell, with what it does.

    Args:
        folder: the run folder.
        modalities: the modalities of its model.
        from_files: whether its samples were read from files, so that it can predict other files.
    """
    run = quote(str(folder))
    commands = {
        f"scmrl evaluate {run}": "accuracy with its interval, by class, and without a modality",
        f"scmrl explain {run}": "what its predictions depend on",
        f"scmrl report {run} --open": "one page about the run",
        f"scmrl demo {run} --open": "try it in the browser",
    }
    if from_files:
        files = " ".join(f"{name}=FILE" for name in map(quote, modalities))
        commands[f"scmrl predict {run} {files}"] = "the class of your own files"
    width = max(len(command) for command in commands if "FILE" not in command)
    return [f"  {command.ljust(width)}  {meaning}" for command, meaning in commands.items()]
