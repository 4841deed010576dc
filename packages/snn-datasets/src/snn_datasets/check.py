"""Whether a dataset on disk is what its card says: complete, undamaged, readable.

The files are looked at in three steps, each dearer than the one before: that they lie where they should and hold data
rather than a placeholder; that sizes, and hashes if asked for, are those published; that the readers can read them.
Layout, sizes and hashes need no torch.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from snn_datasets.card import DatasetCard, FileSet
from snn_datasets.copies import find_copies
from snn_datasets.dataset import SPLITS, DataSpec, FileDataSpec, Progress, Split
from snn_datasets.reader import ReadError, placeholder

if TYPE_CHECKING:
    from snn_datasets.modality import Modality
    from snn_datasets.recorded import RecordedDataset, Row
    from snn_datasets.recordings import Recording

T = TypeVar("T")

SOME = 32
"""Recordings of each modality that are read unless all are asked for."""
NAMED = 3
"""Missing or surplus files that a finding names before it only counts."""

FETCH_AGAIN = "fetch it again"
Severity = Literal["error", "warning", "note"]
"""error: the dataset cannot be used as it lies there; warning: it can, but is not the published one; note: a fact."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found about a dataset on disk."""

    severity: Severity
    path: Path | None
    """The file or folder it is about; None if it is about the whole."""
    problem: str
    """What is the matter, without the path."""
    advice: str = ""
    """What to do; empty for notes."""

    @property
    def fault(self) -> str:
        """The problem without what differs between files that have the same fault: numbers, hashes, quoted names."""
        return re.sub(r"'[^']*'|[0-9a-f,.]*\d[0-9a-f,.]*", "#", self.problem)

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        return f"{self.severity}: {where}{self.problem}" + (f"; {self.advice}" if self.advice else "")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """What the source of a dataset states of one file."""

    bytes: int
    sha256: str


def check(
    spec: DataSpec,
    *,
    hashes: bool = False,
    read: Literal["none", "some", "all"] = "some",
    progress: Progress | None = None,
) -> list[Finding]:
    """Look at a dataset on disk; whatever is wrong with it becomes a finding, never an exception.

    Args:
        spec: the dataset; only the files of the modalities that it asks for are looked at.
        hashes: whether every file with a published hash is read whole and compared.
        read: whether recordings are read and prepared as for training: none, 32 of each modality, or all.
        progress: called as `progress(done, total)`; the total grows when it turns out what there is to do.

    Raises:
        ValueError: the spec asks for a modality that the dataset does not have.
    """
    card = spec.card()
    if card.modalities:
        spec.selected_modalities()
    return list(_Check(spec, card, hashes, read, progress).run())


def summary(findings: Sequence[Finding]) -> str:
    """How many errors and warnings there are, in a sentence."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in ("error", "warning")}
    counted = [f"{count:,} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count]
    if not counted:
        return "nothing wrong was found"
    return " and ".join(counted) + (" were" if sum(counts.values()) > 1 else " was") + " found"


@cache
def published_table(name: str) -> Mapping[str, PublishedFile]:
    """A packaged table of what a source states of its files, by file name relative to the root."""
    packed = resources("snn_datasets").joinpath("checksums", f"{name}.csv.gz").read_bytes()
    rows = csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8"), newline=""))
    return {row["file"]: PublishedFile(int(row["bytes"]), row["sha256"]) for row in rows}


class _Check:
    """One run of `check`."""

    def __init__(
        self,
        spec: DataSpec,
        card: DatasetCard,
        hashes: bool,
        read: Literal["none", "some", "all"],
        progress: Progress | None,
    ) -> None:
        self.spec, self.card, self.hashes, self.read, self.progress = spec, card, hashes, read, progress
        self.bad: set[Path] = set()
        """Files that were found wanting, so that nothing is said of them twice."""
        self.incomplete = False
        """Whether files were found missing or wanting."""
        self.done = self.total = 0

    def run(self) -> Iterator[Finding]:
        if isinstance(self.spec, FileDataSpec):
            root = self.spec.root.expanduser()
            if not root.is_dir():
                what = "is a file, not a folder" if root.is_file() else "is not there"
                yield Finding("error", root, what, self._how_to_get())
                return
            for files in self.card.files:
                if not files.modalities or set(files.modalities) & set(self.spec.selected_modalities()):
                    for finding in self._files(root, files):
                        self.incomplete |= finding.severity == "error"
                        yield finding
        if self.read != "none":
            yield from self._recordings()
        elif isinstance(self.spec, FileDataSpec):
            yield from self._tables(self.spec)

    def _how_to_get(self) -> str:
        """Where files are from and how they must lie; in full only once."""
        if self.incomplete:
            return "fetch them too"
        sources = "\n".join(f"  from {source}" for source in self.card.sources)
        return f"get them\n{sources}\nwhich have to lie there as\n{self.card.layout()}"

    # Files as files

    def _files(self, root: Path, files: FileSet) -> Iterator[Finding]:
        try:
            found = sorted(path for path in root.glob(files.pattern) if path.is_file())
            if not found:
                yield self._none(root, files)
                return
        except OSError as error:
            yield Finding("error", root, f"{files.pattern} cannot be looked at: {error}", "allow reading it")
            return
        names = {path: path.relative_to(root).as_posix() for path in found}
        names = {path: files.former_names.get(name, name) for path, name in names.items()}
        yield Finding("note", None, f"{len(found):,} files {files.pattern} ({files.what})")
        yield from self._completeness(root, files, set(names.values()))
        table = _published(files)
        self.total += len(found)
        compared = 0
        for path, name in names.items():
            self._step()
            finding = self._one(path, files, name, table.get(name))
            if finding is not None:
                self.bad.add(path)
                yield finding
            compared += name in table or name in files.sha256 or name in files.md5
        if self.hashes and compared:
            yield Finding("note", None, f"{compared:,} files {files.pattern} were compared with published hashes")
        elif self.hashes:
            yield Finding("note", None, f"no hashes are published for the files {files.pattern}")

    def _none(self, root: Path, files: FileSet) -> Finding:
        if not files.required:
            return Finding("note", None, f"no files {files.pattern} ({files.what}); they are not required")
        if near := _place_nearby(root, files.pattern):
            return Finding("error", root, f"holds no {files.pattern}, but {near} does", f"give {near} as the root")
        missing = _first_missing_folder(root, files.pattern)
        if missing is None:
            return Finding("error", root, f"holds no files {files.pattern} ({files.what})", self._how_to_get())
        same = [other.name for other in missing.parent.iterdir() if other.name.lower() == missing.name.lower()]
        if same:
            return Finding("error", missing, f"is not there, but {same[0]} is", "rename it: upper and lower case count")
        return Finding(
            "error", missing, f"is not there; {files.pattern} ({files.what}) belong there", self._how_to_get()
        )

    def _completeness(self, root: Path, files: FileSet, names: set[str]) -> Iterator[Finding]:
        if known := set(_published(files)):
            if missing := sorted(known - names):
                what = f"{len(missing):,} published files are missing: {_some(missing)}"
                yield Finding("warning", root, what, "fetch the rest")
            if foreign := sorted(names - known):
                yield Finding("note", root, f"{len(foreign):,} files are none of the published ones: {_some(foreign)}")
        elif files.count is not None and len(names) != files.count:
            yield Finding(
                "warning",
                root,
                f"{len(names):,} files {files.pattern}, where the complete dataset has {files.count:,}",
                "fetch the rest" if len(names) < files.count else "remove what does not belong there",
            )

    def _one(self, path: Path, files: FileSet, name: str, published: PublishedFile | None) -> Finding | None:
        """What is the matter with one file, if anything."""
        try:
            if problem := placeholder(path):
                what, _, advice = problem.partition("; ")
                return Finding("error", path, what, advice)
            size = path.stat().st_size
            if published is not None and size != published.bytes:
                short = size < published.bytes
                what = (
                    f"has {size:,} of {published.bytes:,} bytes"
                    if short
                    else f"has {size:,} bytes, not {published.bytes:,}"
                )
                why = "the download was cut off" if short else "it is another version or was changed"
                return Finding("error", path, f"{what}: {why}", FETCH_AGAIN)
            if not self.hashes:
                return None
            for algorithm, known in (
                ("sha256", files.sha256.get(name) or (published.sha256 if published is not None else None)),
                ("md5", files.md5.get(name)),
            ):
                if known is not None and known.lower() != _hash(path, algorithm):
                    what = f"its {algorithm.upper()} is not the published {known[:12]}...: it is damaged or was changed"
                    return Finding("error", path, what, FETCH_AGAIN)
        except OSError as error:
            return Finding("error", path, f"cannot be opened: {error.strerror}", "allow reading it")
        return None

    def _tables(self, spec: FileDataSpec) -> Iterator[Finding]:
        """What lists the recordings, without any of them."""
        try:
            for note in spec.check_tables():
                yield Finding("note", None, note)
        except Exception as error:
            yield _failure(None, "the dataset cannot be opened", error)

    # Files as recordings

    def _recordings(self) -> Iterator[Finding]:
        from snn_datasets.recorded import RecordedDataset

        spec = self.spec
        if isinstance(spec, FileDataSpec):
            # A cache would answer for the files, and fill the disk.
            spec = spec.model_copy(update={"cache": "off"})
        try:
            splits = spec.build()
        except Exception as error:
            if self.incomplete and isinstance(error, ReadError | FileNotFoundError):
                # It fails over what was told already.
                yield Finding("note", None, "no recording was read, since the dataset cannot be opened like this")
            else:
                yield _failure(None, "the dataset cannot be opened", error)
            return
        sizes = {split: len(getattr(splits, split)) for split in SPLITS}
        yield Finding("note", None, "samples: " + ", ".join(f"{size:,} {split}" for split, size in sizes.items()))
        for note in splits.info.notes:
            yield Finding("note", None, note)
        for split, size in sizes.items():
            if size == 0:
                yield Finding("error", None, f"no sample belongs to the split {split}", "fetch the rest of the dataset")
        recorded: dict[Split, RecordedDataset] = {
            split: dataset for split in SPLITS if isinstance(dataset := getattr(splits, split), RecordedDataset)
        }
        for name in next(iter(recorded.values())).modalities if recorded else ():
            yield from self._modality(name, list(recorded.values()))
            yield from _shared_contents(name, recorded)

    def _modality(self, name: str, datasets: Sequence[RecordedDataset]) -> Iterator[Finding]:
        rows = [(row, dataset) for dataset in datasets for row in dataset.rows]
        there = {source: (row, dataset) for row, dataset in rows if (source := row.sources[name]) is not None}
        blank: list[tuple[Path, str, str]] = []
        chosen = list(there.items()) if self.read == "all" else _spread(list(there.items()), SOME)
        self.total += len(chosen)
        for number, (source, (row, dataset)) in enumerate(chosen):
            self._step()
            if source.path in self.bad:
                continue
            try:
                why = _try(row, name, dataset.modalities[name], dataset.seed)
                if why:
                    blank.append((source.path, row.id, why))
            except ImportError as error:
                self.total -= len(chosen) - number - 1
                yield _failure(None, f"{name} cannot be read", error)
                return
            except Exception as error:
                self.bad.add(source.path)
                yield _failure(source.path, f"{name} of sample {row.id!r} cannot be read", error)
        for path, sample, why in blank:
            yield Finding("warning", path, f"{name} of sample {sample!r} {why}", "replace the file, or empty its cell")
        absent = sum(row.sources[name] is None for row, _ in rows)
        if absent:
            yield Finding("note", None, f"{absent:,} of {len(rows):,} samples have no {name}")
        yield Finding("note", None, f"{len(chosen):,} of {len(there):,} recordings of {name} were read")

    def _step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _try(row: Row, name: str, modality: Modality, seed: int) -> str:
    """Make one recording ready for a model, as a training would; why nothing of it reaches the model, if so."""
    from snn_datasets.stage import Draw

    source = row.sources[name]
    assert source is not None
    draw = Draw(seed, row.id, name)
    value = modality.encode_input(modality.load(source, draw), draw, augmented=False)
    zeros = not bool(value.any())
    # Channels that cancel leave rounding errors behind, which then look like sound.
    return _why_blank(modality.reader.read(source), zeros) if zeros or modality.reader.gives == "waveform" else ""


def _why_blank(recording: Recording, zeros: bool) -> str:
    """What is the matter with a recording of which a model sees nothing; empty if it may be so.

    Args:
        recording: as its reader gives it.
        zeros: whether the model's input is zero throughout.
    """
    import numpy as np

    from snn_datasets.recordings import Events, Image, Series, Waveform

    match recording:
        case Image():
            return ""  # a black picture is one
        case Waveform():
            samples = recording.samples.astype(np.float64)
            if not samples.any():
                return "is silent: a model sees zeros"
            if len(samples) > 1 and np.abs(samples.mean(0)).max() < 1e-3 * np.abs(samples).max():
                return "has channels that cancel each other when they are mixed: nothing of it reaches a model"
            return "has no contrast, such as a constant: a model sees zeros" if zeros else ""
        case Events():
            return "has no events: a model sees zeros" if not len(recording) else ""
        case Series():
            return "" if not recording.values.any() else "equals the training mean throughout: a model sees zeros"
        case _:
            return ""


def _shared_contents(name: str, datasets: Mapping[Split, RecordedDataset]) -> Iterator[Finding]:
    """Whether files of two splits are copies of each other; one file in two splits is told when it is opened."""
    paths: dict[Split, list[Path]] = {
        split: [source.path for row in dataset.rows if (source := row.sources[name]) is not None and not source.part]
        for split, dataset in datasets.items()
    }
    if pairs := find_copies(paths):
        count = len(pairs)
        yield Finding(
            "warning",
            pairs[0][1],
            f"{count:,} file{'s' * (count > 1)} of {name} {'are copies' if count > 1 else 'is a copy'} of a file of "
            f"another split, the first of {pairs[0][0]}: accuracy on such splits is too good",
            "remove the copies, or keep them in one split",
        )


def _failure(path: Path | None, what: str, error: Exception) -> Finding:
    """An exception in words. What is neither the file's fault nor the user's is told as the defect that it is."""
    text = str(error)
    if path is not None:
        # Readers begin with the path, which a finding tells already.
        text = text.removeprefix(str(path)).lstrip(": ")
    if isinstance(error, FileNotFoundError) and path is not None:
        return Finding("error", path, "is not there", FETCH_AGAIN)
    if isinstance(error, ReadError | FileNotFoundError):
        return Finding("error", path, text, "" if ";" in text else FETCH_AGAIN)
    if isinstance(error, ValueError | OSError | ImportError):
        return Finding("error", path, f"{what}: {text}")
    kind = type(error).__name__
    return Finding("error", path, f"{what}: {kind}: {text}", "this is a defect of the dataset's code: please report it")


def _spread(items: list[T], count: int) -> list[T]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def _published(files: FileSet) -> dict[str, PublishedFile]:
    """What is stated of each file of a set; empty if nothing is."""
    if files.checksums is None:
        return {}
    # Unlike in a glob, a star stands for folders too; no table lists files of one ending at two depths.
    pattern = files.pattern.replace("**/", "*")
    return {name: said for name, said in published_table(files.checksums).items() if fnmatchcase(name, pattern)}


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _first_missing_folder(root: Path, pattern: str) -> Path | None:
    """The topmost folder that the pattern names and that is not there; None if all are, or none is named."""
    folder = root
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in "*?["):
            return None
        folder = folder / part
        if not folder.is_dir():
            return folder
    return None


def _place_nearby(root: Path, pattern: str) -> Path | None:
    """A folder right above or below the root that holds such files: the root is often given one folder off."""
    first, *rest = Path(pattern).parts
    if not rest or first == "**":
        return None  # of files in no folder of their own, too many might match
    folders = [root.absolute().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
    return next((folder for folder in folders if next(folder.glob(pattern), None)), None)
