"""Show a run while it lasts: bars and a growing table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

from rich import progress as bars
from rich.console import Console
from rich.text import Text

QUIET_SECONDS = 10.0
"""Without a terminal, a phase speaks at most once in this time."""
MIN_WIDTH = 8
"""Characters of the narrowest column."""
MARK_SECONDS, MARKS = 1.0, 60
"""The pace of a phase is measured over that many marks, at least that far apart."""
FEWEST_MARKS = 4
"""Marks without which nothing is said of the time left: the first units are often the slowest by far."""
TITLES = {"samples_per_second": ["samples", "per s"], "memory_mb": ["memory", "MB"]}
"""Titles of columns that are not the words of the metric's name."""
LEGEND = "* marks the best epoch so far, whose model is kept"


class Phase:
    """A stretch of work with a known number of units: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, total: int, unit: str, progress: Progress):
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self._progress = progress
        self._started = self._spoke = progress.clock()
        self._task: bars.TaskID | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS)

    def __enter__(self) -> Phase:
        self._started = self._spoke = self._progress.clock()
        self._marks.clear()
        if self._progress.bars is not None:
            self._task = self._progress.bars.add_task(self.name, total=self.total, unit=self.unit, left="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress.bars is not None and self._task is not None:
            self._progress.bars.remove_task(self._task)
            self._progress.bars.refresh()
        elif self._spoke > self._started and error is None:
            # The end is worth a line only where the way there was.
            took = format_duration(self._progress.clock() - self._started)
            self._progress.info(f"{self.name}: {self.done} {self.unit} in {took}")

    def advance(self, n: int = 1) -> None:
        """Count n more units as done."""
        self.update(self.done + n)

    def update(self, done: int, total: int | None = None) -> None:
        """Set the units done, and their total if that has changed."""
        self.done, self.total = done, self.total if total is None else total
        now = self._progress.clock()
        at, before = self._marks[-1] if self._marks else (-math.inf, 0)
        if done > before and now - at >= MARK_SECONDS:
            self._marks.append((now, done))
        if self._progress.bars is not None and self._task is not None:
            left = self.left()
            time_left = "" if left is None else f"about {format_duration(left)} left"
            self._progress.bars.update(self._task, completed=self.done, total=self.total, left=time_left)
        elif now - self._spoke >= QUIET_SECONDS:
            self._spoke = now
            elapsed, left = now - self._started, self.left()
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            remaining = f", about {format_duration(left)} left" if left is not None and left > 0 else ""
            self._progress.info(
                f"{self.name}: {self.done} of {self.total} {self.unit}{share}, "
                f"{format_duration(elapsed)} so far{remaining}"
            )

    def left(self) -> float | None:
        """Seconds until the end at the pace of the last minute or so; None while that pace is not known.

        Units done at once when the phase begins, as by a run that is gone on with, do not count as pace.
        """
        if len(self._marks) < FEWEST_MARKS:
            return None
        (began, before), (now, done) = self._marks[0], self._marks[-1]
        return (now - began) / (done - before) * max(0, self.total - self.done) if done > before else None


class Progress:
    """The display of one run, a context manager; make it with `create`.

    Nothing here needs a terminal: without one there are no bars, no colors and no control characters.
    """

    def __init__(self, console: Console, display: bars.Progress | None, clock: Callable[[], float]):
        self.console, self.bars, self.clock = console, display, clock
        self._columns: dict[str, int] = {}

    @classmethod
    def create(cls, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> Progress:
        """The display that suits a console (standard error if none is given)."""
        console = console or Console(stderr=True)
        if not console.is_terminal or console.is_dumb_terminal:
            return cls(console, None, clock)
        display = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=None),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[unit]}", markup=False),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[left]}", markup=False),
            console=console,
            expand=True,
            transient=True,
        )
        return cls(console, display, clock)

    def __enter__(self) -> Progress:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bars is not None:
            self.bars.stop()

    def phase(self, name: str, total: int, unit: str) -> Phase:
        """Open a stretch of work, as in `with progress.phase("reading data", 400, "clips") as reading`."""
        return Phase(name, total, unit, self)

    def epoch(self, index: int, total: int, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """Add a row to the table of epochs, counted from 1; the columns are the metrics that were seen so far."""
        if not metrics.keys() <= self._columns.keys():
            if not self._columns:
                self._print(LEGEND, "")
            self._columns |= {name: max(MIN_WIDTH, *map(len, title_of(name))) for name in metrics}
            self._print_header(total)
        cells = [
            (format_metric(name, metrics[name]) if name in metrics else "-").rjust(width)
            for name, width in self._columns.items()
        ]
        epoch = f"{index}/{total}".rjust(epoch_width(total))
        self._print("  ".join([epoch, *cells, "*" if best else ""]).rstrip(), "bold green" if best else "")

    def mute(self) -> Progress:
        """A display that shows nothing, for a process whose work another one shows."""
        return Progress(Console(quiet=True, stderr=True), None, self.clock)

    def info(self, message: str) -> None:
        """Print one message, above the bars if there are any."""
        self._print(message, "")

    def warn(self, message: str) -> None:
        """Print a message that asks for attention."""
        self._print(f"warning: {message}", "yellow")

    def _print_header(self, total: int) -> None:
        """Print the names of the columns, one word below the other so that the table stays narrow."""
        titles = [(["epoch"], epoch_width(total)), *((title_of(name), width) for name, width in self._columns.items())]
        height = max(len(words) for words, _ in titles)
        stacked = [([""] * (height - len(words)) + words, width) for words, width in titles]
        for level in range(height):
            self._print("  ".join(words[level].rjust(width) for words, width in stacked), "bold")

    def _print(self, message: str, style: str) -> None:
        # Soft wrap leaves a line whole: a log is searched by line, and a terminal wraps by itself.
        self.console.print(Text(message, style=style if self.bars is not None else ""), soft_wrap=True)


def title_of(name: str) -> list[str]:
    """The title of a metric's column, one word to a line."""
    return TITLES.get(name, words_of(name))


def words_of(name: str) -> list[str]:
    """The words of a metric's name."""
    return name.split("_")


def epoch_width(total: int) -> int:
    """Characters of the first column."""
    return max(len("epoch"), 2 * len(str(total)) + 1)


def format_metric(name: str, value: float) -> str:
    """A metric as a reader wants it: shares in per cent, learning rates in powers of ten."""
    words = words_of(name)
    if words[-1] == "lr" or words[-2:] == ["learning", "rate"]:
        return f"{value:.2e}"
    if words[-1] in ("accuracy", "rate", "share"):
        return f"{value:.2%}"
    if words[-1] == "loss" and abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def format_duration(seconds: float) -> str:
    """A time span as a reader wants it: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
