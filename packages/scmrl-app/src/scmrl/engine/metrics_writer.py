"""Write metrics during a run: metrics.jsonl, TensorBoard and optionally Weights & Biases."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scmrl.config.experiment import TrainSpec
from scmrl.engine.checkpoints.checkpoint import Position
from scmrl.run_folder.atomic import write_error_reason
from scmrl.run_folder.files import write_jsonl


class MetricsWriter:
    """A context manager that writes on rank 0 only."""

    def __init__(self, folder: Path, position: Position, options: TrainSpec, *, is_rank0: bool) -> None:
        self._folder, self._position, self._options, self._is_rank0 = folder, position, options, is_rank0
        self._board: Any = None
        self._wandb: Any = None

    def __enter__(self) -> MetricsWriter:
        if not self._is_rank0:
            return self
        from torch.utils.tensorboard.writer import SummaryWriter

        # Drop the records after the checkpoint from which the run resumes, which will be written again.
        write_jsonl(self._folder / "metrics.jsonl", self._position.history)
        with self._naming_tensorboard():
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._position.epoch)
        if self._options.wandb is not None:
            try:
                import wandb  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise ImportError(
                    'train.wandb needs Weights & Biases; install it with: pip install "scmrl-app[wandb]"'
                ) from error
            self._wandb: Any = wandb.init(  # pyright: ignore[reportUnknownMemberType]
                project=self._options.wandb, dir=str(self._folder), id=self._folder.name, resume="allow"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._board is not None:
            with suppress(OSError) if error is not None else self._naming_tensorboard():  # report a full disk once
                self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def write_epoch(self, record: Mapping[str, float]) -> None:
        """Write an epoch that is already in the run's history."""
        if not self._is_rank0:
            return
        write_jsonl(self._folder / "metrics.jsonl", self._position.history)
        epoch = int(self._position.history[-1]["epoch"])
        with self._naming_tensorboard():
            for name, value in record.items():
                self._board.add_scalar(name, value, epoch)
            for layer, rate in self._position.rates_last.items():
                self._board.add_scalar(f"firing_rate/{layer}", rate, epoch)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(dict(record), step=epoch)

    @contextmanager
    def _naming_tensorboard(self) -> Generator[None, None, None]:
        """Replace errors of TensorBoard's writer, which name no file, by one that names the folder and the remedy."""
        try:
            yield
        except OSError as error:
            board_folder = self._folder / "tensorboard"
            raise OSError(
                f"{board_folder} cannot be written: {write_error_reason(error)}; resume with the same command and "
                f"--resume --out {self._folder}"
            ) from error
