"""The tables in this package: published checksums and published splits."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """Size and checksum of one file as published by the source of a dataset."""

    bytes: int
    sha256: str


def read_packaged_table(folder: str, name: str) -> list[dict[str, str]]:
    """Return the rows of the packaged table `<folder>/<name>.csv.gz`, each by column name."""
    packed = resources("snn_datasets").joinpath(folder, f"{name}.csv.gz").read_bytes()
    return list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8"), newline="")))


@cache
def published_table(name: str) -> Mapping[str, PublishedFile]:
    """Load a packaged table of published sizes and checksums, by file name relative to the root."""
    rows = read_packaged_table("checksums", name)
    return {row["file"]: PublishedFile(int(row["bytes"]), row["sha256"]) for row in rows}
