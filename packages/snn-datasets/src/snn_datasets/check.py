"""Check that a dataset on disk is complete, undamaged and readable.

Three steps, each more expensive than the one before: files are in the expected folders and are not placeholders; sizes,
and checksums if requested, match the published ones; readers can read the files. The first two need no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from snn_datasets.base.card import DatasetCard, FileSet
from snn_datasets.base.dataset import SPLITS, DataSpec, FileDataSpec, ReportProgress, Split
from snn_datasets.base.reader import ReadError, placeholder
from snn_datasets.loading.copies import find_copies
from snn_datasets.loading.packaged import PublishedFile, published_table

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.base.recordings import Recording
    from snn_datasets.loading.recorded import RecordedDataset, Row

T = TypeVar("T")

SAMPLE_SIZE = 32
"""Recordings of each modality that `read="some"` reads."""
MAX_NAMES = 3
"""Missing or unknown files that a finding names; more are only counted."""

FETCH_AGAIN = "fetch it again"
Severity = Literal["error", "warning", "note"]
"""error: the dataset is not usable; warning: it is usable, but differs from the published one; note: a fact."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check."""

    severity: Severity
    path: Path | None
    """The file or folder concerned; None for the whole dataset."""
    problem: str
    """The problem, without the path."""
    advice: str = ""
    """What to do; empty for notes."""

    @property
    def fault(self) -> str:
        """The problem with numbers, checksums and quoted names masked, so that equal faults of several files group."""
        return re.sub(r"'[^']*'|[0-9a-f,.]*\d[0-9a-f,.]*", "#", self.problem)

    def __str__(self) -> str:
        prefix = "" if self.path is None else f"{self.path}: "
        return f"{self.severity}: {prefix}{self.problem}" + (f"; {self.advice}" if self.advice else "")


def check(
    spec: DataSpec,
    *,
    hashes: bool = False,
    read: Literal["none", "some", "all"] = "some",
    progress: ReportProgress | None = None,
) -> list[Finding]:
    """Check a dataset on disk. Every problem becomes a finding, never an exception.

    Args:
        spec: the dataset; only files of its selected modalities are checked.
        hashes: verify the checksum of every file for which one is published.
        read: read and prepare recordings as for training: none, 32 of each modality, or all.
        progress: called as `progress(done, total)`; the total grows as the work becomes known.

    Raises:
        ValueError: the spec selects a modality that the dataset does not have.
    """
    card = spec.card
    if card.modalities:
        spec.selected_modalities()
    return list(_Check(spec, card, hashes, read, progress).run())


def summary(findings: Sequence[Finding]) -> str:
    """Count errors and warnings in a sentence."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in ("error", "warning")}
    counted = [f"{count:,} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count]
    if not counted:
        return "no problems"
    return " and ".join(counted)


class _Check:
    """One run of `check`."""

    def __init__(
        self,
        spec: DataSpec,
        card: DatasetCard,
        hashes: bool,
        read: Literal["none", "some", "all"],
        progress: ReportProgress | None,
    ) -> None:
        self.spec, self.card, self.hashes, self.read, self.progress = spec, card, hashes, read, progress
        self.bad: set[Path] = set()
        """Files with a finding, so that none is reported twice."""
        self.incomplete = False
        """Whether files are missing or damaged."""
        self.done = self.total = 0

    def run(self) -> Iterator[Finding]:
        if isinstance(self.spec, FileDataSpec):
            root = self.spec.root.expanduser()
            if not root.is_dir():
                problem = "is a file, not a folder" if root.is_file() else "does not exist"
                yield Finding("error", root, problem, self._fetch_advice())
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

    def _fetch_advice(self) -> str:
        """Return sources and expected layout; the full text only once."""
        if self.incomplete:
            return "fetch them too"
        sources = "\n".join(f"  from {source}" for source in self.card.sources)
        return f"fetch the files\n{sources}\ninto this layout\n{self.card.layout()}"

    # Layout, sizes and checksums

    def _files(self, root: Path, files: FileSet) -> Iterator[Finding]:
        try:
            paths = sorted(path for path in root.glob(files.pattern) if path.is_file())
            if not paths:
                yield self._no_files(root, files)
                return
        except OSError as error:
            yield Finding("error", root, f"cannot list {files.pattern}: {error}", "grant read access")
            return
        names = {path: path.relative_to(root).as_posix() for path in paths}
        names = {path: files.former_names.get(name, name) for path, name in names.items()}
        yield Finding("note", None, f"{len(paths):,} files {files.pattern} ({files.what})")
        yield from self._completeness(root, files, set(names.values()))
        table = _published(files)
        self.total += len(paths)
        compared = 0
        for path, name in names.items():
            self._step()
            finding = self._file(path, files, name, table.get(name))
            if finding is not None:
                self.bad.add(path)
                yield finding
            compared += name in table or name in files.sha256 or name in files.md5
        if self.hashes and compared:
            yield Finding("note", None, f"verified {compared:,} checksums of {files.pattern}")
        elif self.hashes:
            yield Finding("note", None, f"no checksums are published for {files.pattern}")

    def _no_files(self, root: Path, files: FileSet) -> Finding:
        if not files.required:
            return Finding("note", None, f"no files {files.pattern} ({files.what}); they are optional")
        if near := _nearby_root(root, files.pattern):
            return Finding("error", root, f"has no {files.pattern}, but {near} has", f"use {near} as the root")
        missing = _first_missing_folder(root, files.pattern)
        if missing is None:
            return Finding("error", root, f"has no files {files.pattern} ({files.what})", self._fetch_advice())
        same = [other.name for other in missing.parent.iterdir() if other.name.lower() == missing.name.lower()]
        if same:
            return Finding(
                "error", missing, f"does not exist, but {same[0]} does", "rename it: names are case sensitive"
            )
        return Finding(
            "error", missing, f"does not exist; {files.pattern} ({files.what}) belong there", self._fetch_advice()
        )

    def _completeness(self, root: Path, files: FileSet, names: set[str]) -> Iterator[Finding]:
        if known := set(_published(files)):
            if missing := sorted(known - names):
                problem = f"{len(missing):,} published files are missing: {_examples(missing)}"
                yield Finding("warning", root, problem, "fetch the rest")
            if unknown := sorted(names - known):
                yield Finding("note", root, f"{len(unknown):,} files are not among the published: {_examples(unknown)}")
        elif files.count is not None and len(names) != files.count:
            yield Finding(
                "warning",
                root,
                f"{len(names):,} files {files.pattern}, but the complete dataset has {files.count:,}",
                "fetch the rest" if len(names) < files.count else "remove files that do not belong there",
            )

    def _file(self, path: Path, files: FileSet, name: str, published: PublishedFile | None) -> Finding | None:
        """Check size and checksum of one file; None if it is sound."""
        try:
            if problem := placeholder(path):
                problem, _, advice = problem.partition("; ")
                return Finding("error", path, problem, advice)
            size = path.stat().st_size
            if published is not None and size != published.bytes:
                truncated = size < published.bytes
                problem = (
                    f"has {size:,} of {published.bytes:,} bytes: the download was cut off"
                    if truncated
                    else f"has {size:,} bytes, not {published.bytes:,}: it is another version or was changed"
                )
                return Finding("error", path, problem, FETCH_AGAIN)
            if not self.hashes:
                return None
            for algorithm, known in (
                ("sha256", files.sha256.get(name) or (published.sha256 if published is not None else None)),
                ("md5", files.md5.get(name)),
            ):
                if known is not None and known.lower() != _hash(path, algorithm):
                    problem = f"its {algorithm.upper()} is not the published {known[:12]}...: it is damaged or changed"
                    return Finding("error", path, problem, FETCH_AGAIN)
        except OSError as error:
            return Finding("error", path, f"cannot be opened: {error.strerror}", "grant read access")
        return None

    def _tables(self, spec: FileDataSpec) -> Iterator[Finding]:
        """Check the tables that list recordings, without opening a recording."""
        try:
            for note in spec.check_tables():
                yield Finding("note", None, note)
        except Exception as error:
            yield _failure(None, "the dataset cannot be opened", error)

    # Recordings

    def _recordings(self) -> Iterator[Finding]:
        from snn_datasets.loading.recorded import RecordedDataset

        spec = self.spec
        if isinstance(spec, FileDataSpec):
            # A cache would be read in place of the files, or fill the disk.
            spec = spec.model_copy(update={"cache": "off"})
        try:
            splits = spec.build()
        except Exception as error:
            if self.incomplete and isinstance(error, ReadError | FileNotFoundError):
                # The cause is already among the findings.
                yield Finding("note", None, "no recording was read, because the dataset cannot be opened")
            else:
                yield _failure(None, "the dataset cannot be opened", error)
            return
        sizes = {split: len(getattr(splits, split)) for split in SPLITS}
        yield Finding("note", None, "samples: " + ", ".join(f"{size:,} {split}" for split, size in sizes.items()))
        for note in splits.info.notes:
            yield Finding("note", None, note)
        for split, size in sizes.items():
            if size == 0:
                yield Finding("error", None, f"the split {split} has no samples", "fetch the rest of the dataset")
        recorded: dict[Split, RecordedDataset] = {
            split: dataset for split in SPLITS if isinstance(dataset := getattr(splits, split), RecordedDataset)
        }
        for name in next(iter(recorded.values())).modalities if recorded else ():
            yield from self._modality(name, list(recorded.values()))
            yield from _shared_contents(name, recorded)

    def _modality(self, name: str, datasets: Sequence[RecordedDataset]) -> Iterator[Finding]:
        rows = [(row, dataset) for dataset in datasets for row in dataset.rows]
        recordings = {source: (row, dataset) for row, dataset in rows if (source := row.sources[name]) is not None}
        blank: list[tuple[Path, str, str]] = []
        selected = list(recordings.items())
        if self.read == "some":
            selected = _spread(selected, SAMPLE_SIZE)
        self.total += len(selected)
        for number, (source, (row, dataset)) in enumerate(selected):
            self._step()
            if source.path in self.bad:
                continue
            try:
                reason = _blank_reason(row, name, dataset.modalities[name], dataset.seed)
                if reason:
                    blank.append((source.path, row.id, reason))
            except ImportError as error:
                self.total -= len(selected) - number - 1
                yield _failure(None, f"{name} cannot be read", error)
                return
            except Exception as error:
                self.bad.add(source.path)
                yield _failure(source.path, f"{name} of sample {row.id!r} cannot be read", error)
        for path, sample, reason in blank:
            problem = f"{name} of sample {sample!r} {reason}"
            yield Finding("warning", path, problem, "replace the file, or empty its cell")
        absent = sum(row.sources[name] is None for row, _ in rows)
        if absent:
            yield Finding("note", None, f"{absent:,} of {len(rows):,} samples have no {name}")
        yield Finding("note", None, f"{len(selected):,} of {len(recordings):,} recordings of {name} were read")

    def _step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _blank_reason(row: Row, name: str, modality: Modality, seed: int) -> str:
    """Prepare one recording as for training; return why the model's input carries no signal, or an empty string."""
    from snn_datasets.base.stage import Draw

    source = row.sources[name]
    assert source is not None
    draw = Draw(seed, row.id, name)
    value = modality.encode_input(modality.load(source, draw), draw, augmented=False)
    zeros = not bool(value.any())
    # Channels that cancel leave rounding errors, so the input of a silent waveform may be nonzero.
    return _describe_blank(modality.reader.read(source), zeros) if zeros or modality.reader.gives == "waveform" else ""


def _describe_blank(recording: Recording, zeros: bool) -> str:
    """Say why a recording gives a model no signal; an empty string if that is normal.

    Args:
        recording: as read, before any stage.
        zeros: whether the model's input is zero throughout.
    """
    import numpy as np

    from snn_datasets.base.recordings import Events, Image, Series, Waveform

    match recording:
        case Image():
            return ""  # a black image is valid
        case Waveform():
            samples = recording.samples.astype(np.float64)
            if not samples.any():
                return "is silent: the model's input is zero"
            if len(samples) > 1 and np.abs(samples.mean(0)).max() < 1e-3 * np.abs(samples).max():
                return "has channels that cancel when mixed to mono: no signal is left"
            return "is constant: the model's input is zero" if zeros else ""
        case Events():
            return "has no events: the model's input is zero" if not len(recording) else ""
        case Series():
            return "" if not recording.values.any() else "equals the training mean: the model's input is zero"
        case _:
            return ""


def _shared_contents(name: str, datasets: Mapping[Split, RecordedDataset]) -> Iterator[Finding]:
    """Warn if files of two splits are copies. The same file in two splits is reported when the dataset is opened."""
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
            f"another split, the first of {pairs[0][0]}: accuracy on these splits is inflated",
            "remove the copies, or keep them in one split",
        )


def _failure(path: Path | None, context: str, error: Exception) -> Finding:
    """Turn an exception into a finding. Unexpected types are reported as a bug in the dataset's code."""
    text = str(error)
    if path is not None:
        # Readers begin with the path, which the finding already names.
        text = text.removeprefix(str(path)).lstrip(": ")
    if isinstance(error, FileNotFoundError) and path is not None:
        return Finding("error", path, "does not exist", FETCH_AGAIN)
    if isinstance(error, ReadError | FileNotFoundError):
        return Finding("error", path, text, "" if ";" in text else FETCH_AGAIN)
    if isinstance(error, ValueError | OSError | ImportError):
        return Finding("error", path, f"{context}: {text}")
    kind = type(error).__name__
    return Finding("error", path, f"{context}: {kind}: {text}", "this is a bug in the dataset's code: please report it")


def _spread(items: list[T], count: int) -> list[T]:
    """Select at most `count` items, evenly spaced, including the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _published(files: FileSet) -> dict[str, PublishedFile]:
    """Return published sizes and checksums by file name; empty if there are none."""
    if files.checksums is None:
        return {}
    # Unlike in a glob, a star matches folders too; no table lists files with one ending at two depths.
    pattern = files.pattern.replace("**/", "*")
    return {name: entry for name, entry in published_table(files.checksums).items() if fnmatchcase(name, pattern)}


def _examples(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _first_missing_folder(root: Path, pattern: str) -> Path | None:
    """Return the topmost folder in the pattern that does not exist; None if all exist or there is none."""
    folder = root
    for part in Path(pattern).parts[:-1]:
        if any(wildcard in part for wildcard in "*?["):
            return None
        folder = folder / part
        if not folder.is_dir():
            return folder
    return None


def _nearby_root(root: Path, pattern: str) -> Path | None:
    """Search the folders directly above and below the root, because a given root is often one level off."""
    first, *rest = Path(pattern).parts
    if not rest or first == "**":
        return None  # a pattern without a folder name would match too much
    folders = [root.absolute().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
    return next((folder for folder in folders if next(folder.glob(pattern), None)), None)
