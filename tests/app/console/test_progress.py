"""The display of a run: bars on a terminal, plain lines elsewhere."""

import math
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from present import present
from scmrl.console.progress import Progress, format_duration, format_metric
from scmrl.study.run import time_left


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(**options: Any) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, force_terminal=False, width=40, **options), file


def terminal() -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, force_terminal=True, width=100, _environ={"TERM": "xterm-256color"}), file


METRICS = {
    "train_loss": 0.69314,
    "val_accuracy": 0.5,
    "alignment_loss": 0.25,
    "learning_rate": 1e-3,
    "samples/s": 1234.5,
    "branch_rate": 0.0123,
}


def test_row_is_one_line_under_one_header():
    console, file = plain()
    with Progress.create(console) as progress:
        progress.epoch(1, 12, METRICS)
        progress.epoch(2, 12, METRICS | {"val_accuracy": 0.75}, best=True)
    assert file.getvalue().splitlines() == [
        "* marks the best epoch so far, whose model is kept",
        "          train       val  alignment  learning               branch",
        "epoch      loss  accuracy       loss      rate  samples/s      rate",
        " 1/12    0.6931    50.00%     0.2500  1.00e-03       1234     1.23%",
        " 2/12    0.6931    75.00%     0.2500  1.00e-03       1234     1.23%  *",
    ]


def test_metric_left_out_keeps_its_column_and_a_new_one_repeats_the_header():
    console, file = plain()
    with Progress.create(console) as progress:
        progress.epoch(1, 2, {"loss": 1.0, "val_loss": 2.0})
        progress.epoch(2, 2, {"loss": 1.0})
        progress.epoch(2, 2, {"loss": 1.0, "lr": 0.1})
    lines = file.getvalue().splitlines()[1:]
    assert lines[3].split() == ["2/2", "1.0000", "-"]
    assert lines[5].split() == ["epoch", "loss", "loss", "lr"]
    assert lines[6].split() == ["2/2", "1.0000", "-", "1.00e-01"]


def test_the_table_of_a_training_has_a_two_line_header_and_readable_numbers():
    console, file = plain()
    record = {
        "train_loss": 2.1,
        "alignment_loss": 0.5,
        "train_accuracy": 0.5,
        "val_loss": 2.0,
        "val_accuracy": 0.928,
        "learning_rate": 1e-2,
        "samples_per_second": 92.8346,
        "memory_mb": 812.4,
    }
    with Progress.create(console) as progress:
        progress.epoch(1, 20, record, best=True)
    legend, *header, row = file.getvalue().splitlines()
    assert legend.startswith("* marks the best epoch")
    assert len(header) == 2
    assert row.split() == ["1/20", "2.1000", "0.5000", "50.00%", "2.0000", "92.80%", "1.00e-02", "92.8", "812", "*"]


def test_quick_phase_prints_nothing_without_a_terminal():
    console, file = plain()
    with Progress.create(console) as progress, progress.phase("reading data", 1000, "clips") as phase:
        for _ in range(1000):
            phase.advance()
    assert file.getvalue() == ""


def test_long_phase_prints_every_ten_seconds_without_a_terminal():
    clock = Clock()
    console, file = plain()
    with Progress.create(console, clock=clock) as progress, progress.phase("reading data", 100, "clips") as phase:
        for _ in range(100):
            clock.now += 0.25
            phase.advance()
    assert file.getvalue().splitlines() == [
        "reading data: 40 of 100 clips (40%), 10 s so far, about 15 s left",
        "reading data: 80 of 100 clips (80%), 20 s so far, about 5 s left",
        "reading data: 100 clips in 25 s",
    ]


def test_phase_without_units_divides_by_nothing():
    clock = Clock()
    console, file = plain()
    with Progress.create(console, clock=clock) as progress, progress.phase("waiting", 0, "files") as phase:
        clock.now += 11
        phase.update(0)
        clock.now += 11
        phase.update(3, 4)
    assert file.getvalue().splitlines() == [
        "waiting: 0 of 0 files, 11 s so far",
        "waiting: 3 of 4 files (75%), 22 s so far",
        "waiting: 3 files in 22 s",
    ]


def test_broken_phase_does_not_claim_its_end():
    clock = Clock()
    console, file = plain()

    def read():
        with Progress.create(console, clock=clock) as progress, progress.phase("reading", 9, "clips") as phase:
            clock.now += 11
            phase.advance()
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        read()
    assert file.getvalue().splitlines() == ["reading: 1 of 9 clips (11%), 11 s so far"]


def test_a_slow_start_does_not_inflate_the_remaining_time():
    clock = Clock()
    console, file = plain()
    with Progress.create(console, clock=clock) as progress, progress.phase("epoch 1/20", 100, "steps") as phase:
        clock.now += 15  # the first step compiles and warms up
        phase.advance()
        for _ in range(40):
            clock.now += 0.3
            phase.advance()
    assert file.getvalue().splitlines() == [
        "epoch 1/20: 1 of 100 steps (1%), 15 s so far",
        "epoch 1/20: 35 of 100 steps (35%), 25 s so far, about 19 s left",
        "epoch 1/20: 41 steps in 27 s",
    ]


def test_earlier_work_does_not_count_as_pace():
    clock = Clock()
    console, file = plain()
    with Progress.create(console, clock=clock) as progress, progress.phase("epoch 1/20", 100, "steps") as phase:
        phase.update(50)
        for _ in range(10):
            clock.now += 1
            phase.advance()
    assert file.getvalue().splitlines()[0].endswith("60 of 100 steps (60%), 10 s so far, about 40 s left")


def test_the_pace_is_that_of_the_last_minute():
    clock = Clock()
    with Progress.create(plain()[0], clock=clock) as progress, progress.phase("reading", 1000, "clips") as phase:
        for seconds in (*[10.0] * 50, *[1.0] * 100):
            clock.now += seconds
            phase.advance()
        assert phase.seconds_left() == pytest.approx(850, rel=0.02)


def test_no_control_characters_without_a_terminal():
    console, file = plain(color_system="truecolor")
    with Progress.create(console) as progress, progress.phase("steps", 2, "batches") as phase:
        phase.advance()
        progress.info("[bold]not markup[/bold] " + "long " * 20)
        progress.warn("the branch is silent")
        progress.epoch(1, 1, METRICS, best=True)
    assert all(character.isprintable() or character == "\n" for character in file.getvalue())
    assert "[bold]not markup[/bold]" in file.getvalue()
    assert "warning: the branch is silent\n" in file.getvalue()
    assert len(file.getvalue().splitlines()) == 6


def test_dumb_terminal_gets_plain_lines():
    file = StringIO()
    console = Console(file=file, force_terminal=True, _environ={"TERM": "dumb"})
    with Progress.create(console) as progress, progress.phase("steps", 2, "batches") as phase:
        phase.advance()
    assert file.getvalue() == ""


def test_terminal_shows_a_bar_and_removes_it():
    console, file = terminal()
    with Progress.create(console) as progress:
        with progress.phase("epoch [3]", 8, "steps") as phase:
            phase.advance(3)
            phase.update(5, 10)
            present(progress.bars).refresh()
            assert "epoch [3]" in file.getvalue()
            assert "5/10" in file.getvalue()
            assert "steps" in file.getvalue()
        assert not present(progress.bars).tasks
        progress.epoch(1, 1, METRICS, best=True)
    assert "\x1b[" in file.getvalue()
    assert "*" in file.getvalue()


def test_terminal_is_restored_after_an_error():
    console, file = terminal()

    def run():
        with Progress.create(console) as progress, progress.phase("steps", 8, "batches"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    visible, hidden = file.getvalue().rfind("\x1b[?25h"), file.getvalue().rfind("\x1b[?25l")
    assert visible > hidden >= 0


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("loss", math.nan, "nan"),
        ("loss", 12345.6, "12346"),
        ("lr", 0.0, "0.00e+00"),
        ("train_accuracy", 1.0, "100.00%"),
        ("firing_rate", 0.0004, "0.04%"),
    ],
)
def test_metrics_are_formatted(name: str, value: float, text: str):
    assert format_metric(name, value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.7, "1 min 00 s"), (7530, "2 h 05 min")])
def test_durations_are_formatted(seconds: float, text: str):
    assert format_duration(seconds) == text


def test_the_remaining_time_of_a_study_counts_parallel_trainings():
    results = {f"p{number}": {"seconds": 44.0} for number in range(4)}
    keys = [f"p{number}" for number in range(20)]
    assert time_left(results, keys, waiting=16, jobs=4) == pytest.approx(44 * 3.5)
    assert time_left(results, keys, waiting=16, jobs=1) == pytest.approx(44 * 15.5)
    assert time_left(results, keys, waiting=1, jobs=4) == pytest.approx(44)
    assert time_left(results, keys, waiting=0, jobs=4) is None
    assert time_left({}, keys, waiting=20, jobs=4) is None
