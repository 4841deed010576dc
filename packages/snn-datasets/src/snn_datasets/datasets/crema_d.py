"""CREMA-D: six acted emotions, seen and heard."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from snn_datasets.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.check import published_table
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, FileDataSpec, Progress, Split
from snn_datasets.on_disk import absolute_path, find_files, require_samples
from snn_datasets.reader import Source
from snn_datasets.splits import carve_by_sample, split_of

if TYPE_CHECKING:
    from snn_datasets.modality import Modality
    from snn_datasets.reader import Reader
    from snn_datasets.recorded import Row
    from snn_datasets.stage import Stage

CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""The emotions as file names have them, in the order of labels."""

FORMER_STEMS = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
"""Clips as the first release named them, and many mirrors still do; with the names that they have now."""

BAD_CLIPS = {
    "1064_IEO_DIS_MD": "its video lasts 61 s and holds several emotions",
    "1064_TIE_SAD_XX": "its video states no duration and has 18 frames",
    "1076_MTI_NEU_XX": "its video has three frames and no sound, and its sound is nearly empty",
    "1076_MTI_SAD_XX": "its sound is silent, and its video shows no face",
}
"""Clips that are known to be unusable, with what is wrong (the repository's README and its issue 8)."""

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
            what="the first frame of each second, a folder a clip, for frames_from=folder",
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
        "protocol actors: by actor, so nobody is in two splits; protocol published: the 6,698 and 744 clips of the "
        "audio-visual literature, where every actor is in both, and validation carved out of training by clip"
    ),
    notes=(
        "The labels are what actors were asked to show; people who only see or only hear a clip often hear another.",
        "Labels run in the order ANG DIS FEA HAP NEU SAD. Published loaders disagree: some begin with NEU. Compare "
        "confusion matrices by name.",
        "In the published split every one of the 744 test clips has a clip of the same actor saying the same sentence "
        "in training; numbers on it say little about people who were never seen.",
        "Three pairs of files hold the same sound under two labels, told by their hashes: 1006_TIE_HAP_XX and "
        "1006_TIE_NEU_XX, 1013_WSI_DIS_XX and 1013_WSI_SAD_XX, 1017_IWW_ANG_XX and 1017_IWW_FEA_XX. The second pair is "
        "cut by the published split.",
        f"Four clips are known to be bad: {'; '.join(f'{stem}, {why}' for stem, why in BAD_CLIPS.items())}. The "
        "published split has them; bad_clips leave_out leaves them out.",
        "Mirrors have the sound of 1040_ITH_SAD_XX under its former name, 1040_ITH_SAD_X.wav; it is taken for it.",
    ),
)

STEM = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(XX|LO|MD|HI)")
"""Actor, sentence, emotion, level: XX where none was asked for, LO, MD or HI."""


class CremaDSpec(FileDataSpec):
    """CREMA-D (Cao et al. 2014): 91 actors say 12 sentences in 6 emotions; 7,442 clips of 1.3 to 5 seconds.

    Whatever clips lie under the root are used, so a part of the dataset will do to try things out; a note says so.
    """

    kind: Literal["crema-d"] = "crema-d"
    """Names this dataset."""

    protocol: Literal["actors", "published"] = "actors"
    """actors: no actor in two splits; T frames, and the spectrogram of the same T spans of time. published: split and
    inputs of the literature, one frame and one spectrogram a clip, both static (see `published_modalities`)."""

    frames_from: Literal["video", "folder"] = "video"
    """Frames are read from VideoFlash, or from the JPEGs in Image-01-FPS, a second apart, which the published protocol
    alone can use."""

    time_steps: int = Field(default=4, ge=1, le=128)
    """Time steps T of the protocol actors: frames of the video, evenly spaced over each clip."""

    size: int = Field(default=128, ge=16, le=320)
    """Height and width of frames in pixels, and rows of spectrograms. Published: 128."""

    columns: int = Field(default=32, ge=1, le=512)
    """Columns of the spectrogram in each time step of the protocol actors."""

    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of validation: of the actors, or of the published training clips. With 0 the published test clips are the
    validation clips too: that is how the literature chooses its best epoch, and too good to be true."""

    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the actors for testing; the published split has its own."""

    bad_clips: Literal["keep", "leave_out"] = "keep"
    """What becomes of the four clips that are known to be silent, nearly empty or too long (see the card). The
    published split has them; keep them to compare with its numbers."""

    @model_validator(mode="after")
    def _protocol_has_what_it_needs(self) -> CremaDSpec:
        if self.protocol == "actors":
            if self.frames_from == "folder":
                raise ValueError(
                    "protocol 'actors' shows frames evenly spaced in time, but Image-01-FPS has one a second; set "
                    "frames_from to video, or protocol to published"
                )
            if self.val_fraction == 0 or self.val_fraction + self.test_fraction >= 1:
                raise ValueError(
                    f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} are shares of the "
                    "actors: both above 0, together below 1"
                )
        return self

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Find the clips, deal them to the splits, fill the caches.

        Raises:
            FileNotFoundError: a folder is not there; the text says what to fetch.
            ReadError: a file is damaged, unless it counts as absent.
            ValueError: a file name is none of CREMA-D's, or a split is empty.
            ImportError: PyAV is needed to read the videos.
        """
        from snn_datasets.recorded import Row, build_splits

        root, names = absolute_path(self.root), self.selected_modalities()
        there = {name: self._files(root, name) for name in names}
        stems = sorted(set[str]().union(*there.values()))
        published = published_split()
        for stem in stems:
            parts = STEM.fullmatch(stem)
            if parts is None or parts[3] not in CODES or (self.protocol == "published" and stem not in published):
                path = next(files[stem] for files in there.values() if stem in files)
                raise ValueError(
                    f"{path} is no clip of CREMA-D, whose names are made of actor, sentence, emotion and level, such "
                    "as 1001_DFA_ANG_XX; move it away"
                )

        if self.bad_clips == "leave_out":
            stems = [stem for stem in stems if stem not in BAD_CLIPS]

        def row(stem: str) -> Row:
            sources = {name: self._source(there[name].get(stem), name, stem, root) for name in names}
            return Row(stem, CODES.index(stem.split("_")[2]), sources)

        dealt = self._dealt(stems)
        require_samples(
            dealt,
            "fetch more of the dataset, or choose another seed or other shares",
            needed=SPLITS if self.val_fraction else ("train", "test"),
        )
        rows: dict[Split, list[Row]] = {split: [row(stem) for stem in dealt[split]] for split in SPLITS}
        modalities = self._modalities(names)
        info = DatasetInfo(
            name="crema-d",
            classes=CODES,
            modalities={name: modality.info for name, modality in modalities.items()},
            notes=tuple(self._notes(dealt, len(published))),
        )
        splits = build_splits(self, info=info, rows=rows, modalities=modalities, progress=progress)
        return splits if rows["val"] else replace(splits, val=splits.test)

    def _files(self, root: Path, modality: str) -> dict[str, Path]:
        """By stem: the file of each clip; for frames in folders, the folder."""
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
            # Named all the same, so that the error, or the absence, says which file is missing.
            where = "audio" if modality == "audio" else self.frames_from
            folder, ending = {
                "audio": ("AudioWAV", ".wav"),
                "video": ("VideoFlash", ".flv"),
                "folder": ("Image-01-FPS", ""),
            }[where]
            return Source(root / folder / f"{stem}{ending}")
        if modality == "audio" or self.protocol == "actors":
            return Source(path)
        if self.frames_from == "video":
            second = _drawn(self.seed, stem, seconds_of_clip(stem))
            return Source(path, (float(second), float(second)))
        frames = sorted(path.glob("*.jpg"), key=lambda frame: (len(frame.name), frame.name))
        return Source(frames[_drawn(self.seed, stem, len(frames))])

    def _dealt(self, stems: Sequence[str]) -> dict[Split, list[str]]:
        dealt: dict[Split, list[str]] = {split: [] for split in SPLITS}
        if self.protocol == "actors":
            for stem in stems:
                split = split_of(stem[:4], val=self.val_fraction, test=self.test_fraction, seed=self.seed)
                dealt[split].append(stem)
            return dealt
        published = published_split()
        for stem in stems:
            dealt[published[stem]].append(stem)
        if self.val_fraction and dealt["train"]:
            train = dealt["train"]
            labels = [stem.split("_")[2] for stem in train]
            chosen = carve_by_sample(train, labels, fraction=self.val_fraction, seed=self.seed)
            dealt["val"] = [stem for stem in train if stem in chosen]
            dealt["train"] = [stem for stem in train if stem not in chosen]
        return dealt

    def _modalities(self, names: Sequence[str]) -> dict[str, Modality]:
        from snn_datasets.images import ImageReader
        from snn_datasets.video import Still, VideoReader

        if self.protocol == "actors":
            made = self._modalities_in_time()
        elif self.frames_from == "video":
            made = published_modalities(VideoReader(frames=1), (Still(),), size=self.size)
        else:
            made = published_modalities(ImageReader(channels=3), (), size=self.size)
        return {name: made[name] for name in names}

    def _modalities_in_time(self) -> dict[str, Modality]:
        from snn_datasets.audio import Clamp, Mono, WaveformReader
        from snn_datasets.dataset import ModalityInfo
        from snn_datasets.encoding import Frames, LogMagnitude
        from snn_datasets.images import IMAGENET, CenterCrop, RandomFlip, RandomResizedCrop
        from snn_datasets.modality import Modality
        from snn_datasets.video import VideoReader

        T, size = self.time_steps, self.size
        return {
            "audio": Modality(
                WaveformReader(),
                ModalityInfo("waveform", (1, size, self.columns), T, "log magnitude, standardized clip by clip"),
                prepare=(
                    Mono(),
                    Clamp(),
                    LogMagnitude(columns=self.columns, steps=T, rows=size, window_ms=32, hop_ms=10, scale="standard"),
                ),
            ),
            # Frames are 480 x 360. An eighth is left around what the test sees, and training crops are as large on
            # average, so that faces are of one size in both.
            "visual": Modality(
                VideoReader(frames=T, height=size * 9 // 8, width=size * 12 // 8),
                ModalityInfo("video", (3, size, size), T, "standardized as ImageNet"),
                augment=(RandomResizedCrop(size=size, scale=(0.4, 0.8)), RandomFlip()),
                encode=(CenterCrop(size=size), Frames(steps=T), IMAGENET),
            ),
        }

    def _notes(self, dealt: Mapping[Split, Sequence[str]], complete: int) -> list[str]:
        split_by_stem = {stem: split for split in SPLITS for stem in dealt[split]}
        notes: list[str] = []
        left_out = len(BAD_CLIPS) if self.bad_clips == "leave_out" else 0
        if len(split_by_stem) < complete - left_out:
            notes.append(f"{len(split_by_stem):,} of {complete:,} clips are there; the rest is left out.")
        if left_out:
            notes.append(f"Clips that are known to be bad are left out: {', '.join(BAD_CLIPS)}.")
        elif bad := [
            f"{stem} ({split_by_stem[stem]}), {why}" for stem, why in BAD_CLIPS.items() if stem in split_by_stem
        ]:
            notes.append(f"Clips that are known to be bad: {'; '.join(bad)}. bad_clips leave_out leaves them out.")
        if self.protocol == "published":
            notes.append(
                "The published split is not by actor: every actor of the test clips is in training too, and every test "
                "clip has one of the same actor and sentence there. Compare with protocol actors."
            )
            notes.append(
                "Validation is the test split, as in the literature: an epoch chosen by it has seen the test."
                if self.val_fraction == 0
                else f"Validation is {self.val_fraction:.0%} of the published training clips, which trains on so much "
                "less than the literature; val_fraction 0 selects on the test clips as it does."
            )
        for stems in same_sound():
            if any(stem in split_by_stem for stem in stems):
                places = " and ".join(f"{stem} ({split_by_stem.get(stem, 'not there')})" for stem in stems)
                notes.append(f"The same recording has two labels: {places}.")
        return notes


def published_modalities(reader: Reader, to_picture: tuple[Stage, ...], *, size: int = 128) -> dict[str, Modality]:
    """The inputs of the audio-visual literature since Peng et al. 2022 (arXiv:2203.15332), both static.

    Sound: one channel at 22,050 Hz, cut off at full scale, log(|STFT| + 1e-7) with windows of 512 and hops of 353
    samples, stretched to [1, size, size], not normalized. Picture: [3, size, size] with ImageNet's mean and deviation,
    in training a random part of 8 to 100 % of the picture, mirrored half of the time; elsewhere the middle of what is
    twice as high. Crops are drawn anew in every epoch, where the published code froze three of each.

    Args:
        reader: of the pictures.
        to_picture: stages from what it gives to an `Image`.
        size: height and width of both.
    """
    from snn_datasets.audio import Clamp, Mono, Resample, WaveformReader
    from snn_datasets.dataset import ModalityInfo
    from snn_datasets.encoding import LogMagnitude, Picture
    from snn_datasets.images import IMAGENET, CenterCrop, RandomFlip, RandomResizedCrop
    from snn_datasets.modality import Modality

    per_ms = 22_050 / 1000
    spectrogram = LogMagnitude(rows=size, columns=size, window_ms=512 / per_ms, hop_ms=353 / per_ms, floor=1e-7)
    return {
        "audio": Modality(
            WaveformReader(),
            ModalityInfo("waveform", (1, size, size), None, "log magnitude"),
            prepare=(Mono(), Resample(rate=22_050), Clamp(), spectrogram),
        ),
        "visual": Modality(
            reader,
            ModalityInfo("image", (3, size, size), None, "standardized as ImageNet"),
            prepare=to_picture,
            augment=(RandomResizedCrop(size=size), RandomFlip()),
            encode=(CenterCrop(size=size, shorter=2 * size), Picture(), IMAGENET),
        ),
    }


def _drawn(seed: int, stem: str, count: int) -> int:
    """A number below `count`, decided by the seed and the clip alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stem}".encode()).digest()[:7], "big") % count


@cache
def published_split() -> Mapping[str, Split]:
    """The split, train or test, of all 7,442 clips by stem, as the audio-visual literature deals them."""
    packed = resources("snn_datasets").joinpath("published_splits", "crema-d.csv.gz").read_bytes()
    split: dict[str, Split] = {"train": "train", "test": "test"}
    rows = csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8"), newline=""))
    return {row["stem"]: split[row["split"]] for row in rows}


def seconds_of_clip(stem: str) -> int:
    """How many seconds a clip has begun, from the published size of its sound: 16,000 samples of 2 bytes a second."""
    return -(-(published_table("crema-d")[f"AudioWAV/{stem}.wav"].bytes - 44) // 32_000)


@cache
def same_sound() -> tuple[tuple[str, ...], ...]:
    """Clips whose WAV files are the same byte by byte, though their labels differ."""
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for name, published in sorted(published_table("crema-d").items()):
        if name.startswith("AudioWAV/"):
            stems[published.sha256].append(Path(name).stem)
    return tuple(tuple(same) for same in stems.values() if len(same) > 1)
