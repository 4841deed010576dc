"""A first manifest from a folder of files, with what was guessed. Imports no torch."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import get_args

from snn_datasets.contents import kinds_of, why_unreadable
from snn_datasets.dataset import SPLITS, Split
from snn_datasets.kinds import KIND_OF, RecordingKind
from snn_datasets.manifest_table import MODALITY_NAME, NAMES_OF_MODULES, RESERVED, SPLIT_NAMES
from snn_datasets.near_names import normalize_unicode, similar_labels
from snn_datasets.reader import placeholder
from snn_datasets.splits import carve_by_group, carve_by_sample

TEST_FRACTION = 0.2
"""Share of the samples marked test where no folders say which are."""
NAMED = 3
"""Examples that the summary names."""

SENSES = frozenset(
    {
        *("image", "img", "picture", "photo", "frame", "face", "visual", "vision", "rgb", "depth", "thermal"),
        *("audio", "sound", "wav", "wave", "speech", "voice", "video", "movie", "clip", "event", "dvs", "davis"),
        *("spike", "touch", "tactile", "taxel", "emg", "imu", "eeg", "ecg", "series", "signal", "sensor", "gas"),
        *("smell", "mic", "microphone", "camera", "cam"),
    }
)
"""Words that name a sense when they are in the name of a folder; in the singular."""
PEOPLE = re.compile(
    r"(actor|fold|id|p|participant|patient|person|s|session|speaker|spk|sub|subj|subject|user|writer)[ _-]*\d+", re.I
)
"""What a folder of one person or one session is often called."""
WORD_AND_NUMBER = re.compile(r"(\D*[^\W\d_])[ _.\-]*\d+")
"""A file name that states a class: `cat_007`, `air conditioner 12`."""
KINDS: tuple[RecordingKind, ...] = get_args(RecordingKind)
COLUMN_OF: dict[RecordingKind, str] = {
    "image": "image", "video": "video", "waveform": "audio", "events": "events", "series": "series",
}  # fmt: skip
SKIPPED_ENDINGS = frozenset({".txt"})
"""Read where a manifest names them, but in a folder they mostly are notes."""


@dataclass(frozen=True)
class Guess:
    """What a folder was taken for; as text a summary for its owner."""

    manifest: Path
    """The file that was written."""
    layout: str
    """What the levels of folders mean, such as "split / label / file"."""
    samples: int
    splits: dict[Split, int]
    """Samples by split."""
    labels: dict[str, int]
    """Samples by label."""
    columns: dict[str, RecordingKind]
    """Modality columns and what their files are."""
    files: dict[str, int]
    """Files by modality column; a sample without one has an empty cell."""
    left_out: dict[str, tuple[str, ...]]
    """Why -> files that the manifest does not name."""
    notes: tuple[str, ...]
    """What was assumed and should be looked at."""

    def __str__(self) -> str:
        lines = [
            f"{self.manifest}: {self.samples} samples of {len(self.labels)} classes",
            f"  taken as {self.layout}",
            f"  split    {_counts((split, self.splits[split]) for split in SPLITS if split in self.splits)}",
            f"  label    {_counts(self.labels.items())}",
        ]
        for column, kind in self.columns.items():
            lacking = self.samples - self.files[column]
            none = f", {lacking} sample{' has' if lacking == 1 else 's have'} none" if lacking else ""
            lines.append(f"  {column:<8} {self.files[column]} {kind} files{none}")
        for reason, names in self.left_out.items():
            named = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            lines.append(f"  left out {len(names)} because {reason}: {named}")
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
    """Those that tell samples apart: all but that of the sense."""
    stem: str
    cells: dict[str, str] = field(default_factory=dict[str, str])
    split: Split | None = None
    label: str = ""
    group: str | None = None


class _LeftOut(defaultdict[str, list[str]]):
    """Reason -> names of files."""

    def __init__(self) -> None:
        super().__init__(list)

    def sift(self, files: Sequence[_File], keep: Callable[[_File], bool], reason: str) -> list[_File]:
        """The files to keep; the others are noted with the reason."""
        for file in files:
            if not keep(file):
                self[reason].append(file.name)
        return [file for file in files if keep(file)]


def init_manifest(folder: Path, *, output: str | Path = "manifest.csv") -> Guess:
    """Write a manifest of the files under a folder, as well as it can be guessed what they are.

    Folders may tell the split (train, val, test), the sense (images, sounds, ...), the label and a group, in any order.
    Files that agree in everything but the sense, or but their ending, become one sample. Where no folders tell the
    split, a fifth of the samples is marked test, whole groups where there are any; validation is left to
    `ManifestSpec`, which carves it out of training. Look at the summary, `str(guess)`, and correct the file.

    Args:
        folder: what the manifest is to describe, and the root of the dataset.
        output: the manifest, relative to the folder unless absolute.

    Raises:
        FileExistsError: there is such a file already; nothing is ever overwritten.
        NotADirectoryError: no such folder.
        ValueError: no files of known kinds are there, no labels can be told, or the output is to be a Parquet table.
    """
    folder = folder.expanduser()
    target = folder / Path(output).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; name the one that holds the files")
    if target.suffix.lower() == ".parquet":
        raise ValueError(f"{target} would be a CSV file by a wrong name; choose an output that ends in .csv")
    if target.exists():
        raise FileExistsError(f"{target} is there already and stays as it is; remove it, or choose another output")
    left_out, notes = _LeftOut(), list[str]()
    files = _files(folder, left_out)
    depth = Counter(len(file.folders) for file in files).most_common(1)[0][0]
    files = left_out.sift(files, lambda file: len(file.folders) == depth, "they lie deeper or less deep than most")
    roles: dict[int, str] = {}

    split = _split_level(files, depth)
    if split is not None:
        roles[split] = "split"
        files = left_out.sift(
            files,
            lambda file: file.folders[split].lower() in SPLIT_NAMES,
            "they lie beside the folders of the splits",
        )
    sense = _sense_level(files, [level for level in range(depth) if level not in roles])
    if sense is not None:
        roles[sense] = "sense"
    free = [
        level
        for level in range(depth)
        if level not in roles and len({file.folders[level] for file in files}) > 1  # the same for all says nothing
    ]
    label, group = _label_and_group(files, free, notes)
    if label is not None:
        roles[label] = "label"
    if group is not None:
        roles[group] = "group"

    samples, columns = _samples(files, sense, left_out)
    for sample in samples:
        # Without the level of the sense, those behind it moved up by one.
        place = {level: level - (sense is not None and level > sense) for level in roles}
        sample.split = SPLIT_NAMES[sample.folders[place[split]].lower()] if split is not None else None
        sample.group = sample.folders[place[group]] if group is not None else None
        sample.label = sample.folders[place[label]] if label is not None else ""
    if label is None:
        _label_by_name(folder, samples)
        notes.append("labels are the words that file names begin with")
    if split is None:
        _draw_test(samples, notes)
    elif not any(sample.split == "test" for sample in samples):
        notes.append("there is no folder of test samples; mark some rows test before training")

    for sample in samples:
        sample.label = normalize_unicode(sample.label)
    notes += similar_labels(sample.label for sample in samples)
    untrained = {sample.label for sample in samples} - {sample.label for sample in samples if sample.split == "train"}
    if untrained:
        notes.append(f"no training sample has the label {min(untrained)!r}; add some, or remove its rows")

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
        left_out={reason: tuple(names) for reason, names in left_out.items()},
        notes=tuple(notes),
    )


def _files(folder: Path, left_out: _LeftOut) -> list[_File]:
    """Every file of a known kind, sorted by name."""
    found: list[_File] = []
    refused: list[OSError] = []
    for above, folders, names in os.walk(folder, onerror=refused.append):
        folders.sort()
        base = PurePosixPath(Path(above).relative_to(folder).as_posix())
        for name in [name for name in folders if name.startswith(".") or (Path(above) / name).is_symlink()]:
            folders.remove(name)
            reason = "their names begin with a dot" if name.startswith(".") else "they are links to folders"
            left_out[reason].append(f"{base / name}/")
        for name in sorted(names):
            kind, reason = _look_at(Path(above) / name)
            if kind is None:
                left_out[reason].append(str(base / name).encode("utf-8", "replace").decode())
            else:
                found.append(_File(str(base / name), base.parts, name[: -len(Path(name).suffix)], kind))
    for error in refused:
        left_out["their folder cannot be listed"].append(str(error.filename))
    if not found:
        known = " ".join(ending for ending in KIND_OF if ending not in SKIPPED_ENDINGS)
        raise ValueError(
            f"no file of a known kind lies under {folder} (known endings: {known}); choose another folder, or write "
            "the manifest by hand and name readers for its columns"
        )
    return found


def _look_at(path: Path) -> tuple[RecordingKind | None, str]:
    """What a file is; or None, and why it is left out."""
    name, ending = path.name, path.suffix.lower()
    if name.startswith("."):
        return None, "their names begin with a dot"
    if ending in SKIPPED_ENDINGS:
        return None, f"files {ending} are of no known kind"
    if ending not in KIND_OF:
        why = why_unreadable(path)
        if why is not None:
            return None, why.replace("it is", "no reader takes them: each is", 1)
        return None, f"files {ending} are of no known kind" if ending else "their names have no ending"
    if name != name.strip() or not name.isprintable() or not path.is_file():
        return None, "their names cannot stand in a table, or they are no files"
    try:
        problem = placeholder(path)
    except OSError as error:
        return None, f"they cannot be opened ({error.strerror})"
    if problem is not None:
        return None, f"each {problem}"
    kinds = kinds_of(path)
    if not kinds:
        why = why_unreadable(path) or f"it is a {ending} file that holds neither events nor a series"
        return None, why.replace("it is", "no reader takes them: each is", 1)
    return kinds[0], ""


def _split_level(files: Sequence[_File], depth: int) -> int | None:
    """The first level with a folder for training and one for something else."""
    for level in range(depth):
        splits = {SPLIT_NAMES.get(file.folders[level].lower()) for file in files} - {None}
        if "train" in splits and len(splits) > 1:
            return level
    return None


def _sense_level(files: Sequence[_File], levels: Sequence[int]) -> int | None:
    """The level whose folders hold different senses of the same samples.

    Their names say so and at least one file has a counterpart in another of them; or each holds one kind of file, not
    all the same, and at least half of the files have counterparts.
    """
    for level in levels:
        kinds: defaultdict[str, set[RecordingKind]] = defaultdict(set)
        senses: defaultdict[tuple[tuple[str, ...], str], set[str]] = defaultdict(set)
        for file in files:
            kinds[file.folders[level]].add(file.kind)
            senses[_without(file.folders, level), file.stem].add(file.folders[level])
        matched = sum(len(of_sample) > 1 for of_sample in senses.values()) / max(1, len(senses))
        named = all(SENSES & {word.removesuffix("s") for word in re.findall(r"[a-z]+", name.lower())} for name in kinds)
        apart = (
            all(len(of_folder) == 1 for of_folder in kinds.values())
            and len(set[RecordingKind]().union(*kinds.values())) > 1
        )
        if len(kinds) > 1 and ((named and matched > 0) or (apart and matched >= 0.5)):
            return level
    return None


def _label_and_group(files: Sequence[_File], levels: list[int], notes: list[str]) -> tuple[int | None, int | None]:
    """Which level tells the class, and which one who or what the samples belong to."""
    names = {level: {file.folders[level] for file in files} for level in levels}
    people = [level for level in levels if all(PEOPLE.fullmatch(name) for name in names[level])]
    others = [level for level in levels if level not in people]
    if not others:
        return None, people[0] if people else None
    # There mostly are fewer classes than speakers, places or days.
    label = min(others, key=lambda level: (len(names[level]), level))
    rest = [*people, *(level for level in others if level != label)]
    if not rest:
        return label, None
    if rest[0] not in people:
        notes.append(
            f"folders such as {min(names[label])!r} ({len(names[label])} names) are taken for labels, and those such "
            f"as {min(names[rest[0]])!r} ({len(names[rest[0]])}) for groups; if it is the other way round, swap the "
            "names of the two columns"
        )
    return label, rest[0]


def _without(folders: tuple[str, ...], level: int | None) -> tuple[str, ...]:
    return folders if level is None else folders[:level] + folders[level + 1 :]


def _samples(
    files: Sequence[_File], sense: int | None, left_out: _LeftOut
) -> tuple[list[_Sample], dict[str, RecordingKind]]:
    """Files of the same sample put together, in order; and the columns."""
    if sense is None:
        files = _of_matching_kinds(files, left_out)
    column_of = {file.name: COLUMN_OF[file.kind] if sense is None else _column(file, sense) for file in files}
    kinds: defaultdict[str, list[RecordingKind]] = defaultdict(list)
    for file in files:
        kinds[column_of[file.name]].append(file.kind)
    columns: dict[str, RecordingKind] = {column: max(KINDS, key=of_column.count) for column, of_column in kinds.items()}
    files = left_out.sift(
        files, lambda file: columns[column_of[file.name]] == file.kind, "they are of another kind than most beside them"
    )
    samples: dict[tuple[tuple[str, ...], str], _Sample] = {}
    for file in files:
        key = _without(file.folders, sense), file.stem
        sample = samples.setdefault(key, _Sample(*key))
        if column_of[file.name] in sample.cells:
            left_out["another file has the same name but for its ending"].append(file.name)
        else:
            sample.cells[column_of[file.name]] = file.name
    return list(samples.values()), dict(sorted(columns.items()))


def _of_matching_kinds(files: Sequence[_File], left_out: _LeftOut) -> list[_File]:
    """The kind with the most files, and those that share a name with some other: the rest are lists, notes and such."""
    kinds: defaultdict[tuple[tuple[str, ...], str], set[RecordingKind]] = defaultdict(set)
    for file in files:
        kinds[file.folders, file.stem].add(file.kind)
    most = Counter(file.kind for file in files).most_common(1)[0][0]
    matching = {kind for together in kinds.values() if len(together) > 1 for kind in together} | {most}
    return left_out.sift(files, lambda file: file.kind in matching, f"no {most} has the name of any of their kind")


def _column(file: _File, sense: int) -> str:
    """The name of the folder of its sense as that of a column; after its kind where that cannot name a modality."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", file.folders[sense])
    if not MODALITY_NAME.fullmatch(safe):
        safe = f"{COLUMN_OF[file.kind]}_{safe}".rstrip("_")
    return f"{safe}_files" if safe in RESERVED or safe in NAMES_OF_MODULES else safe


def _label_by_name(folder: Path, samples: Sequence[_Sample]) -> None:
    """Set labels from file names of a word and a number, if all are, and every word names a class to learn."""
    for sample in samples:
        match = WORD_AND_NUMBER.fullmatch(sample.stem)
        sample.label = match[1] if match else ""
    counts = Counter(sample.label for sample in samples)
    trained = {sample.label for sample in samples if sample.split in ("train", None)}
    # A word that occurs in one split alone is the split's: tr0001, te0001.
    if "" in counts or len(counts) < 2 or min(counts.values()) < 2 or trained != set(counts):
        example = next((s for s in samples if not s.label or counts[s.label] < 2), samples[0])
        raise ValueError(
            f"no labels can be told from the folders under {folder}, nor from file names such as "
            f"{next(iter(example.cells.values()))!r}; put the files into one folder a class, name them as in "
            "cat_1.jpg, cat_2.jpg, dog_1.jpg, ..., or write the manifest by hand"
        )


def _draw_test(samples: Sequence[_Sample], notes: list[str]) -> None:
    """Mark a fifth of the samples test, the others train; what is chosen depends on names alone."""
    labels = [sample.label for sample in samples]
    by_group = samples[0].group is not None
    keys = [sample.group or "/".join([*sample.folders, sample.stem]) for sample in samples]
    try:
        carve = carve_by_group if by_group else carve_by_sample
        chosen = carve(keys, labels, fraction=TEST_FRACTION, seed=0)
        unit = "whole groups" if by_group else "samples"
        notes.append(f"no folders tell the split: {unit} with about {TEST_FRACTION:.0%} of each class are marked test")
    except ValueError:
        chosen = set[str]()
        notes.append(
            f"every sample is marked train, because no {'group' if by_group else 'sample'} can be spared: each is the "
            "only one of some class; mark some rows test before training"
        )
    for sample, key in zip(samples, keys, strict=True):
        sample.split = "test" if key in chosen else "train"


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
    """A file's name; absolute where it is a link that leads out of the folder, as manifests demand."""
    path = folder / name
    if name and path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return os.path.abspath(path)
    return name
