"""Windows of a series."""

import numpy as np
import pytest

from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Draw
from snn_datasets.stages.windows import SeriesWindows, window_length

DRAW = Draw(0, "a", "imu")
VALUES = np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32)


def series(values: np.ndarray, times: np.ndarray) -> Series:
    return Series(values.astype(np.float32), times.astype(np.float64))


@pytest.mark.parametrize("rate", [0.1, 1, 100, 44_100 / 7])
def test_as_many_values_as_rows_are_the_rows(rate: float):
    even = series(VALUES, 5 + np.arange(240) / rate)
    for seconds in (None, 240 / rate):
        whole = SeriesWindows(length=240, seconds=seconds)(even, DRAW)
        np.testing.assert_array_equal(whole.numpy(), VALUES.T)
        parts = SeriesWindows(length=60, steps=4, seconds=seconds)(even, DRAW)
        np.testing.assert_array_equal(parts.numpy(), VALUES.reshape(4, 60, 3).transpose(0, 2, 1))


def test_fewer_values_are_means_and_more_lie_between():
    even = series(VALUES, np.arange(240) / 50)
    means = SeriesWindows(length=80)(even, DRAW).numpy()
    np.testing.assert_allclose(means, VALUES.reshape(80, 3, 3).mean(1).T, atol=1e-6)
    ramp = series(np.arange(10.0)[:, None], np.arange(10) / 5)
    between = SeriesWindows(length=40)(ramp, DRAW).numpy()[0]
    # Half of the values have a bin for themselves; between the first and the last row the line is straight.
    assert np.all(np.diff(between) >= 0)
    assert (between.min(), between.max()) == (0, 9)


def test_a_window_of_fixed_length_cuts_and_holds():
    values = np.arange(20.0)[:, None]
    window = SeriesWindows(length=10, seconds=1.0)
    assert window(series(values, np.arange(20) / 10), DRAW)[0].tolist() == list(range(10))
    assert window(series(values[:4], np.arange(4) / 10), DRAW)[0].tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert window(series(values[:1], np.zeros(1)), DRAW)[0].tolist() == [0] * 10


def test_gaps_are_bridged_by_straight_lines():
    times = np.array([0, 1, 2, 6, 7, 8, 9]) / 10
    out = SeriesWindows(length=10, seconds=1.0)(series(10 * times[:, None], times), DRAW)[0].numpy()
    np.testing.assert_allclose(out[[0, 1, 2, 6, 7, 8, 9]], [0, 1, 2, 6, 7, 8, 9], atol=1e-5)
    assert np.all(np.diff(out[2:7]) > 0)


def test_inputs_that_are_not_series_are_refused():
    with pytest.raises(ValueError, match="SeriesWindows takes Series, not ndarray"):
        SeriesWindows(length=4)(VALUES, DRAW)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs a time for each value"):
        SeriesWindows(length=4)(series(np.zeros((0, 3)), np.zeros(0)), DRAW)


@pytest.mark.parametrize(("rows", "length"), [(200, 200), (4096, 4096), (4097, 2049), (30_000, 3750), (1, 1)])
def test_a_length_is_bounded_and_shares_rows_evenly(rows: int, length: int):
    assert window_length(rows, most=4096) == length
