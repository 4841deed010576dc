"""Identification of file formats by their first bytes, and advice on converting unsupported ones.

Used in error messages: a reader that cannot decode a file names its actual format.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

from snn_datasets.base.reader import LFS_POINTER, is_web_page

HEAD_BYTES = 1024
"""Bytes read from a file to identify it."""

_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"fLaC", "a FLAC sound file"),
    (b"OggS", "an Ogg sound file"),
    (b"ID3", "an MP3 sound file"),
    (b".snd", "an AU sound file"),
    (b"caff", "a CAF sound file"),
    (b"#!AMR", "an AMR sound file"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file (WMA or WMV)"),
    (b"FLV\x01", "a Flash video"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\0\0\x01\xba", "an MPEG video"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"MATLAB 5.0", "a MATLAB .mat file"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document (.xls, .doc)"),
    (b"#ROSBAG V", "a ROS bag"),
    (b"#!AER-DAT4", "an AEDAT 4 event file of iniVation's DV"),
    (b"#!AER-DAT", "an AEDAT event file"),
    (LFS_POINTER, "a Git-LFS pointer"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
)
_RIFF = {b"WAVE": "a WAV sound file", b"AVI ": "an AVI video", b"WEBP": "a WebP image"}
_MPEG4 = {
    b"M4A ": "an M4A sound file (MPEG-4)",
    b"M4B ": "an M4A sound file (MPEG-4)",
    b"qt  ": "a QuickTime video",
    b"heic": "an HEIC image",
    b"heix": "an HEIC image",
    b"mif1": "an HEIC image",
    b"avif": "an AVIF image",
}
_OFFICE = {"xl/": "an Excel workbook (.xlsx)", "word/": "a Word document (.docx)", "ppt/": "a PowerPoint file"}
_AS_NPZ = "convert it to an .npz file of arrays x, y, t (in microseconds) and p"
_ADVICE = {
    "an AEDAT 4": f"{_AS_NPZ}, for instance with iniVation's dv-processing",
    "a Prophesee": f"{_AS_NPZ}, for instance with Prophesee's OpenEB (metavision_file_to_csv) or expelliarmus",
    "a ROS bag": f"{_AS_NPZ}, or save the topics as CSV",
    "an HDF5": "save each recording as an .npz or .npy file (events: arrays x, y, t in microseconds and p)",
    "an Excel": "save the sheet as CSV in UTF-8",
    "an old Excel": "save the sheet as CSV in UTF-8",
    "an M4A": "convert it to WAV or FLAC, for instance with ffmpeg -i IN OUT.wav",
    "an AMR": "convert it to WAV or FLAC, for instance with ffmpeg -i IN OUT.wav",
    "a Windows Media": "convert it to WAV or MP4, for instance with ffmpeg -i IN OUT.wav",
    "an HEIC": "convert it to JPEG or PNG",
    "an AVIF": "convert it to JPEG or PNG",
    "a zip archive": "unpack it",
    "a gzip archive": "unpack it",
    "a bzip2 archive": "unpack it",
    "an xz archive": "unpack it",
    "a tar archive": "unpack it",
    "a Git-LFS pointer": "run `git lfs pull` where it was cloned",
    "a web page": "the download asked for a login or the link is dead: fetch it again",
}
_UNSUPPORTED_ENDINGS = {
    ".aedat4": "an AEDAT 4 event file of iniVation's DV",
    ".raw": "a Prophesee event file (.raw)",
    ".dat": "a Prophesee event file (.dat)",
    ".bin": "a raw binary event file, as N-MNIST has them",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".bag": "a ROS bag",
    ".m4a": "an M4A sound file (MPEG-4)",
    ".xlsx": "an Excel workbook (.xlsx)",
    ".heic": "an HEIC image",
}
"""Usual formats by file extension, for files whose first bytes are not recognized."""


def format_of(path: Path) -> str | None:
    """Return the format of a file as a noun phrase, such as "an M4A sound file (MPEG-4)".

    None if the format is not recognized or the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    return _of_zip(path) if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) else format_of_bytes(head)


def format_of_bytes(head: bytes) -> str | None:
    """Return the format of a file that begins with these bytes; None if unknown. Zip archives are not opened."""
    if not head:
        return "an empty file"
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return _RIFF.get(head[8:12], "a RIFF file")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "an AIFF sound file"
    if head[4:8] == b"ftyp":
        return _MPEG4.get(head[8:12], "an MPEG-4 video")
    for signature, name in _AT_START:
        if head.startswith(signature):
            return name
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "a zip archive"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[128:132] == b"DICM":
        return "a DICOM image"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # layer 3 of MPEG audio
        return "an MP3 sound file"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "a BMP image"
    if head[:1] == b"%" and any(
        word in head.lower() for word in (b"% evt", b"% format evt", b"% data file", b"% date")
    ):
        return "a Prophesee event file"
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    return _of_text(head)


def explain_other_format(path: Path, readable: Collection[str]) -> str | None:
    """Explain that a file could not be decoded because it has another format; None if it has not, or is unknown.

    Args:
        path: the file.
        readable: descriptions of the formats that can be decoded.

    Returns:
        The end of "it cannot be read as ...: ", such as "it is a zip archive; unpack it".
    """
    name = format_of(path)
    if name is None or name in readable:
        return None
    return f"it is {name}; {conversion_advice(name) or 'replace or convert the file'}"


def unsupported_format(path: Path) -> str | None:
    """Return the format of a file that no reader takes, by its first bytes or else its extension; None if unknown."""
    format_name = format_of(path)
    if format_name is not None or _is_text(path):
        return format_name
    return _UNSUPPORTED_ENDINGS.get(path.suffix.lower())


def _is_text(path: Path) -> bool:
    """Return whether a file begins like text, which may have any format."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return bool(head) and not any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in head)


def conversion_advice(name: str) -> str | None:
    """Return what to do with a file of this format."""
    return next((advice for start, advice in _ADVICE.items() if name.startswith(start)), None)


def _of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return "a damaged zip archive"
    for folder, name in _OFFICE.items():
        if any(member.startswith(folder) for member in names):
            return name
    if "mimetype" in names and "content.xml" in names:
        return "an OpenDocument file (.ods, .odt)"
    if names and all(member.endswith(".npy") for member in names):
        return "a NumPy .npz file"
    return "a zip archive"


def _of_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = start[:64].lower()
    if is_web_page(head):
        return "a web page"
    if lower.startswith((b"<?xml", b"<svg", b"<!doctype")):
        return "an XML file"
    if start[:1] in (b"{", b"[") and start[1:].lstrip()[:1] in (
        b'"',
        b"{",
        b"[",
        b"]",
        b"}",
        *(b"%d" % n for n in range(10)),
    ):
        return "a JSON file"
    return None
