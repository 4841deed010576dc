"""Find the inputs of `scmrl predict`: manifests, folders and files become clips with a file per modality.

Opens manifests, but no recordings.
"""

# pyarrow has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, cast

from scmrl.console.printable import printable
from snn_datasets.base.kinds import KIND_OF
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import Reader
from snn_datasets.base.stage import Stage
from snn_datasets.formats.contents import kinds_of
from snn_datasets.modalities.audio import WaveformReader
from snn_datasets.modalities.images import ImageReader
from snn_datasets.modalities.video import FirstFrame, SoundtrackReader, VideoReader

HEADER_BYTES = 2**16
"""Bytes of a CSV file that are read to recognize a manifest."""


@dataclass(frozen=True)
class Clip:
    """One sample to predict."""

    id: str
    """Identifier in the output."""
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    """Modality -> its file; other modalities are absent."""
    fault: str = ""
    """Why it cannot be predicted; empty if it can."""


def find_clips(
    arguments: Sequence[str], modalities: Mapping[str, Modality], root: Path | None = None
) -> Iterator[Clip]:
    """Yield the clips that command-line arguments name.

    `modality=path` pairs form one clip and exclude other arguments. Otherwise each argument is a manifest (a CSV file
    or Parquet table with columns named after modalities; other columns are ignored), a folder, or a file. A file is
    assigned to a modality by its extension, and by a folder named after the modality if several accept it. Files that
    differ only in extension and such folders form one clip. A video supplies image and sound to modalities without a
    separate file.

    Args:
        arguments: the arguments.
        modalities: modalities of the run.
        root: folder that relative names in manifests start from; none: the folder of the manifest.

    Raises:
        ValueError: invalid pairs, a folder without usable files, or an unreadable manifest.
    """
    pairs = [pair for argument in arguments if (pair := _pair(argument, modalities)) is not None]
    if pairs:
        if len(pairs) < len(arguments):
            raise ValueError("modality=path pairs form one clip; give files and folders in a separate call")
        yield _clip_of_pairs(pairs)
        return
    files: list[tuple[Path, PurePath]] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            yield from _clips_of_folder(path, modalities)
        elif not path.is_file():
            reason = f"there is no such file or folder; for one modality write {next(iter(modalities))}=path"
            yield Clip(printable(argument), fault=reason)
        elif _is_manifest(path, modalities):
            yield from _clips_of_manifest(path, modalities, root or path.parent)
        elif not _matching_modalities(path, modalities):
            reason = (
                f"no modality of this run accepts this file type ({_kinds(modalities)}), and it is not a manifest, "
                "whose header names modalities; name the modality with modality=path"
            )
            yield Clip(printable(argument), fault=reason)
        else:
            files.append((path, PurePath(path)))
    yield from _group_into_clips(files, modalities)


def select_reader(reader: Reader, path: Path) -> tuple[Reader, tuple[Stage, ...]]:
    """Return the reader of a file for a modality, and stages to apply before those of preparation.

    This is the modality's reader, with two exceptions: a modality trained on images or sound files takes a still or
    the soundtrack of a video, and one trained on soundtracks takes sound files.
    """
    kind = KIND_OF.get(path.suffix.lower())
    if kind == "video" and type(reader) is ImageReader:
        return VideoReader(frames=1, channels=reader.channels or 3), (FirstFrame(),)
    if kind == "video" and type(reader) is WaveformReader:
        return SoundtrackReader(), ()
    if kind == "waveform" and type(reader) is SoundtrackReader:
        return WaveformReader(), ()
    return reader, ()


def _pair(argument: str, modalities: Mapping[str, Modality]) -> tuple[str, Path] | None:
    name, equals, path = argument.partition("=")
    if not equals or (name not in modalities and Path(argument).exists()):
        return None
    if name not in modalities:
        raise ValueError(
            f"{printable(argument)}: the run has no modality {printable(name)!r}; it has {', '.join(modalities)}"
        )
    if not path:
        raise ValueError(f"{printable(argument)}: a file is missing after the =")
    return name, Path(path)


def _clip_of_pairs(pairs: Sequence[tuple[str, Path]]) -> Clip:
    files = dict(pairs)
    if len(files) < len(pairs):
        raise ValueError(f"a modality occurs twice among {', '.join(name for name, _ in pairs)}; give each once")
    return Clip("+".join(printable(path) for path in files.values()), files)


def _clips_of_folder(folder: Path, modalities: Mapping[str, Modality]) -> Iterator[Clip]:
    """Yield clips of all files below a folder that some modality accepts; hidden files are skipped."""
    matches: list[tuple[Path, PurePath]] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and _matching_modalities(path, modalities):
                matches.append((path, path.relative_to(folder)))
    if not matches:
        raise ValueError(
            f"the folder {printable(folder)} has no file that a modality of this run accepts ({_kinds(modalities)})"
        )
    yield from _group_into_clips(matches, modalities)


def _group_into_clips(files: Iterable[tuple[Path, PurePath]], modalities: Mapping[str, Modality]) -> Iterator[Clip]:
    """Group files, each with its displayed path, into clips."""
    groups: defaultdict[str, list[tuple[Path, PurePath]]] = defaultdict(list)
    for path, name in files:
        parts = [part for part in name.parent.parts if part not in modalities]
        groups[str(PurePath(*parts, name.stem))].append((path, name))
    for id_, members in groups.items():
        by_modality: dict[str, Path] = {}
        fault = ""
        # A file of one modality has priority over a video, which may serve several.
        for path, name in sorted(members, key=lambda member: KIND_OF[member[0].suffix.lower()] == "video"):
            candidates = _matching_modalities(path, modalities)
            targets = [modality for modality in candidates if modality in name.parent.parts]
            if KIND_OF[path.suffix.lower()] == "video" and not targets:
                by_kind: defaultdict[str, list[str]] = defaultdict(list)
                for modality in candidates:
                    by_kind[modalities[modality].reader.gives].append(modality)
                if all(len(of_kind) == 1 for of_kind in by_kind.values()):
                    targets = [modality for modality in candidates if modality not in by_modality]
            elif not targets:
                targets = candidates if len(candidates) == 1 else []
            if not targets:
                fault = fault or f"{printable(path)} may be {' or '.join(candidates)}: specify with modality=path"
            for modality in targets:
                if modality in by_modality:
                    other = printable(by_modality[modality])
                    fault = fault or f"{modality} has two files, {other} and {printable(path)}"
                by_modality.setdefault(modality, path)
        yield Clip(printable(id_), by_modality, fault)


def _matching_modalities(path: Path, modalities: Mapping[str, Modality]) -> list[str]:
    """Return the modalities that accept a file, by extension, or by content if that is ambiguous."""
    kinds = kinds_of(path)
    return [name for name, m in modalities.items() if not set(kinds).isdisjoint(accepted_kinds(m.reader))]


def accepted_kinds(reader: Reader) -> tuple[str, ...]:
    """Return the kinds of files that a reader's modality accepts: its own, and videos for images and for sound."""
    if type(reader) in (ImageReader, WaveformReader, SoundtrackReader):
        return reader.gives, "video"
    return (reader.gives,)


def _kinds(modalities: Mapping[str, Modality]) -> str:
    return ", ".join(f"{name}: {' or '.join(accepted_kinds(modality.reader))}" for name, modality in modalities.items())


def _is_manifest(path: Path, modalities: Mapping[str, Modality]) -> bool:
    if path.suffix.lower() == ".parquet":
        return True
    if path.suffix.lower() != ".csv":
        return False
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES).decode("utf-8-sig", errors="replace")
    return not modalities.keys().isdisjoint(
        cell.strip().strip('"') for cell in (head.splitlines() or [""])[0].split(",")
    )


def _clips_of_manifest(path: Path, modalities: Mapping[str, Modality], root: Path) -> Iterator[Clip]:
    rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, modalities)
    empty = True
    for number, cells in rows:
        empty = False
        names = {name: cells[name] for name in modalities if cells.get(name)}
        id_ = printable(cells.get("sample_id") or "+".join(names.values()) or f"row {number}")
        fault, files = "", dict[str, Path]()
        for modality, name in names.items():
            file = Path(root, name)
            if "\0" in name:
                fault = f"{modality} {printable(name)!r}: a file name cannot contain a zero byte"
            elif not Path(name).is_absolute() and not _is_inside(file, root):
                fault = (
                    f"{modality} {printable(name)!r}: the name leads out of {printable(root)}; "
                    "--root names another folder"
                )
            files[modality] = file
        if not names:
            fault = f"its cells for {', '.join(modalities)} are empty"
        yield Clip(id_, files, f"{printable(path)}, row {number}: {fault}" if fault else "")
    if empty:
        raise ValueError(f"{printable(path)} has no rows; write one per clip, below a header that names modalities")


def _is_inside(file: Path, root: Path) -> bool:
    try:
        return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):
        return False


def _read_csv(path: Path, modalities: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} is not UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    nothing: list[str] = []
    try:
        header = [cell.strip() for cell in next(reader, nothing)]
        for modality in modalities:
            if header.count(modality) > 1:
                raise ValueError(
                    f"{printable(path)} has {header.count(modality)} columns {modality!r}; rename or remove one"
                )
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{printable(path)}, row {reader.line_num}: {len(cells)} cells where the header has {len(header)}; "
                    "put names that contain commas into double quotes"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"{printable(path)}, row {reader.line_num}: {error}; check its double quotes") from error


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ImportError(
            f'{path} is a Parquet table, which pyarrow reads: pip install "snn-datasets[parquet]", or save it as CSV'
        ) from error
    try:
        table: Any = parquet.read_table(path)
        rows = cast("list[dict[str, Any]]", table.to_pylist())
    except (ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{printable(path)} cannot be read as a Parquet table: {error}; write it again") from error
    for number, row in enumerate(rows, start=1):
        yield number, {name: cell.strip() if isinstance(cell, str) else str(cell or "") for name, cell in row.items()}
