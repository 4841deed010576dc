"""Detection of file formats."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from PIL import Image

from datasets.writers.flv import write_video
from snn_datasets.formats.file_signature import conversion_advice, format_of, unsupported_format


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return data.getvalue()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x20ftypM4A \0\0", "an M4A sound file (MPEG-4)"),
        (b'<?xml version="1.0"?><a/>', "an XML file"),
        (json.dumps({"error": "not found"}).encode(), "a JSON file"),
        (json.dumps([1, 2]).encode(), "a JSON file"),
        (gzip.compress(b"sound", mtime=0), "a gzip archive"),
        (archive("a.wav"), "a zip archive"),
        (archive("xl/workbook.xml", "[Content_Types].xml"), "an Excel workbook (.xlsx)"),
        (b"PK\x03\x04cut", "a damaged zip archive"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git-LFS pointer"),
        ("sample,label".encode("utf-16"), "UTF-16 text"),
        (b"#!AER-DAT4.0\r\n", "an AEDAT 4 event file of iniVation's DV"),
        (b"#!AER-DAT3.1\r\n", "an AEDAT event file"),
        (b"% date 2020-01-01 10:00:00\n% evt 3.0\n", "a Prophesee event file"),
        (b"% Data file containing CD events.\n% Version 2\n", "a Prophesee event file"),
        (b"", "an empty file"),
        (b"0.1,0.2\n0.3,0.4\n", None),
        (b"[Header]\nrate=100\n", None),
        (b"\x00\x01\x02\x03", None),
        (b"\xff\xff\xff\xff\xff\xff", None),
    ],
)
def test_files_are_known_by_their_first_bytes(tmp_path: Path, head: bytes, expected: str | None):
    path = tmp_path / "x.wav"
    path.write_bytes(head)
    assert format_of(path) == expected


def test_files_of_other_programs_are_recognized(tmp_path: Path):
    for name, expected in {
        "a.png": "a PNG image",
        "a.jpg": "a JPEG image",
        "a.bmp": "a BMP image",
        "a.tif": "a TIFF image",
        "a.webp": "a WebP image",
        "a.gif": "a GIF image",
    }.items():
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        assert format_of(tmp_path / name) == expected
    for name, expected in {
        "a.wav": "a WAV sound file",
        "a.flac": "a FLAC sound file",
        "a.ogg": "an Ogg sound file",
        "a.mp3": "an MP3 sound file",
        "a.aiff": "an AIFF sound file",
        "a.au": "an AU sound file",
    }.items():
        soundfile.write(tmp_path / name, np.zeros(8000), 8000)
        assert format_of(tmp_path / name) == expected
    for name, expected in {"a.flv": "a Flash video", "a.mp4": "an MPEG-4 video", "a.avi": "an AVI video",
                           "a.mkv": "a Matroska or WebM video"}.items():  # fmt: skip
        write_video(tmp_path / name, frames=3, rate=10, height=16, width=16, hertz=440)
        assert format_of(tmp_path / name) == expected
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    h5py.File(tmp_path / "a.h5", "w").close()
    assert format_of(tmp_path / "a.npy") == "a NumPy .npy file"
    assert format_of(tmp_path / "a.npz") == "a NumPy .npz file"
    assert format_of(tmp_path / "a.h5") == "an HDF5 file"


def test_formats_without_a_reader_come_with_a_converter(tmp_path: Path):
    for name, program in {
        "a.aedat4": "dv-processing",
        "a.raw": "metavision_file_to_csv",
        "a.dat": "expelliarmus",
    }.items():
        (tmp_path / name).write_bytes(b"\0\1\2\3")
        assert program in (conversion_advice(unsupported_format(tmp_path / name) or "") or "")
    assert unsupported_format(tmp_path / "a.raw") == "a Prophesee event file (.raw)"
    assert unsupported_format(tmp_path / "nothing.xyz") is None
    assert format_of(tmp_path / "nothing.xyz") is None
    assert conversion_advice("a PNG image") is None
