"""The folder that a run leaves: what was run, on what, and how it went. Every file is complete or not there.

What a run folder says is not trusted: `experiment.json` and `inputs.json` carry checksums, and a command that opens a
run takes no place to write to from them.
"""

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

from pydantic import ValidationError

from scmrl.data_access import DataAccess
from scmrl.engine.atomic import write_text
from scmrl.engine.checksummed import read_checksummed
from scmrl.experiment import Experiment
from scmrl.preflight import check_out

if TYPE_CHECKING:
    import torch

__all__ = [
    "create_run_folder", "differences", "environment", "peak_memory", "read_experiment", "require_readers",
    "with_absolute_paths", "write_json", "write_jsonl", "write_text",
]  # fmt: skip

EXPERIMENT, INPUTS = "experiment.json", "inputs.json"
FREE = (
    "out", "resume", "train.workers", "train.checkpoint_minutes",
    "data.cache", "data.cache_folder", "data.cache_limit_gb", "data.prepare_workers",
)  # fmt: skip
"""Settings that a resumed run may change, since they change no result."""

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
        modalities = "+".join(experiment.data.selected_modalities()) or "all"
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
    before = with_absolute_paths(read_experiment(folder, keep_cache_folder=True)).model_dump(mode="json")
    now = with_absolute_paths(experiment).model_dump(mode="json")
    faults = [
        f"{name} was {old} and is {new} now"
        for name, old, new in differences(before, now)
        if name not in FREE
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


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """The experiment with absolute paths of data and caches, so that it means the same in every working folder."""
    data = experiment.data
    paths = {
        name: Path(os.path.abspath(value.expanduser()))
        for name in ("root", "cache_folder")
        if isinstance(value := getattr(data, name, None), Path)
    }
    # What lies in the root stays relative to it, so that it is found where the root is moved to.
    inside = {
        name: Path(os.path.abspath(value)).relative_to(root)
        for name in type(data).model_fields
        if (root := paths.get("root")) is not None
        and name not in paths
        and isinstance(value := getattr(data, name), Path)
        and value.is_absolute()
        and Path(os.path.abspath(value)).is_relative_to(root)
    }
    init_from = experiment.init_from and Path(os.path.abspath(experiment.init_from.expanduser()))
    return experiment.model_copy(
        update={"data": data.model_copy(update={**paths, **inside}), "init_from": init_from},
    )


def read_experiment(folder: Path, access: DataAccess | None = None, *, keep_cache_folder: bool = False) -> Experiment:
    """The settings of a run, read back from its folder.

    Args:
        folder: of the run.
        access: where its data are now.
        keep_cache_folder: whether the cache folder is that of the training, not that of `access`; never to write to.

    Raises:
        ValueError: the folder holds no run, a damaged one, or one that this version cannot read.
    """
    path, access = folder / EXPERIMENT, access or DataAccess()
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it holds no experiment.json; name one that `scmrl train` made")
    content = read_checksummed(path)
    try:
        experiment = Experiment.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = " ".join(f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ").split())
        raise ValueError(f"{path} cannot be read by this version of scmrl: {reason}") from error
    changed: dict[str, Path | None] = {}
    if access.root is not None:
        if not hasattr(experiment.data, "root"):
            kind = experiment.data.card().kind
            raise ValueError(f"--data.root {access.root}: the data of {folder} ({kind}) are not read from a folder")
        changed["root"] = Path(os.path.abspath(access.root.expanduser()))
    if hasattr(experiment.data, "cache_folder") and not keep_cache_folder:
        changed["cache_folder"] = access.cache_folder
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=changed)})


def require_readers(folder: Path) -> None:
    """Refuse a run that cannot read new files, before anything slow is loaded.

    Raises:
        ValueError: it has no inputs.json, a damaged one, or one without readers.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise ValueError(f"{folder} holds no {INPUTS}, which says how files are read; train again into another folder")
    if not read_checksummed(path).get("from_files"):
        raise ValueError(
            f"{folder} cannot read files: the samples that it was trained on are made by a program, not read from "
            "files; train on files of your own (--data.kind manifest) to predict them"
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a record, complete or not at all."""
    write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))


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
