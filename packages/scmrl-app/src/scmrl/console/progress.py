"""Display the progress of a run: bars and a growing table on a terminal, plain lines elsewhere."""

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
"""Without a terminal, a phase prints at most one line in this time."""
MIN_WIDTH = 8
"""Width of the narrowest column."""
MARK_SECONDS, MARKS = 1.0, 60
"""The pace of a phase is measured over this many marks, at least this far apart."""
MIN_MARKS = 4
"""Fewest marks for an estimate of the remaining time: the first units are often the slowest."""
TITLES = {"samples_per_second": ["samples", "per s"], "memory_mb": ["memory", "MB"]}
"""Titles of columns that differ from the words of the metric's name."""
LEGEND = "* marks the best epoch so far, whose model is kept"


class Phase:
    """Work with a known number of units: a bar on a terminal, a line now and then elsewhere."""

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
            # Print the end only if the phase has printed before.
            elapsed = format_duration(self._progress.clock() - self._started)
            self._progress.info(f"{self.name}: {self.done} {self.unit} in {elapsed}")

    def advance(self, n: int = 1) -> None:
        """Mark n more units as done."""
        self.update(self.done + n)

    def update(self, done: int, total: int | None = None) -> None:
        """Set the number of units done, and the total if it has changed."""
        self.done, self.total = done, self.total if total is None else total
        now = self._progress.clock()
        last_time, last_done = self._marks[-1] if self._marks else (-math.inf, 0)
        if done > last_done and now - last_time >= MARK_SECONDS:
            self._marks.append((now, done))
        if self._progress.bars is not None and self._task is not None:
            left = self.seconds_left()
            time_left = "" if left is None else f"about {format_duration(left)} left"
            self._progress.bars.update(self._task, completed=self.done, total=self.total, left=time_left)
        elif now - self._spoke >= QUIET_SECONDS:
            self._spoke = now
            elapsed, left = now - self._started, self.seconds_left()
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            remaining = f", about {format_duration(left)} left" if left is not None and left > 0 else ""
            self._progress.info(
                f"{self.name}: {self.done} of {self.total} {self.unit}{share}, "
                f"{format_duration(elapsed)} so far{remaining}"
            )

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds from the pace of the last minute or so; None while it is unknown.

        Units that are done when the phase begins, as in a resumed run, do not count.
        """
        if len(self._marks) < MIN_MARKS:
            return None
        (start, first), (now, done) = self._marks[0], self._marks[-1]
        return (now - start) / (done - first) * max(0, self.total - self.done) if done > first else None


class Progress:
    """The display of one run, a context manager; create it with `create`.

    Without a terminal it prints no bars, no colors and no control characters.
    """

    def __init__(self, console: Console, display: bars.Progress | None, clock: Callable[[], float]):
        self.console, self.bars, self.clock = console, display, clock
        self._columns: dict[str, int] = {}

    @classmethod
    def create(cls, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> Progress:
        """Create the display for a console, by default standard error."""
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
        """Start a phase, as in `with progress.phase("reading data", 400, "clips") as reading`."""
        return Phase(name, total, unit, self)

    def epoch(self, index: int, total: int, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """Add a row to the table of epochs, counted from 1; the columns are all metrics so far."""
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
        """Return a display that shows nothing, for ranks other than 0."""
        return Progress(Console(quiet=True, stderr=True), None, self.clock)

    def info(self, message: str) -> None:
        """Print a message, above the bars if there are any."""
        self._print(message, "")

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._print(f"warning: {message}", "yellow")

    def _print_header(self, total: int) -> None:
        """Print the column titles, one word per line so that the table stays narrow."""
        titles = [(["epoch"], epoch_width(total)), *((title_of(name), width) for name, width in self._columns.items())]
        height = max(len(words) for words, _ in titles)
        stacked = [([""] * (height - len(words)) + words, width) for words, width in titles]
        for level in range(height):
            self._print("  ".join(words[level].rjust(width) for words, width in stacked), "bold")

    def _print(self, message: str, style: str) -> None:
        # Soft wrap keeps a message on one line: logs are searched by line, and a terminal wraps anyway.
        self.console.print(Text(message, style=style if self.bars is not None else ""), soft_wrap=True)


def title_of(name: str) -> list[str]:
    """The title of a metric's column, one word per line."""
    return TITLES.get(name, name.split("_"))


def epoch_width(total: int) -> int:
    """Width of the first column."""
    return max(len("epoch"), 2 * len(str(total)) + 1)


def format_metric(name: str, value: float) -> str:
    """Format a metric: rates and accuracies in percent, learning rates with an exponent."""
    words = name.split("_")
    if words[-1] == "lr" or words[-2:] == ["learning", "rate"]:
        return f"{value:.2e}"
    if words[-1] in ("accuracy", "rate", "share"):
        return f"{value:.2%}"
    if words[-1] == "loss" and abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def format_duration(seconds: float) -> str:
    """Format a duration: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
