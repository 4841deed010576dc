"""Datasets of web videos with a list of labels: AVE and Kinetics-Sounds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import SPLITS, DatasetSplits, FileDataSpec, ReportProgress, Split
from snn_datasets.base.listing import join_names, shorten
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.loading.on_disk import absolute_path, find_file, find_files, read_text, require_samples

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.loading.recorded import Row

_MODALITIES = {
    "audio": ModalityCard(kind="waveform", shape="[T, 1, 64, 32]", unit="log mel power, standardized per clip"),
    "visual": ModalityCard(kind="video", shape="[T, 3, 128, 128]", unit="standardized as ImageNet"),
}

AVE = DatasetCard(
    kind="ave",
    title="AVE, audio-visual events",
    version="2018",
    license="LicenseRef-unknown",
    license_note="the videos belong to their uploaders on YouTube; a subset of AudioSet",
    citation="Tian, Shi, Li, Duan and Xu 2018, Audio-Visual Event Localization in Unconstrained Videos, ECCV",
    sources=("the repository YapengTian/AVE-ECCV18 on GitHub, which links the videos",),
    files=(
        FileSet(pattern="AVE/*.mp4", what="videos of 10 s, named by their id"),
        FileSet(pattern="trainSet.txt", what="lines Category&VideoID&Quality&StartTime&EndTime", count=1),
        FileSet(pattern="valSet.txt", what="the same for validation", count=1),
        FileSet(pattern="testSet.txt", what="the same for testing", count=1),
        FileSet(pattern="Annotations.txt", what="all three together; not read", count=1, required=False),
    ),
    classes=(),
    modalities=_MODALITIES,
    splits="as published; a video with several events is in one split only: test, else validation",
    notes=(
        "Videos disappear from YouTube: report the number of clips.",
        "A video may have several events; with whole_video all its samples have the same inputs.",
    ),
)

KINETICS_SOUNDS = DatasetCard(
    kind="kinetics-sounds",
    title="Kinetics-Sounds, audio-visual actions",
    version="31 classes",
    license="LicenseRef-unknown",
    license_note="the videos belong to their uploaders on YouTube; the annotations of Kinetics are CC BY 4.0",
    citation=(
        "Arandjelovic and Zisserman 2017, Look, Listen and Learn, ICCV; videos: Kay et al. 2017, The Kinetics Human "
        "Action Video Dataset, arXiv:1705.06950"
    ),
    sources=("Kinetics-400, from its authors' annotations or a mirror of its videos",),
    files=(
        FileSet(pattern="annotations.csv", what="columns label, youtube_id, split, as Kinetics has them", count=1),
        FileSet(
            pattern="videos/**/*.mp4",
            what="<youtube_id>.mp4, or <youtube_id>_<start>_<end>.mp4, in any folders",
        ),
    ),
    classes=(
        "blowing nose",
        "blowing out candles",
        "bowling",
        "chopping wood",
        "dribbling basketball",
        "laughing",
        "mowing lawn",
        "playing accordion",
        "playing bagpipes",
        "playing bass guitar",
        "playing clarinet",
        "playing drums",
        "playing guitar",
        "playing harmonica",
        "playing keyboard",
        "playing organ",
        "playing piano",
        "playing saxophone",
        "playing trombone",
        "playing trumpet",
        "playing violin",
        "playing xylophone",
        "ripping paper",
        "shoveling snow",
        "shuffling cards",
        "singing",
        "stomping grapes",
        "tap dancing",
        "tapping guitar",
        "tapping pen",
        "tickling",
    ),
    modalities=_MODALITIES,
    splits="from the annotations; a video listed twice is in one split only: test, else validation",
    notes=(
        "The class list varies: the first had 34 names of an early Kinetics, of which 31 became classes of "
        "Kinetics-400; those are used here. Report the class list.",
        "Videos disappear from YouTube: report the number of clips.",
    ),
)


@dataclass(frozen=True, slots=True)
class ListedClip:
    """A line of a list."""

    video: str
    """Id of the video; all clips of a video are in one split."""
    label: str
    split: Split
    part: tuple[float, float] | None = None
    """Start and end in seconds; None is the whole video."""


class VideoListSpec(FileDataSpec):
    """Videos with a list of labels: T frames of each, and the spectrogram of the same T time steps."""

    time_steps: int = Field(default=4, ge=1, le=128)
    """Time steps T: frames, evenly spaced over each clip."""

    size: int = Field(default=128, ge=16, le=320)
    """Height and width of frames in pixels."""

    mel_bands: int = Field(default=64, ge=4, le=256)
    """Mel bands of the spectrogram."""

    columns: int = Field(default=32, ge=1, le=512)
    """Columns of the spectrogram in each time step."""

    sample_rate: int = Field(default=16_000, ge=2000, le=96_000)
    """Rate in Hz to which the sound is resampled."""

    def _build(
        self,
        clips: Sequence[ListedClip],
        videos: Mapping[str, Path],
        classes: tuple[str, ...],
        progress: ReportProgress | None,
    ) -> DatasetSplits:
        """Assign the clips with a video to the splits, and fill the caches."""
        from snn_datasets.loading.recorded import Row, build_splits

        available = [clip for clip in clips if clip.video in videos]
        selected = _one_split_per_video(available)
        notes: list[str] = []
        if len(available) < len(clips):
            notes.append(f"{len(clips) - len(available):,} of {len(clips):,} clips of the list have no video.")
        if dropped := len(available) - len(selected):
            notes.append(
                f"{dropped:,} clips are left out, because the list has other clips of their videos in the test or the "
                "validation split."
            )
        names = self.selected_modalities()
        rows: dict[Split, list[Row]] = {split: [] for split in SPLITS}
        for clip in selected:
            source = Source(videos[clip.video], clip.part or ())
            seconds = "" if clip.part is None else f" {clip.part[0]:g}-{clip.part[1]:g} s"
            id_ = f"{clip.video}{seconds} {clip.label}"
            rows[clip.split].append(Row(id_, classes.index(clip.label), dict.fromkeys(names, source)))
        require_samples(rows, "fetch more of the videos, or correct the list")
        modalities = self._modalities(names)
        return build_splits(self, classes=classes, rows=rows, modalities=modalities, notes=notes, progress=progress)

    def _modalities(self, names: Sequence[str]) -> dict[str, Modality]:
        from snn_datasets.base.dataset import ModalityInfo
        from snn_datasets.base.modality import Modality
        from snn_datasets.modalities.audio import Mono, Resample
        from snn_datasets.modalities.images import IMAGENET, CenterCrop, RandomFlip, RandomResizedCrop
        from snn_datasets.modalities.video import SoundtrackReader, VideoReader
        from snn_datasets.stages.codings import Frames, LogMel

        T, size = self.time_steps, self.size
        known = {
            "audio": Modality(
                SoundtrackReader(),
                ModalityInfo("waveform", (1, self.mel_bands, self.columns), T, _MODALITIES["audio"].unit),
                cached=(
                    Mono(),
                    Resample(rate=self.sample_rate),
                    LogMel(columns=self.columns, steps=T, bands=self.mel_bands),
                ),
            ),
            # Videos of all aspect ratios are stored as squares, 1/8 larger than the test crop; training crops have the
            # same size on average.
            "visual": Modality(
                VideoReader(frames=T, height=size * 9 // 8, width=size * 9 // 8),
                ModalityInfo("video", (3, size, size), T, _MODALITIES["visual"].unit),
                augment=(RandomResizedCrop(size=size, scale=(0.6, 1.0)), RandomFlip()),
                per_read=(CenterCrop(size=size), Frames(steps=T), IMAGENET),
            ),
        }
        return {name: known[name] for name in names}


class AveSpec(VideoListSpec):
    """AVE (Tian et al. 2018): 28 classes of audio-visual events in videos of 10 seconds; splits as published.

    Classes are the categories of the lists in alphabetical order.
    """

    kind: Literal["ave"] = "ave"
    """AVE, audio-visual events."""

    whole_video: bool = False
    """Whether a sample is the whole video instead of the span of its event."""

    card: ClassVar[DatasetCard] = AVE

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Read the lists, find the videos, fill the caches."""
        root = absolute_path(self.root)
        videos = {path.stem: path for path in find_files(root, "AVE/*.mp4", AVE)}
        clips: list[ListedClip] = []
        for split in SPLITS:
            clips += self._clips(find_file(root, f"{split}Set.txt", AVE), split)
        clips = list(dict.fromkeys(clips))
        return self._build(clips, videos, tuple(sorted({clip.label for clip in clips})), progress)

    def _clips(self, path: Path, split: Split) -> Iterable[ListedClip]:
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            cells = [cell.strip() for cell in line.split("&")]
            if not line.strip() or cells[0] == "Category":
                continue
            try:
                category, video, _, *times = cells
                start, end = (float(time) for time in times)
            except ValueError:
                start = end = -1.0
                category = video = ""
            if not (category and video and 0 <= start <= end):
                raise ValueError(
                    f"{path}, line {number}: {shorten(line)!r} is not Category&VideoID&Quality&StartTime&EndTime "
                    "with 0 <= StartTime <= EndTime; correct or fetch it again"
                )
            # A few events of the lists have no length; they select no part of their videos.
            if self.whole_video:
                yield ListedClip(video, category, split)
            elif start < end:
                yield ListedClip(video, category, split, (start, end))


class KineticsSoundsSpec(VideoListSpec):
    """Kinetics-Sounds (Arandjelovic and Zisserman 2017): 31 classes of audio-visual actions from Kinetics-400.

    The table may be that of Kinetics-400: rows with other labels are skipped.
    """

    kind: Literal["kinetics-sounds"] = "kinetics-sounds"
    """Kinetics-Sounds."""

    card: ClassVar[DatasetCard] = KINETICS_SOUNDS

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Read the table, find the videos, fill the caches."""
        root = absolute_path(self.root)
        table = find_file(root, "annotations.csv", KINETICS_SOUNDS)
        # Names may end in the clip's start and end seconds; an id may end the same way, so both names are looked up.
        videos: dict[str, Path] = {}
        for path in find_files(root, "videos/**/*.mp4", KINETICS_SOUNDS):
            videos[path.stem] = videos[re.sub(r"_\d{6}_\d{6}$", "", path.stem)] = path
        return self._build(_kinetics(table), videos, KINETICS_SOUNDS.classes, progress)


def _kinetics(table: Path) -> list[ListedClip]:
    splits: dict[str, Split] = {"train": "train", "val": "val", "validate": "val", "test": "test"}
    clips: list[ListedClip] = []
    try:
        rows = csv.DictReader(io.StringIO(read_text(table), newline=""))
        needed = {"label", "youtube_id", "split"}
        if not needed <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{table} has columns {join_names(rows.fieldnames or ())}; it needs label, youtube_id and split"
            )
        for row in rows:
            split = splits.get((row["split"] or "").strip())
            if split is None:
                value = shorten(row["split"] or "")
                raise ValueError(
                    f"{table}, line {rows.line_num}: split {value!r} is not one of {', '.join(splits)}; correct it"
                )
            if row["label"] in KINETICS_SOUNDS.classes:
                clips.append(ListedClip(row["youtube_id"], row["label"], split))
    except csv.Error as error:
        raise ReadError(f"{table} is not a CSV file: {error}; fetch it again") from error
    return list(dict.fromkeys(clips))


def _one_split_per_video(clips: Sequence[ListedClip]) -> list[ListedClip]:
    """Drop clips whose video is also in the test split or, failing that, in the validation split."""
    split_by_video: dict[str, Split] = {}
    for split in ("test", "val", "train"):
        for clip in clips:
            if clip.split == split:
                split_by_video.setdefault(clip.video, clip.split)
    return [clip for clip in clips if split_by_video[clip.video] == clip.split]
