"""What a run reports while it lasts: metrics.jsonl, TensorBoard and, if asked for, Weights & Biases."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scmrl.engine.atomic import reason
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
        with self._writing_board():
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
            with suppress(OSError) if error is not None else self._writing_board():  # a full disk is told once
                self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def epoch(self, record: Mapping[str, float]) -> None:
        """Add an epoch, which is in the run's history already."""
        if not self._first:
            return
        write_jsonl(self._folder / "metrics.jsonl", self._position.history)
        epoch = int(self._position.history[-1]["epoch"])
        with self._writing_board():
            for name, value in record.items():
                self._board.add_scalar(name, value, epoch)
            for layer, rate in self._position.rates_last.items():
                self._board.add_scalar(f"firing_rate/{layer}", rate, epoch)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(dict(record), step=epoch)

    @contextmanager
    def _writing_board(self) -> Generator[None, None, None]:
        """Have errors of TensorBoard's writer, which names no file, say where they arose and how to go on."""
        try:
            yield
        except OSError as error:
            board_folder = self._folder / "tensorboard"
            raise OSError(
                f"{board_folder} cannot be written: {reason(error)}; go on with the same command and --resume --out "
                f"{self._folder}"
            ) from error
