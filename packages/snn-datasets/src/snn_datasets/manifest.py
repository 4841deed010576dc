"""A dataset of one's own files, listed in a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from torch import Tensor

from snn_datasets.audio import Mono, Resample
from snn_datasets.corruption import AudioNoise, ImageNoise, ImageOcclusion
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, ModalityInfo, Progress, Split
from snn_datasets.encoding import Bernoulli, EventFrames, Frames, Latency, LogMel, Picture, Steps
from snn_datasets.images import ImageReader, Resize
from snn_datasets.kinds import Kind
from snn_datasets.manifest_table import Table, TableRow, read_table
from snn_datasets.modality import Modality
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recorded import Preparation, RecordedDataset, Row, build_splits
from snn_datasets.recordings import Events, Image, Recording, Series, Video, Waveform
from snn_datasets.registries import READERS
from snn_datasets.series import SeriesReader
from snn_datasets.single_thread import single_thread
from snn_datasets.splits import carve_by_group, carve_by_sample
from snn_datasets.stage import Draw, Stage
from snn_datasets.store import Absent
from snn_datasets.video import VideoReader

if TYPE_CHECKING:
    from snn_datasets.datasets.manifest import ManifestSpec

AEDAT3_MARK = b"#!AER-DAT3"
UNITS: dict[Kind, str] = {
    "image": "brightness from 0 to 1",
    "video": "brightness from 0 to 1",
    "waveform": "log power, standardised clip by clip",
    "events": "events per pixel and step",
    "series": "as in the files, mean of each step",
}
"""Of what the usual encoders give."""


class SameAsFirst(Stage):
    """Lets through what has the channels, or the sensor, of the first training recording of its column."""

    what: str
    """What is compared, for the message."""
    expected: tuple[int, ...]
    """Its numbers in the first recording."""

    def __call__(self, value: Recording, draw: Draw) -> Recording:
        """Compare.

        Raises:
            ReadError: this one differs.
        """
        found = layout_of(value)[1]
        if found != self.expected:
            raise ReadError(
                f"{self.what} {_by(found)}, but {_by(self.expected)} in the first training file of its column; "
                "convert the file, or say in the column's reader how to read it"
            )
        return value


def layout_of(value: Recording) -> tuple[str, tuple[int, ...]]:
    """What has to be the same in all recordings of a modality, in words and as numbers."""
    match value:
        case Image():
            return "channels are", value.pixels.shape[:1]
        case Video():
            return "channels are", value.frames.shape[1:2]
        case Waveform():
            return "channels are", value.samples.shape[:1]
        case Events():
            return "polarities, height and width of the sensor are", (value.polarities, *value.size)
        case Series():
            return "channels are", value.values.shape[1:]


def _by(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


@single_thread()
def build_manifest(spec: ManifestSpec, progress: Progress | None = None) -> DatasetSplits:
    """Check the table, settle from the first training files how each column is read, then fill the caches.

    Raises:
        ValueError: a mistake in the table or the specification, by row, column and value.
        FileNotFoundError, ReadError: a file is not there or damaged, unless it counts as absent.
        ImportError: a package is needed; the text says which extra brings it.
    """
    # Absolute, so that caches and worker processes find the same files wherever they are started.
    root = Path(os.path.abspath(spec.root.expanduser()))
    table = read_table(
        root / spec.manifest.expanduser(),
        root=root,
        modalities=spec.modalities,
        read_by_name=[name for name, column in spec.columns.items() if column.reader is not None],
        missing=spec.on_error == "missing",
    )
    for name in spec.columns:
        if name not in table.columns:
            raise ValueError(
                f"{table.path} has no modality column {name!r}, which columns.{name} describes; "
                f"the modality columns are {', '.join(map(repr, table.columns))}"
            )
    classes = _classes(table)
    splits = _splits(table, val_fraction=spec.val_fraction, seed=spec.seed)
    rows: dict[Split, list[Row]] = {
        split: [_recorded(table, row, classes) for row in splits[split]] for split in SPLITS
    }
    # In file order, before validation is carved out: neither the seed nor the fraction changes how files are read.
    training = [_recorded(table, row, classes) for row in table.rows if row.split == "train"]
    modalities = {name: _modality(spec, table, name, kind, training) for name, kind in table.kinds.items()}
    info = DatasetInfo(
        name=root.resolve().name or "manifest",
        classes=classes,
        modalities={name: modality.info for name, modality in modalities.items()},
        notes=tuple(_leaks(splits)),
    )
    built = build_splits(spec, info=info, rows=rows, modalities=modalities, progress=progress)
    return replace(built, info=replace(info, notes=(*info.notes, *_unreadable(built))))


def _recorded(table: Table, row: TableRow, classes: tuple[str, ...]) -> Row:
    sources = {name: None if file is None else Source(file) for name, file in row.files.items()}
    return Row(row.id, classes.index(row.label), sources, f"{table.path}, row {row.number}")


def _modality(spec: ManifestSpec, table: Table, name: str, kind: Kind | None, training: Sequence[Row]) -> Modality:
    """How a column is read: what its first training file leaves open is settled by that."""
    column = spec.columns.get(name)
    reader = column.reader if column is not None else None
    if reader is None:
        reader = _usual_reader(table, name, kind, training)
    encoder = column.encode if column is not None else None
    size = spec.image_size if column is None or column.size is None else column.size
    if isinstance(reader, VideoReader) and isinstance(encoder, Frames | None):
        # Frames that nobody will see need not be kept, nor their full size.
        few = {"frames": spec.time_steps if encoder is None else encoder.steps, "height": size, "width": size}
        given = {field: value for field in few if (value := getattr(reader, field)) is not None}
        reader = reader.model_copy(update={**few, **given})
    row, first = _first_recording(spec, table, name, reader, training)
    if isinstance(reader, ImageReader) and reader.channels is None:
        # The others are converted rather than refused.
        reader = reader.model_copy(update={"channels": cast(Image, first).pixels.shape[0]})
    # A reader derived from it may read files that have no table.
    if type(reader) is SeriesReader:
        reader = reader.named_as_in(cast(Source, row.sources[name]))
    prepare, encode = _stages(spec, first, encoder, size)
    draw = Draw(spec.seed, row.id, name)
    try:
        value: Any = first
        for number, stage in enumerate((*prepare, *encode)):
            value = stage(value, draw.of(stage, f"first {number}"))
    except ValueError as error:
        raise ValueError(f"{row.where(name)}: {error}") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{table.path}, column {name!r}: its encoder gives {type(value).__name__}, not a tensor")
    # What has steps puts time first.
    steps: int | None = getattr((*prepare, *encode)[-1], "steps", None)
    shape = tuple(value.shape) if steps is None else tuple(value.shape[1:])
    info = ModalityInfo(reader.gives, shape, steps, UNITS[reader.gives] if encoder is None else "")
    return Modality(reader, info, prepare=prepare, encode=encode)


def _usual_reader(table: Table, name: str, kind: Kind | None, training: Sequence[Row]) -> Reader:
    assert kind is not None
    called: str = kind
    files = [source.path for row in training if (source := row.sources[name]) is not None and source.path.is_file()]
    if files and files[0].suffix.lower() == ".aedat":
        with files[0].open("rb") as file:
            called = "aedat3" if file.read(len(AEDAT3_MARK)) == AEDAT3_MARK else "aedat2"
    try:
        return READERS[called]()
    except ValidationError as error:
        needed = [str(problem["loc"][0]) for problem in error.errors()]
        raise ValueError(
            f"{table.path}, column {name!r}: its {kind} files do not say their {' and '.join(needed)}; give "
            + ", ".join(f"columns.{name}.reader.{field}" for field in ("kind", *needed))
            + f", where kind is {called}"
        ) from error


def _first_recording(
    spec: ManifestSpec, table: Table, name: str, reader: Reader, training: Sequence[Row]
) -> tuple[Row, Recording]:
    """The first training row that has this modality, and its recording."""
    unsettled = Modality(reader, ModalityInfo(reader.gives, ()))
    read = Preparation(name, unsettled, spec.seed, missing=spec.on_error == "missing")
    reason = ""
    for row in training:
        recording = read(row) if row.sources[name] is not None else Absent("the cell is empty")
        if isinstance(recording, Exception):
            raise recording
        if isinstance(recording, Absent):
            reason = reason or recording.reason
            continue
        return row, cast(Recording, recording)
    raise ValueError(
        f"{table.path}, column {name!r}: no training row has a file that can be read (the first: {reason}); a model "
        "cannot learn from it, so correct the files, or leave the column out by naming the modalities to read"
    )


def _stages(
    spec: ManifestSpec, first: Recording, encoder: Stage | None, size: int
) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """What is done before the cache and after it, by the kind of recording.

    Cached are pictures and frames of their final size in bytes, spectrograms, and events and series as they are.
    """
    # These two take numbers from 0 to 1, so what makes numbers of the recording stands before them.
    makes_spikes = isinstance(encoder, Bernoulli | Latency)
    same = SameAsFirst(what=layout_of(first)[0], expected=layout_of(first)[1])
    match first:
        case Image():
            corrupt: list[Stage] = []
            if spec.image_occlusion:
                corrupt.append(ImageOcclusion(side=spec.image_occlusion))
            if spec.image_noise:
                corrupt.append(ImageNoise(std=spec.image_noise))
            encode = (Picture(), encoder) if makes_spikes else (encoder or Picture(),)
            return (same, *corrupt, Resize(height=size, width=size)), encode
        case Waveform():
            noise = () if spec.audio_snr is None else (AudioNoise(snr_db=spec.audio_snr),)
            log_mel = LogMel(
                columns=size,
                rows=size,
                bands=spec.mel_bands,
                window_ms=spec.window_ms,
                hop_ms=spec.hop_ms,
                dynamic_range_db=spec.dynamic_range_db,
                scale="unit" if makes_spikes else "standard",
            )
            encode = (log_mel, encoder) if encoder is not None and makes_spikes else (encoder or log_mel,)
            return (Mono(), Resample(rate=spec.sample_rate or first.rate), *noise, *encode), ()
        case Video():
            return (same, Resize(height=size, width=size)), (encoder or Frames(steps=spec.time_steps),)
        case Events():
            return (same,), (encoder or EventFrames(steps=spec.time_steps),)
        case Series():
            return (same,), (encoder or Steps(steps=spec.time_steps),)


def _classes(table: Table) -> tuple[str, ...]:
    """Return the labels of the training rows, as numbers in their order when all are integers."""
    labels = {row.label for row in table.rows if row.split == "train"}
    for split in ("train", "test"):
        if not any(row.split == split for row in table.rows):
            raise ValueError(
                f"{table.path}, column 'split': no row is marked {split!r} "
                f"(found {', '.join(sorted({row.split for row in table.rows}))}); mark some rows {split!r}"
            )
    for row in table.rows:
        if row.label not in labels:
            raise ValueError(
                f"{table.path}, row {row.number}, column 'label', value {row.label!r}: the {row.split} split has a "
                "class that no training row has; add training rows of it or remove this row"
            )
    if len(labels) < 2:
        raise ValueError(
            f"{table.path}, column 'label': all rows say {labels.pop()!r}; at least two classes are needed"
        )
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _splits(table: Table, *, val_fraction: float, seed: int) -> dict[Split, list[TableRow]]:
    """Deal the rows to the splits, in file order, making a val split when the manifest has none."""
    splits: dict[Split, list[TableRow]] = {"train": [], "val": [], "test": []}
    for row in table.rows:
        splits[row.split].append(row)
    if splits["val"]:
        return splits
    train = splits["train"]
    labels = [row.label for row in train]
    groups = [row.group for row in train if row.group is not None]
    try:
        if groups:
            chosen_groups = carve_by_group(groups, labels, fraction=val_fraction, seed=seed)
            chosen = {row.id for row in train if row.group in chosen_groups}
        else:
            chosen = carve_by_sample([row.id for row in train], labels, fraction=val_fraction, seed=seed)
    except ValueError as error:
        raise ValueError(f"{table.path} has no row with split 'val', and {error}") from error
    splits["val"] = [row for row in train if row.id in chosen]
    splits["train"] = [row for row in train if row.id not in chosen]
    return splits


def _unreadable(built: DatasetSplits) -> Iterator[str]:
    """How many files of each modality count as absent because they cannot be read, in sentences.

    Without a cache nothing was read, so that only files that are not there are known.
    """
    datasets = [part for part in (built.train, built.val, built.test) if isinstance(part, RecordedDataset)]
    for name in built.info.modalities:
        reasons: list[str] = []
        files = 0
        unread = False
        for dataset in datasets:
            store, places = dataset.stores.get(name, (None, ()))
            unread |= store is None
            for number, row in enumerate(dataset.rows):
                source = row.sources[name]
                if source is None:
                    continue
                files += 1
                if store is not None:
                    reason = store.absent.get(places[number])
                else:
                    reason = f"no file at {source.path}" if dataset.missing and not source.path.is_file() else None
                if reason is not None:
                    reasons.append(reason)
        if reasons:
            rest = "; damaged ones are not counted, because without a cache no file is read ahead" if unread else ""
            yield f"{len(reasons)} of {files} files of {name} count as absent; the first: {reasons[0]}{rest}"


def _leaks(splits: Mapping[Split, Sequence[TableRow]]) -> list[str]:
    """What two splits share, in sentences: numbers measured on such splits are too good."""
    groups = {split: {row.group for row in rows if row.group is not None} for split, rows in splits.items()}
    files = {split: {file for row in rows for file in row.files.values() if file} for split, rows in splits.items()}
    notes: list[str] = []
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        for what, of in (("group", groups), ("file", files)):
            shared = sorted(map(str, of[first] & of[second]))
            if shared:
                verb, plural = ("is", "") if len(shared) == 1 else ("are", "s")
                notes.append(f"{len(shared)} {what}{plural} {verb} in both {first} and {second}, such as {shared[0]}")
    return notes
