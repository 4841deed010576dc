"""What can be checked in no time, before PyTorch is loaded and data are prepared, which may take minutes."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from scmrl.experiment import Experiment


def check_before_training(experiment: Experiment) -> None:
    """Whether a training can begin, as far as nothing has to be loaded or read for it.

    Raises:
        ValueError: `out` is no folder for a new run, or there is no GPU driver for the device.
        ImportError: an extra is not installed.
    """
    if experiment.out is not None and not experiment.resume:
        check_out(experiment.out)
    check_extras(experiment)
    check_device(experiment.train.device)


def check_out(folder: Path) -> None:
    """Whether a run may be put into a folder.

    Raises:
        ValueError: it is a file, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a folder that is new or empty")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"--out {folder} is not empty, and a run overwrites nothing; name a folder that is new or empty"
            + (", or go on with its run: --resume" if (folder / "checkpoints").is_dir() else "")
        )


def check_extras(experiment: Experiment) -> None:
    """Whether what the experiment reports to is installed.

    Raises:
        ImportError: it is not.
    """
    if experiment.train.wandb is not None and find_spec("wandb") is None:
        raise ImportError('train.wandb needs Weights & Biases; install it with: pip install "scmrl-app[wandb]"')


def check_device(name: str) -> None:
    """Whether there can be a GPU of that name; PyTorch itself is asked when it is loaded.

    Raises:
        ValueError: a CUDA device on a machine without a driver for one.
    """
    is_linux = os.path.isdir("/proc/driver")
    has_driver = any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg"))
    if name.partition(":")[0] == "cuda" and is_linux and not has_driver:
        raise ValueError(
            f"--train.device {name} cannot be used here (this machine has no driver of a GPU); auto always can"
        )
