from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from snn_datasets.manifest.table import has_columns, read_cells

COLUMNS = ("image", "audio", "sample_id")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_of_some_columns_is_read_in_every_dialect(tmp_path: Path, encoding: str, separator: str):
    path = tmp_path / "table.csv"
    lines = [
        "# by hand",
        separator.join(["", "Sample ID", "image", "", "score"]),
        separator.join(["7", "é", "a.png", "x", "0.5"]),
    ]
    path.write_text("\n".join(lines), encoding=encoding)
    cells = read_cells(path, COLUMNS)
    assert [number for number, _ in cells.rows] == [3]
    assert {name: cells.rows[0][1][name] for name in ("sample_id", "image")} == {"sample_id": "é", "image": "a.png"}
    assert has_columns(path, COLUMNS)
    assert not has_columns(path, ("touch",))


def test_a_dataset_needs_split_and_label(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("image\na.png\n")
    assert read_cells(path, COLUMNS).rows == [(2, {"image": "a.png"})]
    with pytest.raises(ValueError, match="row 1: no column 'split' among 'image'"):
        read_cells(path)


def test_other_columns_of_a_parquet_table_are_ignored(tmp_path: Path):
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table({"image": ["a.png", None], "split": [0.5, 0.25], "audio": [1.5, 2.5]}), path)
    cells = read_cells(path, COLUMNS)
    assert cells.rows == [(1, {"image": "a.png"}), (2, {"image": ""})]
    assert cells.unreadable["audio"] == "double"
    assert has_columns(path, COLUMNS)


def test_a_repeated_column_is_refused_if_it_is_used(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("image,note,note\na.png,1,2\n")
    assert read_cells(path, COLUMNS).rows[0][1]["image"] == "a.png"
    path.write_text("image,image\na.png,b.png\n")
    with pytest.raises(ValueError, match="row 1: column 'image' occurs 2 times"):
        read_cells(path, COLUMNS)


def test_only_the_beginning_of_a_recording_is_read_to_tell_it_from_a_table(tmp_path: Path):
    path = tmp_path / "series.csv"
    path.write_text("time,é\n" + "0.5,ö\n" * 20_000, encoding="utf-8")
    assert not has_columns(path, COLUMNS)
    assert has_columns(path, ("é",))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert not has_columns(path, COLUMNS)
    path.write_bytes(b"")
    assert not has_columns(path, COLUMNS)
