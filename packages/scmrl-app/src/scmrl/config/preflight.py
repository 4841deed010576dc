"""Quick checks before PyTorch is loaded and data are prepared, which may take minutes."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from scmrl.config.experiment import Experiment


def check_before_training(experiment: Experiment) -> None:
    """Check what can be checked without loading or reading anything.

    Raises:
        ValueError: `out` cannot hold a new run, or there is no GPU driver for the device.
        ImportError: an extra is not installed.
    """
    if experiment.out is not None and not experiment.resume:
        check_out(experiment.out)
    check_extras(experiment)
    check_device(experiment.train.device)


def check_out(folder: Path) -> None:
    """Check that a folder can hold a new run.

    Raises:
        ValueError: it is a file, or not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a new or empty folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"--out {folder} is not empty, and a run overwrites nothing; name a new or empty folder"
            + (", or resume its run with --resume" if (folder / "checkpoints").is_dir() else "")
        )


def require_parent(option: str, path: Path) -> None:
    """Check that the folder of a file to write exists.

    Raises:
        ValueError: it does not; the message names the option.
    """
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.absolute().parent}")


def check_extras(experiment: Experiment) -> None:
    """Check that the extras that the experiment needs are installed.

    Raises:
        ImportError: one is not.
    """
    if experiment.train.wandb is not None and find_spec("wandb") is None:
        raise ImportError('train.wandb needs Weights & Biases; install it with: pip install "scmrl-app[wandb]"')


def check_device(name: str) -> None:
    """Check that a GPU driver exists if a CUDA device is named; PyTorch checks the device later.

    Raises:
        ValueError: a CUDA device on a machine without a GPU driver.
    """
    is_linux = os.path.isdir("/proc/driver")
    has_driver = any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg"))
    if name.partition(":")[0] == "cuda" and is_linux and not has_driver:
        raise ValueError(f"--train.device {name} cannot be used here (this machine has no GPU driver); auto always can")
