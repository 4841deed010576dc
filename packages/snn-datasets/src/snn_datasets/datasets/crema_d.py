"""CREMA-D: six acted emotions in video and sound."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import SPLITS, DatasetSplits, FileDataSpec, ReportProgress, Split
from snn_datasets.base.reader import Source
from snn_datasets.datasets.audio_visual import (
    carve_validation,
    check_fractions,
    published_modalities,
    validation_note,
)
from snn_datasets.loading.on_disk import absolute_path, find_files, require_samples
from snn_datasets.loading.packaged import published_table, read_packaged_table
from snn_datasets.loading.splits import split_of

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.loading.recorded import Row

CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""The emotion codes of file names, in label order."""

FORMER_STEMS = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
"""Names of clips in the first release and many mirrors, with their current names."""

BAD_CLIPS = {
    "1064_IEO_DIS_MD": "its video lasts 61 s and shows several emotions",
    "1064_TIE_SAD_XX": "its video states no duration and has 18 frames",
    "1076_MTI_NEU_XX": "its video has three frames and no sound, and its sound is nearly empty",
    "1076_MTI_SAD_XX": "its sound is silent, and its video shows no face",
}
"""Clips known to be unusable, with the reason (from the README and issue 8 of the dataset's repository)."""

CARD = DatasetCard(
    kind="crema-d",
    title="CREMA-D, Crowd-sourced Emotional Multimodal Actors Dataset",
    version="2014",
    license="ODbL-1.0",
    license_note="of the database; its contents are under DbCL 1.0",
    citation=(
        "Cao, Cooper, Keutmann, Gur, Nenkova and Verma 2014, CREMA-D: Crowd-sourced Emotional Multimodal Actors "
        "Dataset, IEEE Transactions on Affective Computing 5(4), 377-390"
    ),
    sources=(
        "the repository CheyneyComputerScience/CREMA-D on GitHub, by Git-LFS",
        "its mirror cs-cooper-lab/crema-d-mirror on GitLab",
    ),
    files=(
        FileSet(
            pattern="AudioWAV/*.wav",
            what="sound, 16 kHz",
            count=7442,
            modalities=("audio",),
            checksums="crema-d",
            former_names={f"AudioWAV/{old}.wav": f"AudioWAV/{new}.wav" for old, new in FORMER_STEMS.items()},
        ),
        FileSet(
            pattern="VideoFlash/*.flv",
            what="video with sound; or the next",
            count=7442,
            required=False,
            modalities=("visual",),
            checksums="crema-d",
            former_names={f"VideoFlash/{old}.flv": f"VideoFlash/{new}.flv" for old, new in FORMER_STEMS.items()},
        ),
        FileSet(
            pattern="Image-01-FPS/*/*.jpg",
            what="the first frame of each second, one folder per clip, for frames_from=folder",
            required=False,
            modalities=("visual",),
        ),
    ),
    classes=CODES,
    modalities={
        "audio": ModalityCard(
            kind="waveform", shape="[T, 1, 128, 32], or [1, 128, 128] as published", unit="log magnitude"
        ),
        "visual": ModalityCard(
            kind="video", shape="[T, 3, 128, 128], or [3, 128, 128] as published", unit="standardized as ImageNet"
        ),
    },
    splits=(
        "protocol actors: by actor, so no actor is in two splits; protocol published: the 6,698 and 744 clips of the "
        "audio-visual literature, where every actor is in both, and validation taken from training by clip"
    ),
    notes=(
        "The labels are the emotions that actors were asked to show; viewers of the video or sound alone often "
        "perceive another.",
        "The label order is ANG DIS FEA HAP NEU SAD. Published loaders differ: some begin with NEU. Compare confusion "
        "matrices by name.",
        "In the published split each of the 744 test clips has a training clip of the same actor saying the same "
        "sentence; results on it say little about unseen people.",
        "Three pairs of files have the same sound under two labels, as their checksums show: 1006_TIE_HAP_XX and "
        "1006_TIE_NEU_XX, 1013_WSI_DIS_XX and 1013_WSI_SAD_XX, 1017_IWW_ANG_XX and 1017_IWW_FEA_XX. The published "
        "split divides the second pair.",
        f"Four clips are known to be bad: {'; '.join(f'{stem}, {reason}' for stem, reason in BAD_CLIPS.items())}. The "
        "published split includes them; bad_clips leave_out excludes them.",
        "Mirrors have the sound of 1040_ITH_SAD_XX under its former name, 1040_ITH_SAD_X.wav, which is accepted.",
    ),
)

STEM = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(XX|LO|MD|HI)")
"""Actor, sentence, emotion, level: LO, MD or HI, or XX if unspecified."""


class CremaDSpec(FileDataSpec):
    """CREMA-D (Cao et al. 2014): 91 actors say 12 sentences in 6 emotions; 7,442 clips of 1.3 to 5 seconds.

    All clips under the root are used, so a part of the dataset suffices for first experiments; a note reports it.
    """

    kind: Literal["crema-d"] = "crema-d"
    """CREMA-D."""

    protocol: Literal["actors", "published"] = "actors"
    """actors: no actor in two splits; T frames, and the spectrogram of the same T time steps. published: split and
    inputs of the literature, one frame and one spectrogram per clip, both static (see `published_modalities`)."""

    frames_from: Literal["video", "folder"] = "video"
    """Source of frames: VideoFlash, or the JPEGs in Image-01-FPS, one per second (protocol published only)."""

    time_steps: int = Field(default=4, ge=1, le=128)
    """Time steps T of the protocol actors: frames of the video, evenly spaced over each clip."""

    size: int = Field(default=128, ge=16, le=320)
    """Height and width of frames in pixels, and rows of spectrograms. Published: 128."""

    columns: int = Field(default=32, ge=1, le=512)
    """Columns of the spectrogram in each time step of the protocol actors."""

    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Fraction for validation: of the actors, or of the published training clips. With 0, validation is the published
    test split, on which the literature selects its best epoch; such results are too high."""

    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Fraction of the actors for testing; not used by the published split."""

    bad_clips: Literal["keep", "leave_out"] = "keep"
    """Whether to use the four clips known to be silent, nearly empty or too long (see the card). The published split
    includes them; keep them to compare with its results."""

    @model_validator(mode="after")
    def _check_protocol(self) -> CremaDSpec:
        if self.protocol == "actors":
            if self.frames_from == "folder":
                raise ValueError(
                    "protocol 'actors' takes frames evenly spaced in time, but Image-01-FPS has one per second; set "
                    "frames_from to video, or protocol to published"
                )
            check_fractions(self.val_fraction, self.test_fraction, "actors")
        return self

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Find the clips, assign them to splits, and fill the caches."""
        from snn_datasets.loading.recorded import Row, build_splits

        root, names = absolute_path(self.root), self.selected_modalities()
        files_of = {name: self._files(root, name) for name in names}
        stems = sorted(set[str]().union(*files_of.values()))
        published = published_split()
        for stem in stems:
            parts = STEM.fullmatch(stem)
            if parts is None or parts[3] not in CODES or (self.protocol == "published" and stem not in published):
                path = next(files[stem] for files in files_of.values() if stem in files)
                raise ValueError(
                    f"{path} is not a clip of CREMA-D, whose names consist of actor, sentence, emotion and level, such "
                    "as 1001_DFA_ANG_XX; move it away"
                )

        if self.bad_clips == "leave_out":
            stems = [stem for stem in stems if stem not in BAD_CLIPS]

        def row(stem: str) -> Row:
            sources = {name: self._source(files_of[name].get(stem), name, stem, root) for name in names}
            return Row(stem, CODES.index(stem.split("_")[2]), sources)

        stems_of = self._assign(stems)
        require_samples(
            stems_of,
            "fetch more of the dataset, or choose another seed or other fractions",
            needed=SPLITS if self.val_fraction else ("train", "test"),
        )
        rows: dict[Split, list[Row]] = {split: [row(stem) for stem in stems_of[split]] for split in SPLITS}
        splits = build_splits(
            self,
            classes=CODES,
            rows=rows,
            modalities=self._modalities(names),
            notes=self._notes(stems_of, len(published)),
            progress=progress,
        )
        return splits if rows["val"] else replace(splits, val=splits.test)

    def _files(self, root: Path, modality: str) -> dict[str, Path]:
        """Return the file of each clip by stem; for frames in folders, the folder."""
        if modality == "audio":
            files = {path.stem: path for path in find_files(root, "AudioWAV/*.wav", CARD)}
        elif self.frames_from == "video":
            files = {path.stem: path for path in find_files(root, "VideoFlash/*.flv", CARD)}
        else:
            files = {path.parent.name: path.parent for path in find_files(root, "Image-01-FPS/*/*.jpg", CARD)}
        for old, new in FORMER_STEMS.items():
            if old in files:
                files.setdefault(new, files[old])
                del files[old]
        return files

    def _source(self, path: Path | None, modality: str, stem: str, root: Path) -> Source:
        if path is None:
            # The expected path, so that the error, or the note on a missing modality, names the file.
            folder, suffix = {
                "audio": ("AudioWAV", ".wav"),
                "video": ("VideoFlash", ".flv"),
                "folder": ("Image-01-FPS", ""),
            }["audio" if modality == "audio" else self.frames_from]
            return Source(root / folder / f"{stem}{suffix}")
        if modality == "audio" or self.protocol == "actors":
            return Source(path)
        if self.frames_from == "video":
            second = _random_index(self.seed, stem, seconds_of_clip(stem))
            return Source(path, (float(second), float(second)))
        frames = sorted(path.glob("*.jpg"), key=lambda frame: (len(frame.name), frame.name))
        return Source(frames[_random_index(self.seed, stem, len(frames))])

    def _assign(self, stems: Sequence[str]) -> dict[Split, list[str]]:
        stems_of: dict[Split, list[str]] = {split: [] for split in SPLITS}
        if self.protocol == "actors":
            for stem in stems:
                split = split_of(stem[:4], val=self.val_fraction, test=self.test_fraction, seed=self.seed)
                stems_of[split].append(stem)
            return stems_of
        published = published_split()
        for stem in stems:
            stems_of[published[stem]].append(stem)
        if self.val_fraction and stems_of["train"]:
            stems_of["train"], stems_of["val"] = carve_validation(
                stems_of["train"],
                id_of=str,
                label_of=lambda stem: stem.split("_")[2],
                fraction=self.val_fraction,
                seed=self.seed,
            )
        return stems_of

    def _modalities(self, names: Sequence[str]) -> dict[str, Modality]:
        from snn_datasets.modalities.images import ImageReader
        from snn_datasets.modalities.video import FirstFrame, VideoReader

        if self.protocol == "actors":
            known = self._stepped_modalities()
        elif self.frames_from == "video":
            known = published_modalities(VideoReader(frames=1), (FirstFrame(),), size=self.size)
        else:
            known = published_modalities(ImageReader(channels=3), (), size=self.size)
        return {name: known[name] for name in names}

    def _stepped_modalities(self) -> dict[str, Modality]:
        from snn_datasets.base.dataset import ModalityInfo
        from snn_datasets.base.modality import Modality
        from snn_datasets.modalities.audio import Clamp, Mono, WaveformReader
        from snn_datasets.modalities.images import IMAGENET, CenterCrop, RandomFlip, RandomResizedCrop
        from snn_datasets.modalities.video import VideoReader
        from snn_datasets.stages.codings import Frames, LogMagnitude

        T, size = self.time_steps, self.size
        return {
            "audio": Modality(
                WaveformReader(),
                ModalityInfo("waveform", (1, size, self.columns), T, "log magnitude, standardized per clip"),
                cached=(
                    Mono(),
                    Clamp(),
                    LogMagnitude(columns=self.columns, steps=T, rows=size, window_ms=32, hop_ms=10, scale="standard"),
                ),
            ),
            # Frames are 480 x 360. They are stored 1/8 larger than the test crop, and training crops have the same size
            # on average, so that faces have the same size in both.
            "visual": Modality(
                VideoReader(frames=T, height=size * 9 // 8, width=size * 12 // 8),
                ModalityInfo("video", (3, size, size), T, "standardized as ImageNet"),
                augment=(RandomResizedCrop(size=size, scale=(0.4, 0.8)), RandomFlip()),
                per_read=(CenterCrop(size=size), Frames(steps=T), IMAGENET),
            ),
        }

    def _notes(self, stems_of: Mapping[Split, Sequence[str]], complete: int) -> list[str]:
        split_by_stem = {stem: split for split in SPLITS for stem in stems_of[split]}
        notes: list[str] = []
        left_out = len(BAD_CLIPS) if self.bad_clips == "leave_out" else 0
        if len(split_by_stem) < complete - left_out:
            notes.append(f"{len(split_by_stem):,} of {complete:,} clips are available.")
        if left_out:
            notes.append(f"Clips known to be bad are left out: {', '.join(BAD_CLIPS)}.")
        elif bad := [
            f"{stem} ({split_by_stem[stem]}), {reason}" for stem, reason in BAD_CLIPS.items() if stem in split_by_stem
        ]:
            notes.append(f"Clips known to be bad: {'; '.join(bad)}. bad_clips leave_out excludes them.")
        if self.protocol == "published":
            notes.append(
                "The published split is not by actor: every actor of the test clips is also in training, with a clip "
                "of the same sentence for every test clip. Compare with protocol actors."
            )
            notes.append(validation_note(self.val_fraction))
        for stems in same_sound():
            if any(stem in split_by_stem for stem in stems):
                clips = " and ".join(f"{stem} ({split_by_stem.get(stem, 'missing')})" for stem in stems)
                notes.append(f"The same recording has two labels: {clips}.")
        return notes


def _random_index(seed: int, stem: str, count: int) -> int:
    """Return an index below `count` that depends only on the seed and the clip."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stem}".encode()).digest()[:7], "big") % count


@cache
def published_split() -> Mapping[str, Split]:
    """Return the split, train or test, of all 7,442 clips by stem, as in the audio-visual literature."""
    split: dict[str, Split] = {"train": "train", "test": "test"}
    return {row["stem"]: split[row["split"]] for row in read_packaged_table("published_splits", "crema-d")}


def seconds_of_clip(stem: str) -> int:
    """Return the duration of a clip, rounded up to seconds, from the published size of its 16-bit sound at 16 kHz."""
    return -(-(published_table("crema-d")[f"AudioWAV/{stem}.wav"].bytes - 44) // 32_000)


@cache
def same_sound() -> tuple[tuple[str, ...], ...]:
    """Return groups of clips with identical WAV files but different labels."""
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for name, published in sorted(published_table("crema-d").items()):
        if name.startswith("AudioWAV/"):
            stems[published.sha256].append(Path(name).stem)
    return tuple(tuple(same) for same in stems.values() if len(same) > 1)
