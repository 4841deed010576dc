"""Build a dataset of a user's own files, listed in a manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from torch import Tensor

from snn_datasets.base.dataset import SPLITS, DatasetSplits, ModalityInfo, ReportProgress, Split
from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.listing import join_names
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events, Image, Recording, Series, Video, Waveform
from snn_datasets.base.registries import READERS
from snn_datasets.base.single_thread import single_thread
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.cache.store import Absent
from snn_datasets.loading.recorded import Preparation, RecordedDataset, Row, build_splits
from snn_datasets.loading.splits import carve_by_group, carve_by_sample
from snn_datasets.manifest.event_survey import survey_events
from snn_datasets.manifest.near_names import similar_labels
from snn_datasets.manifest.series_survey import SURVEYED, SeriesSurvey, choose, describe_average
from snn_datasets.manifest.table import Table, TableRow, read_table
from snn_datasets.modalities.audio import Mono, Resample
from snn_datasets.modalities.events import ScalePlane
from snn_datasets.modalities.images import ImageReader, Resize
from snn_datasets.modalities.series import SeriesReader
from snn_datasets.modalities.video import VideoReader
from snn_datasets.stages.codings import Bernoulli, EventFrames, Frames, Latency, LogMel, Pixels, Steps
from snn_datasets.stages.corruption import AudioNoise, ImageNoise, ImageOcclusion
from snn_datasets.stages.windows import SeriesWindows

if TYPE_CHECKING:
    from snn_datasets.manifest.spec import ManifestSpec

AEDAT3_MARK = b"#!AER-DAT3"
LARGE_SENSOR = 128
"""Longest side in pixels up to which events are counted at full resolution, unless a size is given."""
SCALED_SENSOR = 64
"""Longest side that larger sensors are scaled to."""
UNITS: dict[RecordingKind, str] = {
    "image": "brightness from 0 to 1",
    "video": "brightness from 0 to 1",
    "waveform": "log power, standardized clip by clip",
    "events": "events per pixel and step",
    "series": "standard deviations of the training files, by channel",
}
"""Unit of the values that the default coding returns."""


class CheckLayout(Stage):
    """Reject recordings whose channels or sensor differ from the first training recording of their column."""

    what: str
    """The compared property, for the message."""
    expected: tuple[int, ...]
    """Its value in the first recording."""

    def __call__(self, value: Recording, draw: Draw) -> Recording:
        """Return the recording unchanged.

        Raises:
            ReadError: the layout differs.
        """
        layout = layout_of(value)[1]
        if layout != self.expected:
            raise ReadError(
                f"{self.what} {_by(layout)}, but {_by(self.expected)} in the first training file of the column; "
                "convert the file, or set the options of the column's reader"
            )
        return value


def layout_of(value: Recording) -> tuple[str, tuple[int, ...]]:
    """Return what all recordings of a modality must share, in words and as numbers."""
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
def build_manifest(spec: ManifestSpec, progress: ReportProgress | None = None) -> DatasetSplits:
    """Check the table, infer from the first training files how to read each column, then fill the caches.

    Raises:
        ValueError: a mistake in the table or the spec; the message gives row, column and value.
        FileNotFoundError, ReadError: a file is missing or damaged, unless it counts as absent.
        ImportError: an optional package is missing; the message names the extra to install.
    """
    manifest = read_manifest(spec)
    table, classes, splits = manifest.table, manifest.classes, manifest.splits
    index_of = {label: index for index, label in enumerate(classes)}
    rows: dict[Split, list[Row]] = {split: [_to_row(table, row, index_of) for row in splits[split]] for split in SPLITS}
    # In file order, before the validation split: neither the seed nor the fraction may change how files are read.
    training = [_to_row(table, row, index_of) for row in table.rows if row.split == "train"]
    notes = list(manifest.notes)
    modalities = {name: _modality(spec, table, name, kind, training, notes) for name, kind in table.kinds.items()}
    built = build_splits(
        spec,
        classes=classes,
        rows=rows,
        modalities=modalities,
        notes=notes,
        name=spec.root.expanduser().resolve().name or "manifest",
        progress=progress,
    )
    return replace(built, info=replace(built.info, notes=(*built.info.notes, *_unreadable(built))))


@dataclass(frozen=True)
class Manifest:
    """Content of a manifest, before any recording is opened."""

    table: Table
    classes: tuple[str, ...]
    splits: dict[Split, list[TableRow]]
    notes: tuple[str, ...]
    """Caveats for results on these splits."""


def read_manifest(spec: ManifestSpec) -> Manifest:
    """Read and check the table, and assign its rows to splits.

    Raises:
        ValueError: a mistake in the table or the spec; the message gives row, column and value.
        FileNotFoundError: the table, or a file that it names, does not exist.
    """
    # Absolute, so that caches and worker processes find the same files from any working directory.
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
                f"{table.path} has no modality column {name!r}, but the spec has columns.{name}; "
                f"the modality columns are {join_names(table.columns)}"
            )
    notes: list[str] = []
    if table.skipped:
        total = len(table.rows) + table.skipped
        notes.append(f"{table.skipped} of {total} rows have no {' or '.join(table.kinds)} and are skipped")
    classes = _classes(table)
    splits = _splits(table, val_fraction=spec.val_fraction, seed=spec.seed)
    return Manifest(table, classes, splits, (*notes, *similar_labels(classes), *_leaks(splits)))


def _to_row(table: Table, row: TableRow, index_of: Mapping[str, int]) -> Row:
    sources = {name: None if file is None else Source(file) for name, file in row.files.items()}
    return Row(row.id, index_of[row.label], sources, f"{table.path}, row {row.number}")


def _modality(
    spec: ManifestSpec,
    table: Table,
    name: str,
    kind: RecordingKind | None,
    training: Sequence[Row],
    notes: list[str],
) -> Modality:
    """Settle how a column is read: defaults come from its training files, and surprising ones are noted."""
    column = spec.columns.get(name)
    reader = column.reader if column is not None else None
    is_default = reader is None
    if reader is None:
        reader = _default_reader(table, name, kind, training, notes)
    coding = column.coding if column is not None else None
    size = spec.size if column is None or column.size is None else column.size
    if isinstance(reader, VideoReader) and isinstance(coding, Frames | None):
        # Do not store frames or pixels that the coding drops.
        limits = {"frames": spec.time_steps if coding is None else coding.steps, "height": size, "width": size}
        explicit = {field: value for field in limits if (value := getattr(reader, field)) is not None}
        reader = reader.model_copy(update={**limits, **explicit})
    row, first = _first_recording(spec, table, name, reader, training)
    if isinstance(reader, ImageReader) and reader.channels is None:
        # Images with other channels are converted, not rejected.
        reader = reader.model_copy(update={"channels": cast(Image, first).pixels.shape[0]})
    # Subclasses may read files without a table.
    if type(reader) is SeriesReader:
        reader = reader.with_names_of(cast(Source, row.sources[name]))
    own, augment = (column.cached, column.augment) if column is not None else ((), ())
    draw = Draw(spec.seed, row.id, name)
    try:
        is_encoded = isinstance(_through(own, first, draw), Tensor)
    except ValueError as error:
        raise ValueError(f"{row.describe_source(name)}: {error}") from error
    cached, per_read = _stages(spec, first, own, coding, size, is_encoded=is_encoded)
    if isinstance(first, Series) and not is_encoded:
        known_rate = not (is_default and isinstance(reader, SeriesReader) and reader.rate is not None)
        per_read = _series_stages(spec, name, reader, first, coding, training, known_rate=known_rate, notes=notes)
    if isinstance(first, Events) and coding is None and not is_encoded:
        per_read = _event_stages(name, first, column.size if column is not None else None, is_default, per_read, notes)
    try:
        prepared = _through(cached, first, draw)
        value = _through(per_read, prepared, draw)
        augmented = _through(per_read, _through(augment, prepared, draw), draw) if augment else value
    except ValueError as error:
        raise ValueError(f"{row.describe_source(name)}: {error}") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{table.path}, column {name!r}: its coding returns {type(value).__name__}, not a tensor")
    if not isinstance(augmented, Tensor) or augmented.shape != value.shape:
        got = tuple(augmented.shape) if isinstance(augmented, Tensor) else type(augmented).__name__
        raise ValueError(
            f"{table.path}, column {name!r}: columns.{name}.augment turns an input of {tuple(value.shape)} into {got}; "
            "training samples need the shape of all others, so choose transforms that keep it"
        )
    # A stage with steps puts time first.
    steps: int | None = getattr((*cached, *per_read)[-1], "steps", None)
    shape = tuple(value.shape) if steps is None else tuple(value.shape[1:])
    info = ModalityInfo(reader.gives, shape, steps, UNITS[reader.gives] if coding is None and not own else "")
    return Modality(reader, info, cached=cached, augment=augment, per_read=per_read)


def _through(stages: Sequence[Stage], value: Any, draw: Draw) -> Any:
    """Apply stages to the first recording."""
    for number, stage in enumerate(stages):
        value = stage(value, draw.of(stage, f"first {number}"))
    return value


def _series_stages(
    spec: ManifestSpec,
    name: str,
    reader: Reader,
    first: Series,
    coding: Stage | None,
    training: Sequence[Row],
    *,
    known_rate: bool,
    notes: list[str],
) -> tuple[Stage, ...]:
    """Return the stages that encode a series: the given coding, or one that loses little of the training files."""
    if coding is not None and not isinstance(coding, SeriesWindows):
        if isinstance(coding, Steps) and len(first.times) > coding.steps:
            notes.append(f"{name}: {describe_average(len(first.times), coding.steps)}")
        return (coding,)
    survey = SeriesSurvey.of(_sample_series(spec, name, reader, first, training))
    if coding is not None:
        return survey.standardize, coding
    stages, note = choose(name, survey, steps=spec.time_steps, known_rate=known_rate)
    notes.append(note)
    return stages


def _sample_series(
    spec: ManifestSpec, name: str, reader: Reader, first: Series, training: Sequence[Row]
) -> list[Series]:
    """Read evenly spaced training recordings with the channels of the first; unreadable ones are skipped."""
    rows = [row for row in training if row.sources[name] is not None]
    stride = max(1, len(rows) / SURVEYED)
    selected = [rows[int(number * stride)] for number in range(min(SURVEYED, len(rows)))]
    read = Preparation(name, Modality(reader, ModalityInfo("series", ())), spec.seed, missing=True)
    series = [value for value in map(read, selected) if isinstance(value, Series)]
    return [value for value in series if value.values.shape[1] == first.values.shape[1]] or [first]


def _event_stages(
    name: str, first: Events, size: int | None, is_default: bool, per_read: tuple[Stage, ...], notes: list[str]
) -> tuple[Stage, ...]:
    """Scale event frames to the given size, or scale down a large sensor if the column has no reader."""
    height, width = first.size
    if size is not None:
        return ScalePlane(height=size, width=size), *per_read
    if not is_default or max(height, width) <= LARGE_SENSOR:
        return per_read
    scale = SCALED_SENSOR / max(height, width)
    plane = ScalePlane(height=max(1, round(height * scale)), width=max(1, round(width * scale)))
    notes.append(
        f"{name}: events of {height} x {width} pixels are scaled to {plane.height} x {plane.width}; set "
        f"columns.{name}.size for another size"
    )
    return plane, *per_read


def _default_reader(
    table: Table, name: str, kind: RecordingKind | None, training: Sequence[Row], notes: list[str]
) -> Reader:
    assert kind is not None
    reader_kind: str = kind
    files = [source.path for row in training if (source := row.sources[name]) is not None and source.path.is_file()]
    if files and files[0].suffix.lower() == ".aedat":
        with files[0].open("rb") as file:
            reader_kind = "aedat3" if file.read(len(AEDAT3_MARK)) == AEDAT3_MARK else "aedat2"
    elif kind == "events" and files:
        survey = survey_events(name, files)
        notes.extend(survey.notes)
        return survey.reader
    elif kind == "series" and not any(_has_time(path) for path in files[:1]):
        notes.append(
            f"{name}: no column holds time, so rows are assumed evenly spaced; set columns.{name}.reader.rate to the "
            "rows per second"
        )
        return SeriesReader(rate=1)
    try:
        return READERS[reader_kind]()
    except ValidationError as error:
        needed = [str(problem["loc"][0]) for problem in error.errors()]
        raise ValueError(
            f"{table.path}, column {name!r}: its {kind} files do not state {' and '.join(needed)}; set "
            + ", ".join(f"columns.{name}.reader.{field}" for field in ("kind", *needed))
            + f", where kind is {reader_kind}"
        ) from error


def _has_time(path: Path) -> bool:
    try:
        return SeriesReader().has_time(Source(path))
    except ReadError:
        return True  # reading it reports the error


def _first_recording(
    spec: ManifestSpec, table: Table, name: str, reader: Reader, training: Sequence[Row]
) -> tuple[Row, Recording]:
    """Return the first training row with this modality, and its recording."""
    modality = Modality(reader, ModalityInfo(reader.gives, ()))
    read = Preparation(name, modality, spec.seed, missing=spec.on_error == "missing")
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
        f"{table.path}, column {name!r}: no training row has a readable file (first error: {reason}); a model cannot "
        "learn from it, so fix the files, or omit the column by setting modalities"
    )


def _stages(
    spec: ManifestSpec,
    first: Recording,
    own: tuple[Stage, ...],
    coding: Stage | None,
    size: int,
    *,
    is_encoded: bool,
) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return the stages before the cache and after it, by kind of recording.

    The cache holds images and frames of final size in bytes, spectrograms, and unchanged events and series. A column's
    own stages run before the conversion to a tensor, and replace it if they return a tensor.
    """
    # These two take values from 0 to 1, so a conversion to numbers precedes them.
    makes_spikes = isinstance(coding, Bernoulli | Latency)
    same = CheckLayout(what=layout_of(first)[0], expected=layout_of(first)[1])
    codings = () if coding is None else (coding,)
    match first:
        case Image():
            corrupt: list[Stage] = []
            if spec.image_occlusion:
                corrupt.append(ImageOcclusion(side=spec.image_occlusion))
            if spec.image_noise:
                corrupt.append(ImageNoise(std=spec.image_noise))
            per_read = (Pixels(), coding) if makes_spikes else (coding or Pixels(),)
            if is_encoded:
                return (same, *corrupt, *own), codings
            return (same, *corrupt, *own, Resize(height=size, width=size)), per_read
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
            coded = (log_mel, coding) if coding is not None and makes_spikes else (coding or log_mel,)
            coded = codings if is_encoded else coded
            return (Mono(), Resample(rate=spec.sample_rate or first.rate), *noise, *own, *coded), ()
        case Video():
            if is_encoded:
                return (same, *own), codings
            return (same, *own, Resize(height=size, width=size)), (coding or Frames(steps=spec.time_steps),)
        case Events():
            return (same, *own), codings if is_encoded else (coding or EventFrames(steps=spec.time_steps),)
        case Series():
            return (same, *own), codings if is_encoded else ()


def _classes(table: Table) -> tuple[str, ...]:
    """Return the labels of the training rows in order, numerically if all are integers."""
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
                "class without training rows; add training rows of it or remove this row"
            )
    if len(labels) < 2:
        raise ValueError(
            f"{table.path}, column 'label': all rows have {labels.pop()!r}; at least two classes are needed"
        )
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _splits(table: Table, *, val_fraction: float, seed: int) -> dict[Split, list[TableRow]]:
    """Assign rows to splits in file order; carve a validation split if the manifest has none."""
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
            val_groups = carve_by_group(groups, labels, fraction=val_fraction, seed=seed)
            val_ids = {row.id for row in train if row.group in val_groups}
        else:
            val_ids = carve_by_sample([row.id for row in train], labels, fraction=val_fraction, seed=seed)
    except ValueError as error:
        raise ValueError(f"{table.path} has no row with split 'val', and {error}") from error
    splits["val"] = [row for row in train if row.id in val_ids]
    splits["train"] = [row for row in train if row.id not in val_ids]
    return splits


def _unreadable(built: DatasetSplits) -> Iterator[str]:
    """Yield a sentence for each modality with unreadable files that count as absent.

    Without a cache no file has been read, so only missing files are known.
    """
    datasets = [part for part in (built.train, built.val, built.test) if isinstance(part, RecordedDataset)]
    for name in built.info.modalities:
        reasons: list[str] = []
        files = 0
        unread = False
        for dataset in datasets:
            store, indices = dataset.stores.get(name, (None, ()))
            unread |= store is None
            for number, row in enumerate(dataset.rows):
                source = row.sources[name]
                if source is None:
                    continue
                files += 1
                if store is not None:
                    reason = store.absent.get(indices[number])
                else:
                    reason = f"no file at {source.path}" if dataset.missing and not source.path.is_file() else None
                if reason is not None:
                    reasons.append(reason)
        if reasons:
            rest = "; damaged files are not counted, because files are read in advance only with a cache" * unread
            yield f"{len(reasons)} of {files} files of {name} count as absent; the first: {reasons[0]}{rest}"


def _leaks(splits: Mapping[Split, Sequence[TableRow]]) -> list[str]:
    """List what two splits share, in sentences: results on such splits are inflated."""
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
        for noun, by_split in (("group", groups), ("file", files)):
            shared = sorted({by_split[first][key] for key in by_split[first].keys() & by_split[second].keys()})
            if shared:
                verb, plural = ("is", "") if len(shared) == 1 else ("are", "s")
                notes.append(f"{len(shared)} {noun}{plural} {verb} in both {first} and {second}, such as {shared[0]}")
    return notes


def _identity(file: Path) -> object:
    """Identify a file regardless of spelling, symbolic links and hard links."""
    try:
        status = file.stat()
    except OSError:
        return os.path.normpath(file)
    return status.st_dev, status.st_ino
