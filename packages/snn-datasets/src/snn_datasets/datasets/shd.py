"""The Spiking Heidelberg Digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.reader import Source
from snn_datasets.loading.on_disk import absolute_path, find_file
from snn_datasets.loading.splits import carve_by_group

if TYPE_CHECKING:
    from snn_datasets.loading.recorded import Row

CLASSES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
)
FILES: dict[str, str] = {"train": "shd_train.h5", "test": "shd_test.h5"}
SHARED = (
    "The published test set has two unseen speakers and further utterances of the training speakers: it is not "
    "disjoint by speaker."
)

CARD = DatasetCard(
    kind="shd",
    title="Spiking Heidelberg Digits",
    version="2020",
    license="CC-BY-4.0",
    license_note="not verified; see the page of the dataset",
    citation=(
        "Cramer et al. 2020, The Heidelberg spiking data sets for the systematic evaluation of spiking neural "
        "networks, IEEE TNNLS, doi:10.1109/TNNLS.2020.3044364"
    ),
    sources=(
        "Zenke lab, Heidelberg spiking datasets: shd_train.h5.zip (MD5 f3252aeb598ac776c1b526422d90eecb) and "
        "shd_test.h5.zip (MD5 1503a5064faa34311c398fb0a1ed0a6f), unpacked",
    ),
    files=(
        FileSet(pattern="shd_train.h5", what="utterances for training, with their speakers", count=1),
        FileSet(pattern="shd_test.h5", what="utterances for testing", count=1),
    ),
    classes=CLASSES,
    modalities={"audio": ModalityCard(kind="events", shape="[T, units]", unit="spikes by unit and step")},
    splits=(
        "training and test as published; validation is whole speakers from training, so that nothing needs to be tuned "
        "on the test set"
    ),
    notes=(
        "8,156 and 2,264 utterances by 12 speakers in English and German, as 700 units of an inner ear model.",
        SHARED,
        "Times are stored as float16, with a resolution of 0.5 to 1 ms from 0.5 s on, so time steps below 1 ms add "
        "nothing.",
        "No validation set is published, and much of the literature selected its model on the test set; such results "
        "are too high.",
    ),
)


class ShdSpec(FileDataSpec):
    """Spoken digits in English and German as spikes of 700 units of an inner ear model (SHD)."""

    kind: Literal["shd"] = "shd"
    """Spiking Heidelberg Digits."""

    val_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Fraction of the training utterances for validation, in whole speakers."""

    time_steps: int = Field(default=100, ge=1, le=10_000)
    """Time steps T of equal duration."""

    seconds: float = Field(default=1.4, gt=0, le=10)
    """Duration of every utterance: later spikes are cut off, shorter utterances end in silence."""

    units: int = Field(default=700, ge=1, le=700)
    """Input units; fewer than 700 merge neighbors, whose spikes add up."""

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Assign speakers to training and validation, and read every utterance once."""
        from snn_datasets.base.modality import Modality
        from snn_datasets.formats.hdf5 import SHD_UNITS, ShdReader
        from snn_datasets.loading.recorded import build_splits
        from snn_datasets.modalities.events import FitDuration, FlattenFrames, ScalePlane
        from snn_datasets.stages.codings import EventFrames

        (name,) = self.selected_modalities()
        merge = () if self.units == SHD_UNITS else (ScalePlane(height=1, width=self.units),)
        info = ModalityInfo("events", (self.units,), self.time_steps, "spikes by unit and step")
        modality = Modality(
            ShdReader(),
            info,
            cached=(FitDuration(seconds=self.seconds), *merge),
            per_read=(EventFrames(steps=self.time_steps), FlattenFrames()),
        )
        return build_splits(
            self,
            classes=CLASSES,
            notes=(SHARED,),
            rows=self._rows(name),
            modalities={name: modality},
            progress=progress,
        )

    def _rows(self, name: str) -> dict[Split, list[Row]]:
        from snn_datasets.base.reader import ReadError
        from snn_datasets.formats.hdf5 import shd_contents
        from snn_datasets.loading.recorded import Row

        root = absolute_path(self.root)
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        for part, file in FILES.items():
            path = find_file(root, file, CARD)
            labels, speakers, keys = shd_contents(path)
            if len(keys) != len(CLASSES):
                raise ReadError(f"{path} has {len(keys)} classes rather than {len(CLASSES)}; fetch it again")
            groups = [f"speaker{speaker}" for speaker in speakers.tolist()]
            val_groups: set[str] = set()
            if part == "train":
                val_groups = carve_by_group(
                    groups, [str(label) for label in labels.tolist()], fraction=self.val_fraction, seed=self.seed
                )
            for number, (group, label) in enumerate(zip(groups, labels.tolist(), strict=True)):
                split: Split = "test" if part == "test" else "val" if group in val_groups else "train"
                rows[split].append(Row(f"{part}/{group}/{number:04d}", label, {name: Source(path, (number,))}))
        return rows
