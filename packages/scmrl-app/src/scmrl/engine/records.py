"""What a run reports while it lasts: metrics.jsonl, TensorBoard and, if asked for, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scmrl.engine.checkpoint import Position
from scmrl.engine.run_folder import write_jsonl
from scmrl.experiment import TrainSpec


class Records:
    """A context manager; only the first process of a run writes."""

    def __init__(self, folder: Path, position: Position, options: TrainSpec, *, first: bool) -> None:
        self._folder, self._position, self._options, self._first = folder, position, options, first
        self._board: Any = None
        self._wandb: Any = None

    def __enter__(self) -> Records:
        if not self._first:
            return self
        from torch.utils.tensorboard.writer import SummaryWriter

        # What was written after the checkpoint that the run goes on from is not to be seen twice.
        write_jsonl(self._folder / "metrics.jsonl", self._position.history)
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
            with suppress(OSError) if error is not None else nullcontext():  # a full disk is told once
                self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def epoch(self, record: Mapping[str, float]) -> None:
        """Add an epoch, which is in the run's history already."""
        if not self._first:
            return
        write_jsonl(self._folder / "metrics.jsonl", self._position.history)
        epoch = int(self._position.history[-1]["epoch"])
        try:
            for name, value in record.items():
                self._board.add_scalar(name, value, epoch)
            for layer, rate in self._position.rates_last.items():
                self._board.add_scalar(f"firing_rate/{layer}", rate, epoch)
            self._board.flush()
        except OSError as error:
            place = self._folder / "tensorboard"
            raise OSError(
                f"{place} cannot be written: {error.strerror or error}; make room there, then go on with the same "
                f"command and --resume --out {self._folder}"
            ) from error
        if self._wandb is not None:
            self._wandb.log(dict(record), step=epoch)
