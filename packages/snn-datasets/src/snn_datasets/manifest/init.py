"""Infer a first manifest from a folder of files. Does not import torch."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import get_args

from snn_datasets.base.dataset import SPLITS, Split
from snn_datasets.base.kinds import KIND_OF, RecordingKind
from snn_datasets.base.reader import placeholder
from snn_datasets.formats.contents import kinds_of, why_unreadable
from snn_datasets.loading.splits import carve_by_group, carve_by_sample
from snn_datasets.manifest.near_names import normalize_unicode, similar_labels
from snn_datasets.manifest.table import MODALITY_NAME, NAMES_OF_MODULES, RESERVED, SPLIT_NAMES

TEST_FRACTION = 0.2
"""Fraction of the samples marked test if no folders name the splits."""
MAX_EXAMPLES = 3
"""Examples that the summary names."""

MODALITY_WORDS = frozenset(
    {
        *("image", "img", "picture", "photo", "frame", "face", "visual", "vision", "rgb", "depth", "thermal"),
        *("audio", "sound", "wav", "wave", "speech", "voice", "video", "movie", "clip", "event", "dvs", "davis"),
        *("spike", "touch", "tactile", "taxel", "emg", "imu", "eeg", "ecg", "series", "signal", "sensor", "gas"),
        *("smell", "mic", "microphone", "camera", "cam"),
    }
)
"""Words in folder names that indicate a modality, in the singular."""
PEOPLE = re.compile(
    r"(actor|fold|id|p|participant|patient|person|s|session|speaker|spk|sub|subj|subject|user|writer)[ _-]*\d+", re.I
)
"""Typical folder names for one person or one session."""
WORD_AND_NUMBER = re.compile(r"(\D*[^\W\d_])[ _.\-]*\d+")
"""File names that contain a class: `cat_007`, `air conditioner 12`."""
KINDS: tuple[RecordingKind, ...] = get_args(RecordingKind)
COLUMN_OF: dict[RecordingKind, str] = {
    "image": "image", "video": "video", "waveform": "audio", "events": "events", "series": "series",
}  # fmt: skip
SKIPPED_ENDINGS = frozenset({".txt"})
"""Readable if a manifest names them, but usually notes when found in a folder."""


@dataclass(frozen=True)
class Guess:
    """The inferred structure of a folder; `str()` gives a summary for its owner."""

    manifest: Path
    """The written file."""
    layout: str
    """Meaning of the folder levels, such as "split / label / file"."""
    samples: int
    splits: dict[Split, int]
    """Samples by split."""
    labels: dict[str, int]
    """Samples by label."""
    columns: dict[str, RecordingKind]
    """Modality columns and the kind of their files."""
    files: dict[str, int]
    """Files by modality column; a sample without one has an empty cell."""
    skipped: dict[str, tuple[str, ...]]
    """Reason -> files that the manifest does not name."""
    notes: tuple[str, ...]
    """Assumptions to check."""

    def __str__(self) -> str:
        lines = [
            f"{self.manifest}: {self.samples} samples of {len(self.labels)} classes",
            f"  layout   {self.layout}",
            f"  split    {_counts((split, self.splits[split]) for split in SPLITS if split in self.splits)}",
            f"  label    {_counts(self.labels.items())}",
        ]
        for column, kind in self.columns.items():
            missing = self.samples - self.files[column]
            note = f", missing in {missing} sample{'s' * (missing > 1)}" if missing else ""
            lines.append(f"  {column:<8} {self.files[column]} {kind} files{note}")
        for reason, names in self.skipped.items():
            examples = ", ".join(names[:MAX_EXAMPLES]) + (", ..." if len(names) > MAX_EXAMPLES else "")
            lines.append(f"  skipped  {len(names)} because {reason}: {examples}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _counts(items: Iterable[tuple[str, int]]) -> str:
    every = [f"{name} {count}" for name, count in items]
    return ", ".join(every[:12]) + (f", and {len(every) - 12} more" if len(every) > 12 else "")


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    """Relative to the folder, with slashes."""
    folders: tuple[str, ...]
    stem: str
    kind: RecordingKind


@dataclass
class _Sample:
    folders: tuple[str, ...]
    """All but that of the modality; with the stem they identify the sample."""
    stem: str
    cells: dict[str, str] = field(default_factory=dict[str, str])
    split: Split | None = None
    label: str = ""
    group: str | None = None


class _Skipped(defaultdict[str, list[str]]):
    """Reason -> names of files."""

    def __init__(self) -> None:
        super().__init__(list)

    def filter(self, files: Sequence[_File], keep: Callable[[_File], bool], reason: str) -> list[_File]:
        """Return the files to keep; record the others under the reason."""
        for file in files:
            if not keep(file):
                self[reason].append(file.name)
        return [file for file in files if keep(file)]


def init_manifest(folder: Path, *, output: str | Path = "manifest.csv") -> Guess:
    """Write a manifest of the files under a folder, inferring its columns from folder and file names.

    Folders may name the split (train, val, test), the modality (images, sounds, ...), the label and a group, in any
    order. Files that differ only in modality or extension become one sample. If no folders name the splits, a fifth of
    the samples is marked test, in whole groups if there are groups; `ManifestSpec` carves validation out of training.
    Check the summary, `str(guess)`, and correct the file.

    Args:
        folder: root of the dataset.
        output: path of the manifest, relative to the folder unless absolute.

    Raises:
        FileExistsError: the output exists; nothing is overwritten.
        NotADirectoryError: the folder does not exist.
        ValueError: no files of known kinds, no recognizable labels, or a Parquet output.
    """
    folder = folder.expanduser()
    target = folder / Path(output).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give the folder of the files")
    if target.suffix.lower() == ".parquet":
        raise ValueError(f"{target}: only CSV is written; choose an output that ends in .csv")
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; remove it, or choose another output")
    skipped, notes = _Skipped(), list[str]()
    files = _files(folder, skipped)
    depth = Counter(len(file.folders) for file in files).most_common(1)[0][0]
    files = skipped.filter(files, lambda file: len(file.folders) == depth, "their folder depth differs from most")
    roles: dict[int, str] = {}

    split = _split_level(files, depth)
    if split is not None:
        roles[split] = "split"
        files = skipped.filter(
            files,
            lambda file: file.folders[split].lower() in SPLIT_NAMES,
            "they are outside the folders of the splits",
        )
    modality = _modality_level(files, [level for level in range(depth) if level not in roles])
    if modality is not None:
        roles[modality] = "modality"
    free = [
        level
        for level in range(depth)
        if level not in roles and len({file.folders[level] for file in files}) > 1  # a constant level is no label
    ]
    label, group = _label_and_group(files, free, notes)
    if label is not None:
        roles[label] = "label"
    if group is not None:
        roles[group] = "group"

    samples, columns = _samples(files, modality, skipped)
    for sample in samples:
        # A sample's folders lack the level of the modality, so levels below it move up by one.
        position = {level: level - (modality is not None and level > modality) for level in roles}
        sample.split = SPLIT_NAMES[sample.folders[position[split]].lower()] if split is not None else None
        sample.group = sample.folders[position[group]] if group is not None else None
        sample.label = sample.folders[position[label]] if label is not None else ""
    if label is None:
        _label_by_name(folder, samples)
        notes.append("labels are the first words of file names")
    if split is None:
        _assign_test(samples, notes)
    elif not any(sample.split == "test" for sample in samples):
        notes.append("there is no test folder; mark some rows test before training")

    for sample in samples:
        sample.label = normalize_unicode(sample.label)
    notes += similar_labels(sample.label for sample in samples)
    untrained = {sample.label for sample in samples} - {sample.label for sample in samples if sample.split == "train"}
    if untrained:
        notes.append(f"the label {min(untrained)!r} has no training sample; add some, or remove its rows")

    _write(folder, target, samples, list(columns), with_group=group is not None)
    levels = [roles.get(level, "folder") for level in range(depth)]
    return Guess(
        manifest=target,
        layout=" / ".join([*levels, "file" if label is not None else "label and number"]),
        samples=len(samples),
        splits=dict(Counter(sample.split for sample in samples if sample.split)),
        labels=dict(sorted(Counter(sample.label for sample in samples).items())),
        columns=columns,
        files={column: sum(column in sample.cells for sample in samples) for column in columns},
        skipped={reason: tuple(names) for reason, names in skipped.items()},
        notes=tuple(notes),
    )


def _files(folder: Path, skipped: _Skipped) -> list[_File]:
    """List the files of known kinds, sorted by name."""
    files: list[_File] = []
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        base = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in [name for name in folders if name.startswith(".") or (Path(parent) / name).is_symlink()]:
            folders.remove(name)
            reason = "they are hidden" if name.startswith(".") else "they are links to folders"
            skipped[reason].append(f"{base / name}/")
        for name in sorted(names):
            kind, reason = _detect_kind(Path(parent) / name)
            if kind is None:
                skipped[reason].append(str(base / name).encode("utf-8", "replace").decode())
            else:
                files.append(_File(str(base / name), base.parts, name[: -len(Path(name).suffix)], kind))
    for error in errors:
        skipped["their folder cannot be listed"].append(str(error.filename))
    if not files:
        known = " ".join(ending for ending in KIND_OF if ending not in SKIPPED_ENDINGS)
        raise ValueError(
            f"no file of a known kind in {folder} (known extensions: {known}); choose another folder, or write the "
            "manifest by hand and set readers for its columns"
        )
    return files


def _detect_kind(path: Path) -> tuple[RecordingKind | None, str]:
    """Return the kind of a file, or None and why it is skipped."""
    name, ending = path.name, path.suffix.lower()
    if name.startswith("."):
        return None, "they are hidden"
    if ending in SKIPPED_ENDINGS:
        return None, f"{ending} files are of no known kind"
    if ending not in KIND_OF:
        why = why_unreadable(path)
        if why is not None:
            return None, why.replace("it is", "no reader takes them: each is", 1)
        return None, f"{ending} files are of no known kind" if ending else "their names have no extension"
    if name != name.strip() or not name.isprintable() or not path.is_file():
        return None, "their names cannot be written in a table, or they are not files"
    try:
        problem = placeholder(path)
    except OSError as error:
        return None, f"they cannot be opened ({error.strerror})"
    if problem is not None:
        return None, f"each {problem}"
    kinds = kinds_of(path)
    if not kinds:
        why = why_unreadable(path) or f"it is a {ending} file with neither events nor a series"
        return None, why.replace("it is", "no reader takes them: each is", 1)
    return kinds[0], ""


def _split_level(files: Sequence[_File], depth: int) -> int | None:
    """Return the first level with a training folder and a folder of another split."""
    for level in range(depth):
        splits = {SPLIT_NAMES.get(file.folders[level].lower()) for file in files} - {None}
        if "train" in splits and len(splits) > 1:
            return level
    return None


def _modality_level(files: Sequence[_File], levels: Sequence[int]) -> int | None:
    """Return the level whose folders hold different modalities of the same samples.

    Either all folder names contain a modality word and at least one file has a counterpart in another folder, or each
    folder holds one kind of file, kinds differ, and at least half of the files have counterparts.
    """
    for level in levels:
        kinds: defaultdict[str, set[RecordingKind]] = defaultdict(set)
        modalities: defaultdict[tuple[tuple[str, ...], str], set[str]] = defaultdict(set)
        for file in files:
            kinds[file.folders[level]].add(file.kind)
            modalities[_without(file.folders, level), file.stem].add(file.folders[level])
        matched = sum(len(of_sample) > 1 for of_sample in modalities.values()) / max(1, len(modalities))
        named = all(
            MODALITY_WORDS & {word.removesuffix("s") for word in re.findall(r"[a-z]+", name.lower())} for name in kinds
        )
        one_kind_each = (
            all(len(of_folder) == 1 for of_folder in kinds.values())
            and len(set[RecordingKind]().union(*kinds.values())) > 1
        )
        if len(kinds) > 1 and ((named and matched > 0) or (one_kind_each and matched >= 0.5)):
            return level
    return None


def _label_and_group(files: Sequence[_File], levels: list[int], notes: list[str]) -> tuple[int | None, int | None]:
    """Return the level of the class and that of the group."""
    names = {level: {file.folders[level] for file in files} for level in levels}
    people = [level for level in levels if all(PEOPLE.fullmatch(name) for name in names[level])]
    others = [level for level in levels if level not in people]
    if not others:
        return None, people[0] if people else None
    # There are usually fewer classes than speakers, locations or days.
    label = min(others, key=lambda level: (len(names[level]), level))
    rest = [*people, *(level for level in others if level != label)]
    if not rest:
        return label, None
    if rest[0] not in people:
        notes.append(
            f"folders such as {min(names[label])!r} ({len(names[label])} names) are used as labels, and folders such "
            f"as {min(names[rest[0]])!r} ({len(names[rest[0]])}) as groups; if this is reversed, swap the names of the "
            "two columns"
        )
    return label, rest[0]


def _without(folders: tuple[str, ...], level: int | None) -> tuple[str, ...]:
    return folders if level is None else folders[:level] + folders[level + 1 :]


def _samples(
    files: Sequence[_File], modality: int | None, skipped: _Skipped
) -> tuple[list[_Sample], dict[str, RecordingKind]]:
    """Group the files into samples, in order; return samples and columns."""
    if modality is None:
        files = _filter_kinds(files, skipped)
    column_of = {file.name: COLUMN_OF[file.kind] if modality is None else _column(file, modality) for file in files}
    kinds: defaultdict[str, list[RecordingKind]] = defaultdict(list)
    for file in files:
        kinds[column_of[file.name]].append(file.kind)
    columns: dict[str, RecordingKind] = {column: max(KINDS, key=of_column.count) for column, of_column in kinds.items()}
    files = skipped.filter(
        files, lambda file: columns[column_of[file.name]] == file.kind, "their kind differs from most in their column"
    )
    samples: dict[tuple[tuple[str, ...], str], _Sample] = {}
    for file in files:
        key = _without(file.folders, modality), file.stem
        sample = samples.setdefault(key, _Sample(*key))
        if column_of[file.name] in sample.cells:
            skipped["another file differs only in its extension"].append(file.name)
        else:
            sample.cells[column_of[file.name]] = file.name
    return list(samples.values()), dict(sorted(columns.items()))


def _filter_kinds(files: Sequence[_File], skipped: _Skipped) -> list[_File]:
    """Keep the most frequent kind and kinds that share a file name with another; the rest are lists or notes."""
    kinds: defaultdict[tuple[tuple[str, ...], str], set[RecordingKind]] = defaultdict(set)
    for file in files:
        kinds[file.folders, file.stem].add(file.kind)
    most = Counter(file.kind for file in files).most_common(1)[0][0]
    matching = {kind for together in kinds.values() if len(together) > 1 for kind in together} | {most}
    return skipped.filter(
        files, lambda file: file.kind in matching, f"no {most} file shares a name with a file of their kind"
    )


def _column(file: _File, modality: int) -> str:
    """Name a column after the folder of its modality, prefixed by its kind if that is not a valid modality name."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", file.folders[modality])
    if not MODALITY_NAME.fullmatch(safe):
        safe = f"{COLUMN_OF[file.kind]}_{safe}".rstrip("_")
    return f"{safe}_files" if safe in RESERVED or safe in NAMES_OF_MODULES else safe


def _label_by_name(folder: Path, samples: Sequence[_Sample]) -> None:
    """Set labels from file names, if all are a word and a number and every word occurs in training."""
    for sample in samples:
        match = WORD_AND_NUMBER.fullmatch(sample.stem)
        sample.label = match[1] if match else ""
    counts = Counter(sample.label for sample in samples)
    trained = {sample.label for sample in samples if sample.split in ("train", None)}
    # A word that occurs in one split only names the split: tr0001, te0001.
    if "" in counts or len(counts) < 2 or min(counts.values()) < 2 or trained != set(counts):
        example = next((s for s in samples if not s.label or counts[s.label] < 2), samples[0])
        raise ValueError(
            f"cannot infer labels from the folders in {folder}, nor from file names such as "
            f"{next(iter(example.cells.values()))!r}; use one folder per class, name files like cat_1.jpg, cat_2.jpg, "
            "dog_1.jpg, ..., or write the manifest by hand"
        )


def _assign_test(samples: Sequence[_Sample], notes: list[str]) -> None:
    """Mark a fifth of the samples test, the others train; the choice depends on names only."""
    labels = [sample.label for sample in samples]
    by_group = samples[0].group is not None
    keys = [sample.group or "/".join([*sample.folders, sample.stem]) for sample in samples]
    try:
        carve = carve_by_group if by_group else carve_by_sample
        test_keys = carve(keys, labels, fraction=TEST_FRACTION, seed=0)
        unit = "whole groups" if by_group else "samples"
        notes.append(f"no folders name the splits: {unit} with about {TEST_FRACTION:.0%} of each class are marked test")
    except ValueError:
        test_keys = set[str]()
        notes.append(
            f"every sample is marked train, because each {'group' if by_group else 'sample'} is the only one of some "
            "class; mark some rows test before training"
        )
    for sample, key in zip(samples, keys, strict=True):
        sample.split = "test" if key in test_keys else "train"


def _write(folder: Path, target: Path, samples: Sequence[_Sample], columns: Sequence[str], *, with_group: bool) -> None:
    stems = {sample.stem for sample in samples}
    unique = len(stems) == len(samples)
    header = ["sample_id", "split", "label", *(["group"] if with_group else []), *columns]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for sample in samples:
            id_ = sample.stem if unique else "/".join([*sample.folders, sample.stem])
            group = [sample.group] if with_group else []
            cells = [_cell(folder, sample.cells.get(column, "")) for column in columns]
            writer.writerow([id_, sample.split, sample.label, *group, *cells])


def _cell(folder: Path, name: str) -> str:
    """Return a file's name; absolute for links that lead out of the folder, as manifests require."""
    path = folder / name
    if name and path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return os.path.abspath(path)
    return name
