"""Find the inputs of `scmrl predict`: manifests, folders and files become clips with a file per modality.

Opens manifests, but no recordings.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from scmrl.console.printable import printable
from snn_datasets.base.kinds import KIND_OF
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import Reader
from snn_datasets.base.stage import Stage
from snn_datasets.formats.contents import kinds_of
from snn_datasets.manifest.table import has_columns, read_cells
from snn_datasets.modalities.audio import WaveformReader
from snn_datasets.modalities.images import ImageReader
from snn_datasets.modalities.video import FirstFrame, SoundtrackReader, VideoReader


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

    `modality=path` pairs form one clip and exclude other arguments. Otherwise each argument is a manifest (a table
    as for training, with columns named after modalities; other columns are ignored), a folder, or a file. A file is
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
        elif has_columns(path, modalities):
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


def _clips_of_manifest(path: Path, modalities: Mapping[str, Modality], root: Path) -> Iterator[Clip]:
    try:
        table = read_cells(path, (*modalities, "sample_id"))
    except ValueError as error:
        raise ValueError(printable(error)) from error
    for modality in modalities:
        if modality in table.unreadable:
            raise ValueError(
                f"{printable(path)}, {table.head}: column {modality!r} holds {table.unreadable[modality]}, not file "
                "names"
            )
    for number, cells in table.rows:
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


def _is_inside(file: Path, root: Path) -> bool:
    try:
        return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):
        return False
