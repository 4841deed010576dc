"""Finding what to predict: manifests, folders and single files become clips, each a file for some of the modalities.

Opens manifests and no recordings.
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

from scmrl.printable import printable
from snn_datasets.audio import WaveformReader
from snn_datasets.contents import kinds_of
from snn_datasets.images import ImageReader
from snn_datasets.kinds import KIND_OF
from snn_datasets.modality import Modality
from snn_datasets.reader import Reader
from snn_datasets.stage import Stage
from snn_datasets.video import SoundtrackReader, Still, VideoReader

HEADER_BYTES = 2**16
"""Of a CSV file, read to tell whether it is a manifest."""


@dataclass(frozen=True)
class Clip:
    """One thing to predict."""

    id: str
    """As it is shown."""
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    """Modality -> its file; the others are absent."""
    fault: str = ""
    """Why it cannot be predicted; empty if it may be."""


def find_clips(what: Sequence[str], modalities: Mapping[str, Modality], root: Path | None = None) -> Iterator[Clip]:
    """The clips that arguments name.

    `modality=path` for one or several modalities is one clip, and then all arguments are such pairs. Otherwise each is
    a manifest (a CSV file or Parquet table with columns named after modalities; nothing else is read of it), a folder,
    or a file. Files are taken for a modality by the ending of their names, and by a folder named after it where several
    would take them; those that differ in nothing but the ending and such folders belong together. A video gives
    pictures and sound to the modalities for which there is no file of their own.

    Args:
        what: the arguments.
        modalities: of the run.
        root: folder that relative names of manifests start from; none: that of the manifest.

    Raises:
        ValueError: pairs that make no clip, a folder without any file, or a manifest that cannot be understood.
    """
    pairs = [pair for argument in what if (pair := _pair(argument, modalities)) is not None]
    if pairs:
        if len(pairs) < len(what):
            raise ValueError("modality=path pairs are one clip and stand alone; give files and folders in another call")
        yield _one_clip(pairs)
        return
    single: list[tuple[Path, PurePath]] = []
    for argument in what:
        path = Path(argument)
        if path.is_dir():
            yield from _of_folder(path, modalities)
        elif not path.is_file():
            reason = f"there is no such file or folder; for one modality's file write {next(iter(modalities))}=path"
            yield Clip(printable(argument), fault=reason)
        elif _is_manifest(path, modalities):
            yield from _of_manifest(path, modalities, root or path.parent)
        elif not _takers(path, modalities):
            reason = (
                f"no modality of this run takes a file that ends so ({_kinds(modalities)}), and it is no manifest, "
                "whose header would name modalities; say what it is with modality=path"
            )
            yield Clip(printable(argument), fault=reason)
        else:
            single.append((path, PurePath(path)))
    yield from _together(single, modalities)


def how_to_read(reader: Reader, path: Path) -> tuple[Reader, tuple[Stage, ...]]:
    """What reads a file for a modality, and what has to come before the stages of preparation.

    It is the modality's reader, except that videos give stills and soundtracks to what was trained on pictures and
    sound files, and sound files go to what was trained on soundtracks.
    """
    kind = KIND_OF.get(path.suffix.lower())
    if kind == "video" and type(reader) is ImageReader:
        return VideoReader(frames=1, channels=reader.channels or 3), (Still(),)
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


def _one_clip(pairs: Sequence[tuple[str, Path]]) -> Clip:
    files = dict(pairs)
    if len(files) < len(pairs):
        raise ValueError(f"a modality is given twice among {', '.join(name for name, _ in pairs)}; give each once")
    return Clip("+".join(printable(path) for path in files.values()), files)


def _of_folder(folder: Path, modalities: Mapping[str, Modality]) -> Iterator[Clip]:
    """Clips of all files below a folder that some modality takes; hidden ones are left out."""
    found: list[tuple[Path, PurePath]] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and _takers(path, modalities):
                found.append((path, path.relative_to(folder)))
    if not found:
        raise ValueError(
            f"the folder {printable(folder)} holds no file that a modality of this run takes ({_kinds(modalities)})"
        )
    yield from _together(found, modalities)


def _together(found: Iterable[tuple[Path, PurePath]], modalities: Mapping[str, Modality]) -> Iterator[Clip]:
    """Clips of files, each given with its path for people; what belongs together becomes one."""
    groups: defaultdict[str, list[tuple[Path, PurePath]]] = defaultdict(list)
    for path, name in found:
        parts = [part for part in name.parent.parts if part not in modalities]
        groups[str(PurePath(*parts, name.stem))].append((path, name))
    for id_, members in groups.items():
        files: dict[str, Path] = {}
        fault = ""
        # A file made for one modality goes before a video, which may serve several.
        for path, name in sorted(members, key=lambda member: KIND_OF[member[0].suffix.lower()] == "video"):
            takers = _takers(path, modalities)
            named = [modality for modality in takers if modality in name.parent.parts]
            if KIND_OF[path.suffix.lower()] == "video" and not named:
                by_kind: defaultdict[str, list[str]] = defaultdict(list)
                for modality in takers:
                    by_kind[modalities[modality].reader.gives].append(modality)
                if all(len(alike) == 1 for alike in by_kind.values()):
                    named = [modality for modality in takers if modality not in files]
            elif not named:
                named = takers if len(takers) == 1 else []
            if not named:
                fault = fault or f"{printable(path)} may be {' or '.join(takers)}: say which with modality=path"
            for modality in named:
                if modality in files:
                    fault = fault or f"both {printable(files[modality])} and {printable(path)} are there for {modality}"
                files.setdefault(modality, path)
        yield Clip(printable(id_), files, fault)


def _takers(path: Path, modalities: Mapping[str, Modality]) -> list[str]:
    """The modalities that take a file, by the ending of its name, or by its content where that does not tell."""
    kinds = kinds_of(path)
    return [name for name, m in modalities.items() if not set(kinds).isdisjoint(taken(m.reader))]


def taken(reader: Reader) -> tuple[str, ...]:
    """Kinds of files that a reader's modality takes: its own, and videos for pictures and for sound."""
    if type(reader) in (ImageReader, WaveformReader, SoundtrackReader):
        return reader.gives, "video"
    return (reader.gives,)


def _kinds(modalities: Mapping[str, Modality]) -> str:
    return ", ".join(f"{name}: {' or '.join(taken(modality.reader))}" for name, modality in modalities.items())


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


def _of_manifest(path: Path, modalities: Mapping[str, Modality], root: Path) -> Iterator[Clip]:
    rows = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, modalities)
    empty = True
    for number, cells in rows:
        empty = False
        names = {name: cells[name] for name in modalities if cells.get(name)}
        id_ = printable(cells.get("sample_id") or "+".join(names.values()) or f"row {number}")
        fault, files = "", dict[str, Path]()
        for modality, name in names.items():
            file = Path(root, name)
            if "\0" in name:
                fault = f"{modality} {printable(name)!r}: no file name holds a zero byte"
            elif not Path(name).is_absolute() and not _inside(file, root):
                fault = (
                    f"{modality} {printable(name)!r}: the name leads out of {printable(root)}; "
                    "--root names another folder"
                )
            files[modality] = file
        if not names:
            fault = f"its cells for {', '.join(modalities)} are empty"
        yield Clip(id_, files, f"{printable(path)}, row {number}: {fault}" if fault else "")
    if empty:
        raise ValueError(f"{printable(path)} has no rows; write one a clip, below a header that names modalities")


def _inside(file: Path, root: Path) -> bool:
    try:
        return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):
        return False


def _csv(path: Path, modalities: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
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


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
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
