"""Readers and stages of slow measurements."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from datasets.writers.series_csv import write_series_csv
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Draw
from snn_datasets.modalities.series import Rectify, SeriesReader, Standardize, SubtractBaseline

VALUES = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
TIMES = np.array([5.0, 5.5, 5.75, 6.0, 7.0, 7.25, 9.0])
DRAW = Draw(0, "a", "emg")


def series(values: np.ndarray, times: np.ndarray) -> Series:
    return Series(values.astype(np.float32), times.astype(np.float64))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_a_table_with_names_and_times_comes_back_as_written(tmp_path: Path, delimiter: str):
    path = tmp_path / "a.csv"
    write_series_csv(path, VALUES, times=TIMES, names=("Time", "x", "y", "z"), delimiter=delimiter)
    read = SeriesReader().read(Source(path))
    np.testing.assert_array_equal(read.values, VALUES)
    np.testing.assert_array_equal(read.times, TIMES - 5)
    assert read.values.dtype == np.float32
    assert read.times.dtype == np.float64


def test_columns_are_selected_by_name_or_index_in_the_given_order(tmp_path: Path):
    path = tmp_path / "a.tsv"
    write_series_csv(path, VALUES, times=TIMES, names=("when", "x", "y", "z"), delimiter="\t")
    read = SeriesReader(time_column="when", time_unit="ms", columns=("z", 1)).read(Source(path))
    np.testing.assert_array_equal(read.values, VALUES[:, [2, 0]])
    np.testing.assert_allclose(read.times, (TIMES - 5) / 1000)


def test_rows_without_times_are_evenly_spaced(tmp_path: Path):
    write_series_csv(tmp_path / "a.csv", VALUES)
    np.save(tmp_path / "a.npy", VALUES.astype(np.float64))
    np.save(tmp_path / "f.npy", np.asfortranarray(VALUES))
    for name in ("a.csv", "a.npy", "f.npy"):
        read = SeriesReader(rate=200).read(Source(tmp_path / name))
        np.testing.assert_array_equal(read.values, VALUES)
        np.testing.assert_allclose(read.times, np.arange(7) * 0.005)


def test_a_column_of_numbers_is_one_channel(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(5, dtype=np.int16))
    read = SeriesReader(rate=1).read(Source(tmp_path / "a.npy"))
    assert read.values.tolist() == [[0], [1], [2], [3], [4]]


def test_an_unselected_text_column_is_ignored(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(
        '# made by hand\n\n"t","label","x"\n0,"walk, fast",1.5\n1,run,2.5\n\n2,run,3.5\n', encoding="utf-8-sig"
    )
    read = SeriesReader(columns=("x",)).read(Source(path))
    assert read.values.tolist() == [[1.5], [2.5], [3.5]]
    assert read.times.tolist() == [0, 1, 2]


def test_the_end_of_a_part_is_exclusive(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(1000)[:, None] * [1, 2])
    reader = SeriesReader(rate=200)
    parts = [reader.read(Source(tmp_path / "a.npy", (first / 200, (first + 37) / 200))) for first in range(0, 962, 37)]
    np.testing.assert_array_equal(np.concatenate([part.values[:, 0] for part in parts]), np.arange(26 * 37))
    assert all(abs(part.times[0]) < 1e-12 for part in parts)
    with pytest.raises(ReadError, match="no row in this span"):
        reader.read(Source(tmp_path / "a.npy", (6.0, 7.0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,x,y\n0,1,2\n1,nan,2\n", "row 2, column 'x' is nan; values must be finite"),
        ("t,x,y\n0,1,2\n1,2,-inf\n", "row 2, column 'y' is -inf"),
        ("t,x,y\n0,1,1e39\n", "row 1, column 'y' is inf"),
        ("t,x,y\n0,1,2\n1,,2\n", "row 2, column 'x' is '', not a number"),
        ("t,x,y\n0,1,2\n1,2\n", "row 2 (line 3) has 2 columns, but the first one has 3"),
        ("t,x,y\n0,1\n1,2\n", "names 3 columns, but its first row has 2"),
        ("t,x,y\n0,1,2\n0,1,2\n", "row 2, column 't' is no later than the row before"),
        ("t,x,y\n0,1,2\nnan,1,2\n", "row 2, column 't' is NaN or inf"),
        ("t\n0\n1\n", "has only a time column"),
        ("x,y\n0,1\n", "no column named t, time, timestamp among 'x', 'y'"),
        ("t,x\n", "has no numeric row"),
        ("<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_errors_name_row_and_column(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ReadError) as caught:
        SeriesReader().read(Source(tmp_path / "a.csv"))
    assert message in str(caught.value)
    assert str(tmp_path / "a.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        # What pandas 2 and 3 write of DataFrame([[0.5, 1.5], [2.5, 3.5]]), by to_csv's documentation.
        ("0,1,2\n0.5,1.5,9\n2.5,3.5,9\n", ("0", "1", "2"), [[0.5, 1.5, 9], [2.5, 3.5, 9]]),
        (",0,1\n0,0.5,1.5\n1,2.5,3.5\n", ("0", "1"), [[0.5, 1.5], [2.5, 3.5]]),
        (",ax,ay\n0,0.5,1.5\n1,2.5,3.5\n", ("ax", "ay"), [[0.5, 1.5], [2.5, 3.5]]),
        # index_label=False, and R's write.table: no name for the index at all
        ("ax,ay\n0,0.5,1.5\n1,2.5,3.5\n", ("ax", "ay"), [[0.5, 1.5], [2.5, 3.5]]),
        # Read and written again, and after reset_index
        ("Unnamed: 0,ax\n0,0.5\n1,2.5\n", ("ax",), [[0.5], [2.5]]),
        ("index,ax\n0,0.5\n1,2.5\n", ("ax",), [[0.5], [2.5]]),
        # A part of a longer table keeps its row numbers; a column named index may hold anything else.
        (",ax\n7,0.5\n8,2.5\n", ("ax",), [[0.5], [2.5]]),
        ("index,ax\n3,0.5\n9,2.5\n", ("index", "ax"), [[3, 0.5], [9, 2.5]]),
        # Whole numbers below a counted header
        ("0,1,2\n5,6,7\n8,9,10\n", ("0", "1", "2"), [[5, 6, 7], [8, 9, 10]]),
        (",0\n0,0.5\n1,2.5\n", ("0",), [[0.5], [2.5]]),
        # No header: numbers that only look a little like one
        ("0,1,3\n0.5,0.6,0.7\n", (), [[0, 1, 3], [0.5, 0.6, 0.7]]),
        ("0,1,2\n", (), [[0, 1, 2]]),
        ("1,2,3\n4.5,5,6\n", (), [[1, 2, 3], [4.5, 5, 6]]),
        # A separator at the end of every line
        ("ax,ay,\n0.5,1.5,\n2.5,3.5,\n", ("ax", "ay"), [[0.5, 1.5], [2.5, 3.5]]),
    ],
)
def test_tables_of_pandas_are_read_without_their_row_numbers(
    tmp_path: Path, text: str, names: tuple[str, ...], values: list[list[float]]
):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    reader = SeriesReader(rate=1).with_names_of(Source(tmp_path / "a.csv"))
    np.testing.assert_allclose(reader.read(Source(tmp_path / "a.csv")).values, values)
    assert getattr(reader, "names", None) == names


def test_pandas_own_files_are_read_as_pandas_reads_them(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(VALUES.astype(float))
    named = frame.rename(columns=dict(enumerate("xyz")))
    path = tmp_path / "a.csv"
    for table, options in (
        (frame, {}),
        (frame, {"index": False}),
        (named, {}),
        (named, {"index": False}),
        (named, {"index_label": False}),
        (named.iloc[3:], {}),
        (named.reset_index(), {"index": False}),
        (named, {"sep": ";"}),
        (named, {"sep": "\t", "quoting": 2}),
    ):
        table.to_csv(path, **options)
        np.testing.assert_allclose(SeriesReader(rate=1).read(Source(path)).values, VALUES[len(VALUES) - len(table) :])


def test_an_ambiguous_header_is_refused(tmp_path: Path):
    path = tmp_path / "a.csv"
    for text in ("0\n5\n7\n", "0,1\n5,6\n", "0,1\n0.01,0.9\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ReadError, match="may be column names written by pandas, or the first measurement"):
            SeriesReader(rate=1).read(Source(path))
        assert len(SeriesReader(rate=1, header=True).read(Source(path)).values) == len(text.split()) - 1
        assert len(SeriesReader(rate=1, header=False).read(Source(path)).values) == len(text.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n1,5,2\n", "row 2 (line 3) has 3 columns, but the first one has 2; numbers need decimal points"),
        ("# by hand\n\n1,2\n\n1,5,2\n", "row 2 (line 5) has 3 columns"),
        ("1 2\n3 4\n5 6 7\n", "row 3 (line 3) has 3 columns, but the first one has 2"),
        ("x;y\n1,5;2\n", "row 1, column 'x' is '1,5', not a number: a decimal comma (line 2)"),
        (",x\n0.0,1\n0.1,2\n", "column 0 has no name and is not a row index"),
        ("time,elapsed_ms,x\n0,0,1\n1,1000,2\n", "several columns that may be time: 'time', 'elapsed_ms'"),
        ("timestamp,x,y,polarity\n1,2,3,0\n2,3,4,1\n", "is not a series: it is a table of events"),
        (
            "t,x\n0,1e9\n1,1000000001\n",
            "column 'x' ranges from 1000000000 to 1000000001, where float32 has a resolution",
        ),
    ],
)
def test_rows_and_columns_that_may_be_something_else_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ReadError) as caught:
        SeriesReader(rate=1).read(Source(tmp_path / "a.csv"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("time", 1),
        ("Timestamp", 1),
        ("T", 1),
        ("time_ms", 1e-3),
        ("Time (s)", 1),
        ("Time [us]", 1e-6),
        ("t_us", 1e-6),
        ("timestamp (ns)", 1e-9),
        ("Timestamp_ms", 1e-3),
        ("seconds", 1),
        ("seconds_elapsed", 1),
        ("elapsed time in ms", 1e-3),
        ("time/\u00b5s", 1e-6),
    ],
)
def test_a_column_is_time_by_its_name_and_unit_beside_a_rate_too(tmp_path: Path, name: str, seconds: float):
    (tmp_path / "a.csv").write_text(f"{name},x\n0,1\n10,2\n30,3\n", encoding="utf-8")
    read = SeriesReader(rate=5).read(Source(tmp_path / "a.csv"))
    assert read.values.tolist() == [[1], [2], [3]]
    np.testing.assert_allclose(read.times, np.array([0, 10, 30]) * seconds)
    series = SeriesReader(time_unit="us").read(Source(tmp_path / "a.csv"))
    np.testing.assert_allclose(series.times, np.array([0, 10, 30]) * 1e-6)


@pytest.mark.parametrize("name", ["s", "ms", "time_of_flight", "runtime_error", "temperature", "ts_ratio", "lifetime"])
def test_other_names_are_not_time(tmp_path: Path, name: str):
    (tmp_path / "a.csv").write_text(f"{name},x\n0,1\n10,2\n", encoding="utf-8")
    assert SeriesReader(rate=5).read(Source(tmp_path / "a.csv")).values.shape == (2, 2)


def test_the_letter_t_is_not_time_if_another_column_is(tmp_path: Path):
    (tmp_path / "a.csv").write_text("time,T,RH\n0,20,50\n1,21,51\n", encoding="utf-8")
    assert SeriesReader().read(Source(tmp_path / "a.csv")).values.tolist() == [[20, 50], [21, 51]]


def test_times_beyond_the_resolution_of_float32_are_named(tmp_path: Path):
    times = 1.7e9 + np.arange(5)
    np.save(tmp_path / "a.npy", np.stack([times, np.arange(5)], 1).astype(np.float32))
    with pytest.raises(ReadError, match=r"since float32 cannot hold the difference; save times as float64"):
        SeriesReader(time_column=0).read(Source(tmp_path / "a.npy"))


def test_an_unknown_column_is_refused_with_the_known_ones(tmp_path: Path):
    write_series_csv(tmp_path / "a.csv", VALUES, names=("x", "y", "z"))
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(ReadError, match="no column 'w'; it has 'x', 'y', 'z'"):
        SeriesReader(rate=1, columns=("w",)).read(Source(tmp_path / "a.csv"))
    with pytest.raises(ReadError, match="no column 3; it has columns 0 to 2 without names"):
        SeriesReader(rate=1, columns=(3,)).read(Source(tmp_path / "a.npy"))


def test_npy_files_that_are_not_series_are_refused(tmp_path: Path):
    path = tmp_path / "a.npy"
    for array, message in (
        (np.array([{"a": 1}], dtype=object), "cannot be read"),
        (np.zeros((2, 3, 4)), "shape (2, 3, 4)"),
        (np.zeros((0, 3)), "shape (0, 3)"),
        (np.array(["a", "b"]), "type <U1"),
    ):
        np.save(path, array)
        with pytest.raises(ReadError) as caught:
            SeriesReader(rate=1).read(Source(path))
        assert message in str(caught.value)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8)})
    with pytest.raises(ReadError, match="cannot be read"):
        SeriesReader(rate=1).read(Source(path))


def test_damaged_files_raise_only_read_errors(tmp_path: Path):
    write_series_csv(tmp_path / "good.csv", VALUES, times=TIMES, names=("t", "x", "y", "z"))
    np.save(tmp_path / "good.npy", VALUES)
    draw, refused = random.Random(0), 0
    for name in ("good.csv", "good.npy"):
        good = (tmp_path / name).read_bytes()
        path = tmp_path / name.replace("good", "bad")
        for _ in range(400):
            data = bytearray(good[: draw.choice([len(good), draw.randrange(1, len(good))])])
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(min(len(data), 160))] = draw.randrange(256)
            path.write_bytes(data)
            try:
                read = SeriesReader(rate=10).read(Source(path))
            except ReadError:
                refused += 1
            else:
                assert np.isfinite(read.values).all()
                assert len(read.values) == len(read.times)
    assert refused > 400


def test_a_reader_knows_its_kind_and_can_be_pickled(tmp_path: Path):
    reader = SeriesReader(rate=200, columns=("x",))
    assert pickle.loads(pickle.dumps(reader)) == reader
    assert reader.fingerprint()["fields"]["columns"] == ["x"]
    with pytest.raises(FileNotFoundError, match="no file at"):
        reader.read(Source(tmp_path / "none.csv"))


def test_a_baseline_uses_only_earlier_values():
    values = np.arange(20.0).reshape(10, 2)
    times = np.arange(10) * 0.1
    out = SubtractBaseline(seconds=0.3)(series(values, times), DRAW)
    np.testing.assert_allclose(out.values, values[3:] - values[:3].mean(0))
    np.testing.assert_allclose(out.times, times[3:] - 0.3)
    later = values.copy()
    later[7:] += 100
    np.testing.assert_array_equal(SubtractBaseline(seconds=0.3)(series(later, times), DRAW).values[:4], out.values[:4])
    with pytest.raises(ValueError, match="takes 10 of the 10 values"):
        SubtractBaseline(seconds=2)(series(values, times), DRAW)


def test_standardizing_gives_training_values_mean_0_and_deviation_1():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(500, 3)) * [1, 10, 0] + [5, -2, 7]
    out = Standardize.of(values)(series(values, np.arange(500)), DRAW).values
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), [1, 1, 0], atol=1e-5)
    with pytest.raises(ValueError, match="2 channels"):
        Standardize.of(values)(series(values[:, :2], np.arange(500)), DRAW)


def test_rectified_values_do_not_cancel_in_averages():
    values = np.array([[1.0, -2.0], [-1.0, 2.0]])
    assert Rectify()(series(values, np.arange(2)), DRAW).values.tolist() == [[1, 2], [1, 2]]
