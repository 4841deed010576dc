from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from snn_datasets.base.recordings import Events
from snn_datasets.digits.pen_path import STROKES, PenPaths, pen_paths
from snn_datasets.digits.touch import write_on_pad

Handwriting = tuple[Tensor, list[int]]


@pytest.fixture(scope="module")
def handwriting() -> Handwriting:
    """Every fourth image of the set: ink [450, 8, 8] in 0..1, and labels."""
    from sklearn.datasets import load_digits

    bunch = cast(Any, load_digits())
    return torch.as_tensor(bunch.images[::4]).float() / 16, bunch.target[::4].tolist()


@pytest.fixture(scope="module")
def paths(handwriting: Handwriting) -> PenPaths:
    return pen_paths(*handwriting)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def straight(start: tuple[float, float], end: tuple[float, float], count: int = 40) -> PenPaths:
    """Recordings of one straight stroke."""
    part = torch.linspace(0, 1, 48)[:, None]
    line = (1 - part) * torch.tensor(start) + part * torch.tensor(end)
    return PenPaths(line.expand(count, -1, -1), torch.ones(count, 48, dtype=torch.bool))


def write(paths: PenPaths, *, missed: float = 0.0, stray: float = 0.0, seed: int = 0) -> list[Events]:
    return write_on_pad(paths, missed=missed, stray=stray, generator=seeded(seed))


def off_paper(count: int) -> PenPaths:
    return PenPaths(torch.full((count, 48, 2), 0.5), torch.zeros(count, 48, dtype=torch.bool))


def events_of(recordings: Sequence[Events], polarity: int) -> set[tuple[int, int, int, int]]:
    return {
        (number, t, x, y)
        for number, events in enumerate(recordings)
        for t, x, y, p in zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)
        if p == polarity
    }


# The path of the pen


def test_a_path_is_on_the_ink_and_the_ink_on_the_path(handwriting: Handwriting, paths: PenPaths):
    images, labels = handwriting
    axis = (torch.arange(8) + 0.5) / 8
    for digit in range(10):
        of_digit = torch.tensor(labels) == digit
        covered = total = 0.0
        for image, positions, down in zip(
            images[of_digit], paths.positions[of_digit], paths.down[of_digit], strict=True
        ):
            for row in range(8):
                for column in range(8):
                    away = (positions[down] - torch.stack([axis[column], axis[row]])).norm(dim=1).min() * 8
                    covered += float(image[row, column]) * bool(away < 1)
                    total += float(image[row, column])
        assert covered / total > 0.85, digit
    drawn = (8 * paths.positions[paths.down]).floor().long().clamp(0, 7)
    which = paths.down.nonzero()[:, 0]
    ink = images[which, drawn[:, 1], drawn[:, 0]]
    assert ink.mean() > 0.6


def test_most_of_the_way_is_on_the_paper_and_a_second_stroke_needs_lifting(handwriting: Handwriting, paths: PenPaths):
    labels = torch.tensor(handwriting[1])
    for digit, strokes in enumerate(STROKES):
        down = paths.down[labels == digit].float().mean()
        assert down > 0.65
        assert (down < 0.92) == (len(strokes) > 1)


def test_digits_are_written_in_the_order_that_one_is_taught(handwriting: Handwriting, paths: PenPaths):
    labels = torch.tensor(handwriting[1])
    x, y = paths.positions.unbind(2)

    def share(digit: int, condition: Tensor) -> float:
        return float(condition[labels == digit].float().mean())

    for digit in (0, 2, 3, 6, 7, 8, 9):  # from the top
        assert share(digit, y[:, 0] < y.mean(1)) > 0.95
    assert share(1, y[:, -1] > y[:, 10]) > 0.95  # downwards
    assert share(0, x[:, 12] < x[:, 36]) > 0.95  # the left side first
    assert share(2, x[:, -1] > x.mean(1)) > 0.95  # ends at the right
    assert share(3, x[:, -1] < x.mean(1)) > 0.95  # and three at the left
    assert share(5, (y[:, -1] < y.mean(1)) & (x[:, -1] > x.mean(1))) > 0.95  # the roof of the five comes last


def test_a_path_follows_its_own_image():
    image = torch.zeros(2, 8, 8)
    image[0, :, 2] = image[1, :, 6] = 1
    x = pen_paths(image, [1, 1]).positions[..., 0].mean(1)
    np.testing.assert_allclose(x, np.array([2.5, 6.5]) / 8, atol=0.06)


# The pad


def test_each_press_is_let_go_and_nothing_is_pressed_twice(paths: PenPaths):
    for events in write(paths, missed=0.3, stray=0.0):
        index = events.y.astype(int) * 10 + events.x
        for taxel in np.unique(index):
            presses, releases = ((events.p == p) & (index == taxel) for p in (1, 0))
            assert presses.sum() == releases.sum()
            assert (np.sort(events.t[presses]) <= np.sort(events.t[releases])).all()
        assert events.duration == 2_000_000
        assert events.size == (10, 10)
        assert events.polarities == 2


def test_a_stroke_causes_events_at_its_position_and_time():
    presses = [
        (events.t[events.p == 1], events.x[events.p == 1], events.y[events.p == 1])
        for events in write(straight((0.15, 0.3), (0.85, 0.3)))
    ]
    for t, x, y in presses:
        assert len(t) >= 7
        assert np.corrcoef(t, x)[0, 1] > 0.95  # from left to right
        assert y.max() - y.min() <= 2  # along a row
    everywhere = np.concatenate([y for _, _, y in presses])
    assert everywhere.mean() + 0.5 == pytest.approx(10 * (0.5 - 0.85 * 0.2), abs=0.4)
    starts, ends = (np.array([f(t) for t, _, _ in presses]) / 1e6 for f in (np.min, np.max))
    assert starts.max() < 0.35
    assert 1.2 < (ends - starts).mean() < 1.7
    assert len({round(start, 2) for start in starts}) > 10  # nobody starts on the clock


def test_presses_are_missed_with_the_given_probability(paths: PenPaths):
    clean, faulty = write(paths), write(paths, missed=0.4)
    every, remaining = events_of(clean, 1), events_of(faulty, 1)
    assert remaining < every
    assert len(remaining) / len(every) == pytest.approx(0.6, abs=0.02)
    assert sum(map(len, write(paths, missed=1.0))) == 0


def test_stray_presses_come_at_their_rate_and_more_noise_leaves_the_others(paths: PenPaths):
    presses = [events_of(write(off_paper(60), stray=rate), 1) for rate in (0.0, 0.2, 2.0)]
    assert not presses[0]
    for rate, count in zip((0.2, 2.0), presses[1:], strict=True):
        assert len(count) == pytest.approx(rate * 2 * 100 * 60, rel=0.1)
    assert len({(x, y) for _, _, x, y in presses[2]}) == 100
    clean, noisy = events_of(write(paths), 1), events_of(write(paths, stray=0.2), 1)
    assert clean < noisy


def test_the_generator_decides(paths: PenPaths):
    one, again, other = (write(paths, missed=0.3, stray=0.1, seed=seed) for seed in (0, 0, 1))
    assert events_of(one, 1) == events_of(again, 1)
    assert len(events_of(one, 1) & events_of(other, 1)) < 0.01 * len(events_of(one, 1))
