"""A dataset of one's own files, listed in a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from torch import Tensor

from snn_datasets.audio import Mono, Resample
from snn_datasets.corruption import AudioNoise, ImageNoise, ImageOcclusion
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, ModalityInfo, Progress, Split
from snn_datasets.encoding import Bernoulli, EventFrames, Frames, Latency, LogMel, Picture, Steps
from snn_datasets.event_survey import survey_events
from snn_datasets.events import ScalePlane
from snn_datasets.images import ImageReader, Resize
from snn_datasets.kinds import RecordingKind
from snn_datasets.listing import join_names
from snn_datasets.manifest_table import Table, TableRow, read_table
from snn_datasets.modality import Modality
from snn_datasets.near_names import similar_labels
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recorded import Preparation, RecordedDataset, Row, build_splits
from snn_datasets.recordings import Events, Image, Recording, Series, Video, Waveform
from snn_datasets.registries import READERS
from snn_datasets.series import SeriesReader
from snn_datasets.series_survey import SURVEYED, SeriesSurvey, averaged, choose
from snn_datasets.single_thread import single_thread
from snn_datasets.splits import carve_by_group, carve_by_sample
from snn_datasets.stage import Draw, Stage
from snn_datasets.store import Absent
from snn_datasets.video import VideoReader
from snn_datasets.windows import SeriesWindows

if TYPE_CHECKING:
    from snn_datasets.datasets.manifest import ManifestSpec

AEDAT3_MARK = b"#!AER-DAT3"
LARGE_SENSOR = 128
"""Longest side of an event sensor in pixels whose events are counted pixel by pixel, unless a size is asked for."""
SCALED_SENSOR = 64
"""Longest side that larger sensors are scaled to."""
UNITS: dict[RecordingKind, str] = {
    "image": "brightness from 0 to 1",
    "video": "brightness from 0 to 1",
    "waveform": "log power, standardized clip by clip",
    "events": "events per pixel and step",
    "series": "standard deviations of the training files, by channel",
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
    listing = read_listing(spec)
    table, classes, splits = listing.table, listing.classes, listing.splits
    number_of = {label: number for number, label in enumerate(classes)}
    rows: dict[Split, list[Row]] = {
        split: [_recorded(table, row, number_of) for row in splits[split]] for split in SPLITS
    }
    # In file order, before validation is carved out: neither the seed nor the fraction changes how files are read.
    training = [_recorded(table, row, number_of) for row in table.rows if row.split == "train"]
    notes = list(listing.notes)
    modalities = {name: _modality(spec, table, name, kind, training, notes) for name, kind in table.kinds.items()}
    info = DatasetInfo(
        name=spec.root.expanduser().resolve().name or "manifest",
        classes=classes,
        modalities={name: modality.info for name, modality in modalities.items()},
        notes=tuple(notes),
    )
    built = build_splits(spec, info=info, rows=rows, modalities=modalities, progress=progress)
    return replace(built, info=replace(built.info, notes=(*built.info.notes, *_unreadable(built))))


@dataclass(frozen=True)
class Listing:
    """What a manifest says, before any recording is opened."""

    table: Table
    classes: tuple[str, ...]
    splits: dict[Split, list[TableRow]]
    notes: tuple[str, ...]
    """What whoever reads numbers on these splits has to know."""


def read_listing(spec: ManifestSpec) -> Listing:
    """Read and check the table, and deal its rows to the splits.

    Raises:
        ValueError: a mistake in the table or the specification, by row, column and value.
        FileNotFoundError: the table, or a file that it names, is not there.
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
                f"the modality columns are {join_names(table.columns)}"
            )
    notes: list[str] = []
    if table.left_out:
        every = len(table.rows) + table.left_out
        notes.append(f"{table.left_out} of {every} rows have no {' or '.join(table.kinds)} and are left out")
    classes = _classes(table)
    splits = _splits(table, val_fraction=spec.val_fraction, seed=spec.seed)
    return Listing(table, classes, splits, (*notes, *similar_labels(classes), *_leaks(splits)))


def _recorded(table: Table, row: TableRow, number_of: Mapping[str, int]) -> Row:
    sources = {name: None if file is None else Source(file) for name, file in row.files.items()}
    return Row(row.id, number_of[row.label], sources, f"{table.path}, row {row.number}")


def _modality(
    spec: ManifestSpec, table: Table, name: str, kind: RecordingKind | None, training: Sequence[Row], notes: list[str]
) -> Modality:
    """How a column is read: what nobody said is settled from its training files, and noted where it may surprise."""
    column = spec.columns.get(name)
    reader = column.reader if column is not None else None
    assumed = reader is None
    if reader is None:
        reader = _usual_reader(table, name, kind, training, notes)
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
    own, augment = (column.prepare, column.augment) if column is not None else ((), ())
    draw = Draw(spec.seed, row.id, name)
    try:
        is_encoded = isinstance(_through(own, first, draw), Tensor)
    except ValueError as error:
        raise ValueError(f"{row.describe_source(name)}: {error}") from error
    prepare, encode = _stages(spec, first, own, encoder, size, is_encoded=is_encoded)
    if isinstance(first, Series) and not is_encoded:
        known_rate = not (assumed and isinstance(reader, SeriesReader) and reader.rate is not None)
        encode = _series_stages(spec, name, reader, first, encoder, training, known_rate=known_rate, notes=notes)
    if isinstance(first, Events) and encoder is None and not is_encoded:
        encode = _event_stages(name, first, column.size if column is not None else None, assumed, encode, notes)
    try:
        prepared = _through(prepare, first, draw)
        value = _through(encode, prepared, draw)
        augmented = _through(encode, _through(augment, prepared, draw), draw) if augment else value
    except ValueError as error:
        raise ValueError(f"{row.describe_source(name)}: {error}") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{table.path}, column {name!r}: its encoder gives {type(value).__name__}, not a tensor")
    if not isinstance(augmented, Tensor) or augmented.shape != value.shape:
        got = tuple(augmented.shape) if isinstance(augmented, Tensor) else type(augmented).__name__
        raise ValueError(
            f"{table.path}, column {name!r}: columns.{name}.augment makes {got} of an input of {tuple(value.shape)}; "
            "training samples need the shape of all others, so choose transforms that keep it"
        )
    # What has steps puts time first.
    steps: int | None = getattr((*prepare, *encode)[-1], "steps", None)
    shape = tuple(value.shape) if steps is None else tuple(value.shape[1:])
    info = ModalityInfo(reader.gives, shape, steps, UNITS[reader.gives] if encoder is None and not own else "")
    return Modality(reader, info, prepare=prepare, augment=augment, encode=encode)


def _through(stages: Sequence[Stage], value: Any, draw: Draw) -> Any:
    """What stages make of the first recording."""
    for number, stage in enumerate(stages):
        value = stage(value, draw.of(stage, f"first {number}"))
    return value


def _series_stages(
    spec: ManifestSpec,
    name: str,
    reader: Reader,
    first: Series,
    encoder: Stage | None,
    training: Sequence[Row],
    *,
    known_rate: bool,
    notes: list[str],
) -> tuple[Stage, ...]:
    """How a series is encoded: as asked for, or so that little of the training files is lost."""
    if encoder is not None and not isinstance(encoder, SeriesWindows):
        if isinstance(encoder, Steps) and len(first.times) > encoder.steps:
            notes.append(f"{name}: {averaged(len(first.times), encoder.steps)}")
        return (encoder,)
    survey = SeriesSurvey.of(_some_series(spec, name, reader, first, training))
    if encoder is not None:
        return survey.standardize, encoder
    stages, note = choose(name, survey, steps=spec.time_steps, known_rate=known_rate)
    notes.append(note)
    return stages


def _some_series(spec: ManifestSpec, name: str, reader: Reader, first: Series, training: Sequence[Row]) -> list[Series]:
    """Some training recordings with the channels of the first, evenly spread; what cannot be read is passed over."""
    rows = [row for row in training if row.sources[name] is not None]
    stride = max(1, len(rows) / SURVEYED)
    chosen = [rows[int(number * stride)] for number in range(min(SURVEYED, len(rows)))]
    read = Preparation(name, Modality(reader, ModalityInfo("series", ())), spec.seed, missing=True)
    series = [value for value in map(read, chosen) if isinstance(value, Series)]
    return [value for value in series if value.values.shape[1] == first.values.shape[1]] or [first]


def _event_stages(
    name: str, first: Events, size: int | None, assumed: bool, usual: tuple[Stage, ...], notes: list[str]
) -> tuple[Stage, ...]:
    """Frames of a size that a model can take: as asked for, or smaller where an undescribed sensor is large."""
    height, width = first.size
    if size is not None:
        return ScalePlane(height=size, width=size), *usual
    if not assumed or max(height, width) <= LARGE_SENSOR:
        return usual
    scale = SCALED_SENSOR / max(height, width)
    plane = ScalePlane(height=max(1, round(height * scale)), width=max(1, round(width * scale)))
    notes.append(
        f"{name}: {height} x {width} pixels are counted on {plane.height} x {plane.width}; columns.{name}.size takes "
        "another size"
    )
    return plane, *usual


def _usual_reader(
    table: Table, name: str, kind: RecordingKind | None, training: Sequence[Row], notes: list[str]
) -> Reader:
    assert kind is not None
    called: str = kind
    files = [source.path for row in training if (source := row.sources[name]) is not None and source.path.is_file()]
    if files and files[0].suffix.lower() == ".aedat":
        with files[0].open("rb") as file:
            called = "aedat3" if file.read(len(AEDAT3_MARK)) == AEDAT3_MARK else "aedat2"
    elif kind == "events" and files:
        survey = survey_events(name, files)
        notes.extend(survey.notes)
        return survey.reader
    elif kind == "series" and not any(_has_time(path) for path in files[:1]):
        notes.append(
            f"{name}: no column is time, so its rows are evenly spaced; columns.{name}.reader.rate says how many a "
            "second"
        )
        return SeriesReader(rate=1)
    try:
        return READERS[called]()
    except ValidationError as error:
        needed = [str(problem["loc"][0]) for problem in error.errors()]
        raise ValueError(
            f"{table.path}, column {name!r}: its {kind} files do not say their {' and '.join(needed)}; give "
            + ", ".join(f"columns.{name}.reader.{field}" for field in ("kind", *needed))
            + f", where kind is {called}"
        ) from error


def _has_time(path: Path) -> bool:
    try:
        return SeriesReader().has_time(Source(path))
    except ReadError:
        return True  # it is refused when it is read


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
    spec: ManifestSpec,
    first: Recording,
    own: tuple[Stage, ...],
    encoder: Stage | None,
    size: int,
    *,
    is_encoded: bool,
) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """What is done before the cache and after it, by the kind of recording.

    Cached are pictures and frames of their final size in bytes, spectrograms, and events and series as they are. A
    column's own stages come before what makes numbers of a recording, and instead of it where they do that themselves.
    """
    # These two take numbers from 0 to 1, so what makes numbers of the recording stands before them.
    makes_spikes = isinstance(encoder, Bernoulli | Latency)
    same = SameAsFirst(what=layout_of(first)[0], expected=layout_of(first)[1])
    encoders = () if encoder is None else (encoder,)
    match first:
        case Image():
            corrupt: list[Stage] = []
            if spec.image_occlusion:
                corrupt.append(ImageOcclusion(side=spec.image_occlusion))
            if spec.image_noise:
                corrupt.append(ImageNoise(std=spec.image_noise))
            encode = (Picture(), encoder) if makes_spikes else (encoder or Picture(),)
            if is_encoded:
                return (same, *corrupt, *own), encoders
            return (same, *corrupt, *own, Resize(height=size, width=size)), encode
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
            encode = encoders if is_encoded else encode
            return (Mono(), Resample(rate=spec.sample_rate or first.rate), *noise, *own, *encode), ()
        case Video():
            if is_encoded:
                return (same, *own), encoders
            return (same, *own, Resize(height=size, width=size)), (encoder or Frames(steps=spec.time_steps),)
        case Events():
            return (same, *own), encoders if is_encoded else (encoder or EventFrames(steps=spec.time_steps),)
        case Series():
            return (same, *own), encoders if is_encoded else ()


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
    groups: dict[Split, dict[object, str]] = {
        split: {row.group: row.group for row in rows if row.group is not None} for split, rows in splits.items()
    }
    files: dict[Split, dict[object, str]] = {
        split: {_identity(file): str(file) for row in rows for file in row.files.values() if file}
        for split, rows in splits.items()
    }
    notes: list[str] = []
    pairs: tuple[tuple[Split, Split], ...] = (("train", "val"), ("train", "test"), ("val", "test"))
    for first, second in pairs:
        for what, of in (("group", groups), ("file", files)):
            shared = sorted({of[first][key] for key in of[first].keys() & of[second].keys()})
            if shared:
                verb, plural = ("is", "") if len(shared) == 1 else ("are", "s")
                notes.append(f"{len(shared)} {what}{plural} {verb} in both {first} and {second}, such as {shared[0]}")
    return notes


def _identity(file: Path) -> object:
    """The same for one file under several spellings, through symbolic and hard links too."""
    try:
        status = file.stat()
    except OSError:
        return os.path.normpath(file)
    return status.st_dev, status.st_ino
