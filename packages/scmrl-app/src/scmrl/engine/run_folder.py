"""The folder that a run leaves: what was run, on what, and how it went. Every file is whole or not there."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scmrl.experiment import Experiment

PACKAGES = ("scmrl-app", "snn-core", "snn-fusion", "snn-datasets", "torch", "torchvision", "torchaudio", "numpy")


def create_run_folder(experiment: Experiment) -> Path:
    """Make the run's folder, new or empty.

    Raises:
        ValueError: it holds something, or something else than a folder has its name.
    """
    folder = experiment.out
    if folder is None:
        modalities = "+".join(experiment.data.modalities) or "all"
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{experiment.data.kind}-{modalities}"
        folder, attempt = Path("runs") / name, 1
        while folder.exists():
            attempt += 1
            folder = Path("runs") / f"{name}-{attempt}"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a folder that is new or empty")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"--out {folder} is not empty, and a run overwrites nothing; name a folder that is new or empty"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside and rename, so that an interruption never leaves half a file."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


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
