"""The folder that a run leaves: what was run, on what, and how it went. Every file is whole or not there."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scmrl.experiment import Experiment
from scmrl.preflight import check_out

if TYPE_CHECKING:
    import torch

INPUTS = "inputs.json"
"""How a run reads files."""

PACKAGES = ("scmrl-app", "snn-core", "snn-fusion", "snn-datasets", "torch", "torchvision", "torchaudio", "numpy")


def create_run_folder(experiment: Experiment) -> Path:
    """Make the run's folder, new or empty; with `resume`, find it.

    Raises:
        ValueError: it holds something, something else than a folder has its name, or it is the folder of a run with
            other settings.
    """
    folder = experiment.out
    if experiment.resume:
        if folder is None:
            raise ValueError("--resume needs --out, the folder of the run to go on with")
        if (folder / "experiment.json").is_file():
            _refuse_other_settings(experiment, folder)
            return folder
    if folder is None:
        modalities = "+".join(experiment.data.chosen()) or "all"
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{experiment.data.model_dump()['kind']}-{modalities}"
        folder, attempt = Path("runs") / name, 1
        while folder.exists():
            attempt += 1
            folder = Path("runs") / f"{name}-{attempt}"
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _refuse_other_settings(experiment: Experiment, folder: Path) -> None:
    """A run goes on as it began, or not at all."""
    before = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    now = experiment.model_dump(mode="json")
    faults = [
        f"{name} was {old} and is {new} now"
        for name, old, new in differences(before, now)
        if name not in ("out", "resume", "train.workers", "train.checkpoint_minutes")
        # What the data decide stays as they decided it when the run began.
        and not (new == "auto" and name in ("train.epochs", "train.batch_size", "train.warmup_epochs"))
        and not (name == "train.epochs" and isinstance(old, int) and isinstance(new, int) and new > old)
    ]
    if faults:
        raise ValueError(
            f"the run in {folder} has other settings: {'; '.join(faults)}; give the same ones to go on with it, or "
            "another --out to start anew"
        )


def differences(old: object, new: object, place: str = "") -> Iterator[tuple[str, object, object]]:
    """Where two nested values differ: the place, with dots, and what stands there in each."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, now = cast(dict[str, object], old), cast(dict[str, object], new)
        for name in sorted(before.keys() | now.keys()):
            yield from differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif old != new:
        yield place, old, new


def read_experiment(folder: Path) -> Experiment:
    """The settings of a run, read back from its folder.

    Raises:
        ValueError: the folder holds no run, or one that this version cannot read.
    """
    path = folder / "experiment.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it holds no experiment.json; name one that `scmrl train` made")
    try:
        return Experiment.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read by this version of scmrl: {error}") from error


def inputs_file(folder: Path) -> Path:
    """The file of a run that says how it reads files.

    Raises:
        ValueError: the run has none.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {INPUTS}, which says how files are read: the samples of this run were not read from "
            "files, or an older version trained it; train on files of your own (--data.kind manifest) to predict them"
        )
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside and rename, so that an interruption never leaves half a file."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a record, beside and renamed."""
    write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write beside and rename."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def environment(experiment: Experiment, device: str) -> dict[str, Any]:
    """What a reader needs to tell two runs apart: versions, commit, command, seeds, hardware."""
    import torch

    gpu = torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else None
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": ["scmrl", *sys.argv[1:]],
        "seed": experiment.seed,
        "data_seed": experiment.data.seed,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "gpu": gpu,
    }


def peak_memory(device: torch.device) -> int:
    """Bytes that were in use at most: of the GPU's memory, or of this process on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # there is none on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, `+` if edited; None for an installed package."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if git("ls-files", "--", Path(__file__).name) == "":
            return None
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
