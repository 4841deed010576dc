"""The run folder: settings, environment and results of a run. Every file is complete or missing.

The content of a run folder is not trusted: `experiment.json` and `inputs.json` have checksums, and a command that opens
a run never writes to a path that they name.
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

from scmrl.config.data_access import DataAccess
from scmrl.config.experiment import AUTO_FIELDS, Experiment
from scmrl.config.preflight import check_out
from scmrl.run_folder.atomic import write_text
from scmrl.run_folder.checksummed import read_checksummed
from snn_fusion.specs.explain import error_lines

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
"""Settings that a resumed run may change because they do not affect the result."""

PACKAGES = ("scmrl-app", "snn-core", "snn-fusion", "snn-datasets", "torch", "torchvision", "torchaudio", "numpy")


def create_run_folder(experiment: Experiment) -> Path:
    """Create the run's folder, new or empty; with `resume`, check the existing one.

    Raises:
        ValueError: it is not empty, is not a folder, or holds a run with different settings.
    """
    folder = experiment.out
    if experiment.resume:
        if folder is None:
            raise ValueError("--resume needs --out, the folder of the run to resume")
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
    """Refuse to resume a run with settings that would change its result."""
    before = with_absolute_paths(read_experiment(folder, keep_cache_folder=True)).model_dump(mode="json")
    after = with_absolute_paths(experiment).model_dump(mode="json")
    faults = [
        f"{name} was {old} and is now {new}"
        for name, old, new in differences(before, after)
        if name not in FREE
        # A resumed run keeps the values that replaced `auto` when it started.
        and not (new == "auto" and name.removeprefix("train.") in AUTO_FIELDS)
        and not (name == "train.epochs" and isinstance(old, int) and isinstance(new, int) and new > old)
    ]
    if faults:
        raise ValueError(
            f"the run in {folder} has different settings: {'; '.join(faults)}; give the same ones to resume it, or "
            "another --out to start a new run"
        )


def differences(old: object, new: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Differences of two nested values: dotted field path, old value, new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(dict[str, object], old), cast(dict[str, object], new)
        for name in sorted(before.keys() | after.keys()):
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        yield path, old, new


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """Make the paths of data and caches absolute, so that they do not depend on the working folder."""
    data = experiment.data
    paths = {
        name: Path(os.path.abspath(value.expanduser()))
        for name in ("root", "cache_folder")
        if isinstance(value := getattr(data, name, None), Path)
    }
    # Paths inside the root stay relative to it, so that the root can be moved.
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
    """Read the settings of a run from its folder.

    Args:
        folder: of the run.
        access: where its data are now.
        keep_cache_folder: keep the cache folder of the training instead of that of `access`; never write to it.

    Raises:
        ValueError: the folder holds no run, a damaged one, or one that this version cannot read.
    """
    path, access = folder / EXPERIMENT, access or DataAccess()
    if not path.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no experiment.json; name a folder of `scmrl train`")
    content = read_checksummed(path)
    try:
        experiment = Experiment.model_validate_json(json.dumps(content))
    except ValidationError as error:
        reason = error_lines(error.errors())[0]
        raise ValueError(f"{path} cannot be read by this version of scmrl: {reason}") from error
    changed: dict[str, Path | None] = {}
    if access.root is not None:
        if not hasattr(experiment.data, "root"):
            kind = experiment.data.card.kind
            raise ValueError(f"--data.root {access.root}: the data of {folder} ({kind}) are not read from a folder")
        changed["root"] = Path(os.path.abspath(access.root.expanduser()))
    if hasattr(experiment.data, "cache_folder") and not keep_cache_folder:
        changed["cache_folder"] = access.cache_folder
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=changed)})


def require_readers(folder: Path) -> None:
    """Refuse a run that cannot read new files, before PyTorch is loaded.

    Raises:
        ValueError: inputs.json is missing, damaged, or has no readers.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {INPUTS}, which says how files are read; train again into another folder")
    if not read_checksummed(path).get("from_files"):
        raise ValueError(
            f"{folder} cannot read files: it was trained on generated samples, not on files; train on your own files "
            "(--data.kind manifest) to predict them"
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON line per record, complete or not at all."""
    write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))


def environment(experiment: Experiment, device: str) -> dict[str, Any]:
    """What distinguishes one run from another: versions, commit, command, seeds, hardware."""
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
    """Peak memory in bytes: of the GPU, or of this process on the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not available on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _commit() -> str | None:
    """Commit of the checkout that this code runs from, with `+` if it has changes; None for an installed package."""

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
