"""Detection of the kind of recording in a file."""

from pathlib import Path

import numpy as np
import pytest

from snn_datasets.formats.contents import kinds_of, why_unreadable

RECORDS = np.zeros(5, [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")])
EVENTS = np.array([[0, 1, 2, 0], [5, 3, 4, 1], [9, 3, 4, 1]])


@pytest.mark.parametrize(
    ("array", "kinds"),
    [
        (RECORDS, ("events",)),
        (RECORDS.astype([("X", "<u2"), ("Y", "<u2"), ("Timestamp", "<i8"), ("P", "?")]), ("events",)),
        (np.zeros(5, [("a", "<f8"), ("b", "<f8")]), ()),
        (EVENTS, ("events", "series")),
        (EVENTS.astype(float), ("events", "series")),
        (EVENTS * [1, 1, 1, -1] + [0, 0, 0, 1], ("events", "series")),
        (EVENTS + 0.5, ("series",)),
        (EVENTS[::-1], ("series",)),
        (EVENTS * [1, -1, 1, 1], ("series",)),
        (EVENTS * [1, 1, 1, 2], ("series",)),
        (EVENTS[:, :3], ("series",)),
        (np.zeros((50, 4)), ("series",)),
        (np.zeros(7), ("series",)),
    ],
)
def test_npy_files_are_inspected(tmp_path: Path, array: np.ndarray, kinds: tuple[str, ...]):
    np.save(tmp_path / "a.npy", array)
    assert kinds_of(tmp_path / "a.npy") == kinds


def test_damaged_npy_files_are_left_to_a_reader(tmp_path: Path):
    for content in (b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}"):
        (tmp_path / "a.npy").write_bytes(content)
        assert kinds_of(tmp_path / "a.npy") == ("series",)
    assert kinds_of(tmp_path / "none.npy") == ("series",)


def test_unsupported_formats_are_explained(tmp_path: Path):
    for name, content, kinds, why in (
        ("dv.csv", b"timestamp,x,y,polarity\n1,2,3,1\n", (), "a table of events"),
        ("dv.csv", b"# t;x;y;p\n1;2;3;1\n", (), "a table of events"),
        ("imu.csv", b"t,x,y,z\n1,2,3,1\n", ("series",), None),
        ("a.aedat", b"% evt 3.0\n% end\n", (), "a Prophesee event file"),
        ("a.aedat4", b"#!AER-DAT4.0\r\n", (), "an AEDAT 4 event file"),
        ("a.raw", b"\0\1\2", (), "a Prophesee event file"),
        ("a.dat", b"1 2 3\n4 5 6\n", (), None),
        ("a.h5", b"\x89HDF\r\n\x1a\n", (), "an HDF5 file; save each recording"),
    ):
        (tmp_path / name).write_bytes(content)
        assert kinds_of(tmp_path / name) == kinds
        reason = why_unreadable(tmp_path / name)
        assert (reason is None) == (why is None)
        assert why is None or why in (reason or "")
