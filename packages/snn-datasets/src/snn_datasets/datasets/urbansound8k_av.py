"""UrbanSound8K-AV: urban sounds, each with an image of its source."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import SPLITS, DatasetSplits, FileDataSpec, ReportProgress, Split
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.datasets.audio_visual import (
    carve_validation,
    check_fractions,
    published_modalities,
    validation_note,
)
from snn_datasets.loading.on_disk import absolute_path, find_files, read_text, require_samples
from snn_datasets.loading.splits import split_of

if TYPE_CHECKING:
    from snn_datasets.loading.recorded import Row

FOLDS = 10
"""The official folds are numbered from 1."""

CARD = DatasetCard(
    kind="urbansound8k-av",
    title="UrbanSound8K-AV",
    version="2023",
    license="LicenseRef-unknown",
    license_note=(
        "its source states none for the images; the sounds are those of UrbanSound8K, CC BY-NC 3.0, for non-commercial "
        "research"
    ),
    citation=(
        "Guo, Gao, Qu, Zhao, Xiong and Yu 2023, Transformer-based Spiking Neural Networks for Multimodal Audio-Visual "
        "Classification, IEEE Transactions on Cognitive and Developmental Systems; sounds: Salamon, Jacoby and Bello "
        "2014, A Dataset and Taxonomy for Urban Sound Research, ACM Multimedia"
    ),
    sources=("the dataset lingyueguo/urbansound8k-av on Kaggle", "UrbanSound8K for metadata/UrbanSound8K.csv"),
    files=(
        FileSet(pattern="Dataset_v3_vision/*/*.jpg", what="images, one folder per class", modalities=("visual",)),
        FileSet(
            pattern="Dataset_v3_sound/*/*.wav",
            what="sounds of at most 4 s, with the names of the images",
            modalities=("audio",),
        ),
        FileSet(
            pattern="metadata/UrbanSound8K.csv",
            what="the table of UrbanSound8K, for protocol folds",
            count=1,
            required=False,
        ),
    ),
    classes=(
        "air_conditioner",
        "car_horn",
        "children_playing",
        "dog_bark",
        "drilling",
        "engine_idling",
        "gun_shot",
        "jackhammer",
        "siren",
        "street_music",
    ),
    modalities={
        "audio": ModalityCard(kind="waveform", shape="[1, 128, 128]", unit="log magnitude"),
        "visual": ModalityCard(kind="image", shape="[3, 128, 128]", unit="standardized as ImageNet"),
    },
    splits=(
        "protocol grouped: by source recording, so that slices of one are never in two splits; protocol folds: the "
        "same by UrbanSound8K's official folds; protocol published: the first 70 % of each class for training, with "
        "slices of one recording on both sides"
    ),
    notes=(
        "The literature splits files in the order of one disk's directory listing; sorted by name, as here, 28 % of "
        "the training clips differ. Its results are comparable, but its split cannot be reproduced.",
        "A sound is cut into slices of at most 4 s; in the published split slices of one recording are in training and "
        "in testing.",
    ),
)

STEM = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)")
"""Source recording (Freesound fsID), class, occurrence, slice."""


class UrbanSound8KAVSpec(FileDataSpec):
    """UrbanSound8K-AV (Guo et al. 2023): ten classes of urban sounds, each slice with an image; both inputs static.

    With every protocol the inputs are those of the literature, see `audio_visual.published_modalities`; sounds are
    converted to one rate and one channel.
    """

    kind: Literal["urbansound8k-av"] = "urbansound8k-av"
    """UrbanSound8K-AV."""

    protocol: Literal["grouped", "folds", "published"] = "grouped"
    """grouped: by source recording, drawn by `seed`. folds: by official fold, from metadata/UrbanSound8K.csv.
    published: the first 70 % of each class, by name, are for training."""

    test_fold: int = Field(default=10, ge=1, le=FOLDS)
    """Test fold of the protocol folds; the fold before it (10 before 1) is for validation."""

    size: int = Field(default=128, ge=16, le=320)
    """Height and width of both inputs."""

    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Fraction for validation: of the recordings (grouped), or of the published training clips. With 0, validation is
    the published test split, on which the literature selects its best epoch."""

    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Fraction of the recordings for testing (protocol grouped)."""

    @model_validator(mode="after")
    def _check_fractions(self) -> UrbanSound8KAVSpec:
        if self.protocol == "grouped":
            check_fractions(self.val_fraction, self.test_fraction, "recordings")
        return self

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Find the clips, assign them to splits, and fill the caches."""
        from snn_datasets.loading.recorded import Row, build_splits
        from snn_datasets.modalities.images import ImageReader

        root, names = absolute_path(self.root), self.selected_modalities()
        folders = {"visual": ("Dataset_v3_vision", "jpg"), "audio": ("Dataset_v3_sound", "wav")}
        clips = sorted(
            {
                (_class_of(path), path.stem)
                for name in names
                for path in find_files(root, f"{folders[name][0]}/*/*.{folders[name][1]}", CARD)
            }
        )

        def row(clip: tuple[str, str]) -> Row:
            class_, stem = clip
            paths = {name: root / folders[name][0] / class_ / f"{stem}.{folders[name][1]}" for name in names}
            return Row(f"{class_}/{stem}", CARD.classes.index(class_), {n: Source(path) for n, path in paths.items()})

        clips_of = self._assign(clips, root)
        shared_test = self.protocol == "published" and self.val_fraction == 0
        require_samples(
            clips_of,
            "fetch more of the dataset, or choose another seed, other fractions or another fold",
            needed=("train", "test") if shared_test else SPLITS,
        )
        rows: dict[Split, list[Row]] = {split: [row(clip) for clip in clips_of[split]] for split in SPLITS}
        known = published_modalities(ImageReader(channels=3), (), size=self.size)
        splits = build_splits(
            self,
            classes=CARD.classes,
            rows=rows,
            modalities={name: known[name] for name in names},
            notes=self._notes(clips_of),
            progress=progress,
        )
        return replace(splits, val=splits.test) if shared_test else splits

    def _assign(self, clips: Sequence[tuple[str, str]], root: Path) -> dict[Split, list[tuple[str, str]]]:
        clips_of: dict[Split, list[tuple[str, str]]] = {split: [] for split in SPLITS}
        if self.protocol == "published":
            by_class: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
            for clip in clips:
                by_class[clip[0]].append(clip)
            for members in by_class.values():
                first_test = len(members) * 7 // 10
                clips_of["train"] += members[:first_test]
                clips_of["test"] += members[first_test:]
            if self.val_fraction and clips_of["train"]:
                clips_of["train"], clips_of["val"] = carve_validation(
                    clips_of["train"],
                    id_of="/".join,
                    label_of=lambda clip: clip[0],
                    fraction=self.val_fraction,
                    seed=self.seed,
                )
            return clips_of
        folds = _folds(root) if self.protocol == "folds" else {}
        named: dict[int, Split] = {self.test_fold: "test", (self.test_fold - 2) % FOLDS + 1: "val"}
        for class_, stem in clips:
            if self.protocol == "grouped":
                split = split_of(recording_of(stem), val=self.val_fraction, test=self.test_fraction, seed=self.seed)
            else:
                if stem not in folds:
                    raise ValueError(
                        f"metadata/UrbanSound8K.csv has no row for {stem}.wav of class {class_}; remove the clip, "
                        "or fetch the complete table"
                    )
                split = named.get(folds[stem], "train")
            clips_of[split].append((class_, stem))
        return clips_of

    def _notes(self, clips_of: Mapping[Split, Sequence[tuple[str, str]]]) -> list[str]:
        if self.protocol != "published":
            return []
        recordings = {split: {_source_recording(stem) for _, stem in clips_of[split]} - {None} for split in SPLITS}
        tested = Counter(_source_recording(stem) for _, stem in clips_of["test"])
        shared = sum(count for recording, count in tested.items() if recording in recordings["train"])
        return [
            f"The published split divides recordings: {shared:,} of {len(clips_of['test']):,} test clips are slices of "
            "a recording that is also in training. Compare with protocol grouped.",
            validation_note(self.val_fraction),
        ]


def _class_of(path: Path) -> str:
    class_ = path.parent.name
    if class_ not in CARD.classes:
        raise ValueError(f"the folder of {path} is not one of the classes {', '.join(CARD.classes)}; rename or move it")
    return class_


def recording_of(stem: str) -> str:
    """Return the source recording of a slice.

    Raises:
        ValueError: the name is not one of UrbanSound8K's.
    """
    recording = _source_recording(stem)
    if recording is None:
        raise ValueError(
            f"the name {stem!r} does not contain its source recording, as in 100032-3-0-0; restore the original name, "
            "or set protocol to published"
        )
    return recording


def _source_recording(stem: str) -> str | None:
    parts = STEM.fullmatch(stem)
    return None if parts is None else parts[1]


def _folds(root: Path) -> dict[str, int]:
    """Return the official fold by stem."""
    table = root / "metadata" / "UrbanSound8K.csv"
    if not table.is_file():
        raise FileNotFoundError(
            f"no file at {table} with the official folds; fetch it from UrbanSound8K, or set protocol to grouped"
        )
    try:
        rows = csv.DictReader(io.StringIO(read_text(table), newline=""))
        folds = {Path(row["slice_file_name"]).stem: int(row["fold"]) for row in rows}
    except ReadError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{table} is not UrbanSound8K's table with the columns slice_file_name and fold (1 to {FOLDS}): "
            f"{error!r}; fetch it again"
        ) from error
    return folds
