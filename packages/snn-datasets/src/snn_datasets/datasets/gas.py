"""Two datasets of 16 metal-oxide gas sensors from UC San Diego: dynamic mixtures, and drift over three years."""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.card import DatasetCard, FileSet, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ModalityInfo, ReportProgress, Split
from snn_datasets.base.reader import Source
from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.gas_text import (
    FEATURES,
    GASES,
    SENSORS,
    GasDriftReader,
    GasMixturesReader,
    sensors_within,
)
from snn_datasets.loading.on_disk import absolute_path, find_file, find_files, require_samples
from snn_datasets.modalities.series import Standardize, SubtractBaseline

if TYPE_CHECKING:
    from torch import Tensor

    from snn_datasets.loading.recorded import Row


STATES = ("air", "ethylene", "second gas", "both")
NEIGHBORS = (
    "Windows close in time are similar because of drift alone, so they are not shuffled between splits: training comes "
    "first, then a gap, validation, a gap, and testing."
)

MIXTURES_CARD = DatasetCard(
    kind="gas-mixtures",
    title="Gas sensor array under dynamic gas mixtures",
    version="UCI 322, 2015",
    license="CC-BY-4.0",
    license_note="as stated by the repository; its description says research only",
    citation=(
        "Fonollosa et al. 2015, Reservoir computing compensates slow response of chemosensor arrays exposed to fast "
        "varying gas concentrations in continuous monitoring, Sensors and Actuators B 215:618-629"
    ),
    sources=("UCI machine learning repository, dataset 322",),
    files=(
        FileSet(
            pattern="ethylene_*.txt",
            what="ethylene_CO.txt and ethylene_methane.txt: seconds, set points of both gases, 16 sensors",
            count=2,
        ),
    ),
    classes=STATES,
    modalities={"gas": ModalityCard(kind="series", shape="[T, 16]", unit="standard deviations above the baseline")},
    splits=(
        "by time within one recording of twelve hours: training first, testing last, with gaps between, and no sample "
        "across a gap"
    ),
    notes=(
        "A sample starts at a change of the set points; its baseline is the seconds before, and nothing later.",
        NEIGHBORS,
        "The recordings with CO and with methane are not combined: distinguishing the recordings by their drift would "
        "distinguish the gases (compare Dennler et al. 2022, arXiv:2108.08793, on another such dataset).",
        "Set points are commands to the valves; the gas reaches the sensors, and they respond, seconds later.",
    ),
)

DRIFT_CARD = DatasetCard(
    kind="gas-drift",
    title="Gas sensor array drift",
    version="UCI 224, 2012, or UCI 270, 2013, with concentrations",
    license="LicenseRef-research-only",
    license_note="its authors exclude commercial use",
    citation=(
        "Vergara et al. 2012, Chemical gas sensor drift compensation using classifier ensembles, Sensors and Actuators "
        "B 166-167:320-329"
    ),
    sources=("UCI machine learning repository, dataset 224 or 270",),
    files=(FileSet(pattern="batch*.dat", what="lines of gas (and concentration) and 128 numbered features", count=10),),
    classes=GASES,
    modalities={"gas": ModalityCard(kind="series", shape="[128]", unit="standard deviations of training features")},
    splits="by batch, that is by time: months 1 to 36 in ten batches, by default 1 to 6, then 7, then 8 to 10",
    notes=(
        "13,910 measurements as 8 features of each of 16 sensors: not a time series, so the input is static.",
        "Sensors age from batch to batch. Drawing training and test samples from the same batches hides that.",
        "Batches are not balanced, and some have no toluene.",
    ),
)


class GasMixturesSpec(FileDataSpec):
    """16 gas sensors while ethylene and a second gas vary randomly; the label is the set of present gases (UCI 322)."""

    kind: Literal["gas-mixtures"] = "gas-mixtures"

    mixture: Literal["ethylene_CO", "ethylene_methane"] = "ethylene_CO"
    """The recording; the two are not combined, see the card."""

    response_s: float = Field(default=60.0, gt=0, le=600)
    """Duration of a sample in seconds, from a change of the set points on; shorter intervals are left out."""

    baseline_s: float = Field(default=5.0, gt=0, le=60)
    """Seconds before that change whose mean is subtracted."""

    rate: float = Field(default=10.0, gt=0, le=100)
    """Values per second after averaging; the file has about 100."""

    val_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Fraction of the recording's duration for validation."""

    test_fraction: float = Field(default=0.25, gt=0, lt=1)
    """Fraction of the recording's duration for testing, at its end."""

    guard_s: float = Field(default=120.0, ge=0)
    """Gap in seconds before validation and before testing."""

    time_steps: int = Field(default=30, ge=1, le=10_000)
    """Time steps T of each sample."""

    card: ClassVar[DatasetCard] = MIXTURES_CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Split the recording at changes of the set points.

        The 640 MB of text are parsed once, in about half a minute, and the averages are cached; without a cache every
        process that reads samples parses the text once.
        """
        from snn_datasets.base.modality import Modality
        from snn_datasets.loading.recorded import build_splits
        from snn_datasets.stages.codings import Steps

        (name,) = self.selected_modalities()
        root = absolute_path(self.root)
        path = find_file(root, f"{self.mixture}.txt", MIXTURES_CARD)
        reader = GasMixturesReader(rate=self.rate)
        table = self._table(reader, path)
        rows = self._rows(name, path, table)
        baseline = SubtractBaseline(seconds=self.baseline_s)
        responses = [
            baseline(sensors_within(table, source), Draw(self.seed, row.id, name)).values
            for row in rows["train"]
            if (source := row.sources[name]) is not None
        ]
        info = ModalityInfo("series", (SENSORS,), self.time_steps, MIXTURES_CARD.modalities[name].unit)
        modality = Modality(
            reader,
            info,
            cached=(baseline,),
            per_read=(Standardize.of(np.concatenate(responses)), Steps(steps=self.time_steps)),
        )
        return build_splits(
            self,
            classes=STATES,
            rows=rows,
            modalities={name: modality},
            notes=(NEIGHBORS,),
            progress=progress,
        )

    def _table(self, reader: GasMixturesReader, path: Path) -> Series:
        """Return the averaged recording, from the cache if possible."""
        from snn_datasets.base.modality import Modality
        from snn_datasets.cache.fill import CacheOptions, cache_key, open_or_fill
        from snn_datasets.cache.folder import cache_folder
        from snn_datasets.loading.recorded import Preparation, Row

        source = Source(path)
        if self.cache == "off":
            return reader.read(source)
        whole = Modality(reader, ModalityInfo("series", (2 + SENSORS,)))
        store = open_or_fill(
            CacheOptions(cache_folder(self.cache_folder), self.cache_limit_gb, self.cache == "hash"),
            dataset=MIXTURES_CARD.kind,
            name="recording",
            key=cache_key(whole, ["recording"], [source], self.seed, hash_files=self.cache == "hash"),
            samples=[Row("recording", 0, {"recording": source})],
            prepare=Preparation("recording", whole, self.seed, missing=False),
            progress=None,
        )
        table = store[0]
        assert isinstance(table, Series)
        return table

    def _rows(self, name: str, path: Path, table: Series) -> dict[Split, list[Row]]:
        from snn_datasets.loading.recorded import Row

        val, test = self.val_fraction, self.test_fraction
        if val + test >= 1:
            raise ValueError(
                f"val_fraction {val} and test_fraction {test} are fractions of one recording; their sum must be below 1"
            )
        half = 0.5 / self.rate  # times are the middles of the averaged spans
        length = float(table.times[-1]) + half
        begin_val, begin_test = length * (1 - val - test), length * (1 - test)
        spans: dict[Split, tuple[float, float]] = {
            "train": (0.0, begin_val),
            "val": (begin_val + self.guard_s, begin_test),
            "test": (begin_test + self.guard_s, length),
        }
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        for first, end in pairwise(_changes(table)):
            onset = float(table.times[first]) - half
            start, stop = onset - self.baseline_s, onset + self.response_s
            if first == 0 or stop > float(table.times[end - 1]) + half + 1e-6:
                continue  # no baseline, or shorter than a sample
            second, ethylene = (value > 0 for value in table.values[first, :2].tolist())
            label = ethylene + 2 * second  # as STATES
            for split, (earliest, latest) in spans.items():
                if earliest <= start and stop <= latest:
                    id_ = f"{self.mixture}/{onset:09.2f}"
                    rows[split].append(Row(id_, label, {name: Source(path, (start, stop))}))
        require_samples(
            rows,
            f"{path} lasts {length:g} s: choose a shorter response_s ({self.response_s:g}) or guard_s "
            f"({self.guard_s:g}), or larger fractions",
        )
        return rows


class GasDriftSpec(FileDataSpec):
    """16 gas sensors and six gases over three years, as 128 features per measurement (UCI 224, 270)."""

    kind: Literal["gas-drift"] = "gas-drift"

    train_groups: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """Batches for training."""

    val_groups: tuple[int, ...] = (7,)
    """Batches for validation."""

    test_groups: tuple[int, ...] = (8, 9, 10)
    """Batches for testing."""

    card: ClassVar[DatasetCard] = DRIFT_CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Read the selected batches; features are standardized with the training batches."""
        from snn_datasets.base.modality import Modality
        from snn_datasets.loading.recorded import Row, build_splits

        (name,) = self.selected_modalities()
        batches: dict[Split, tuple[int, ...]] = {
            "train": self.train_groups,
            "val": self.val_groups,
            "test": self.test_groups,
        }
        numbers = [number for split_batches in batches.values() for number in split_batches]
        if len(set(numbers)) < len(numbers):
            repeated = next(number for number in numbers if numbers.count(number) > 1)
            raise ValueError(
                f"batch {repeated} is listed twice among train_groups, val_groups and test_groups; list it once"
            )
        root = absolute_path(self.root)
        find_files(root, DRIFT_CARD.files[0].pattern, DRIFT_CARD)
        reader = GasDriftReader()
        rows: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
        features: list[NDArray[np.float64]] = []
        for split, split_batches in batches.items():
            for number in split_batches:
                path = find_file(root, f"batch{number}.dat", DRIFT_CARD)
                labels, batch_features = reader.batch(path)
                if split == "train":
                    features.append(batch_features)
                rows[split] += [
                    Row(f"batch{number}/{line:04d}", label, {name: Source(path, (line,))})
                    for line, label in enumerate(labels)
                ]
        require_samples(rows, "set at least one batch in each of train_groups, val_groups and test_groups")
        info = ModalityInfo("series", (FEATURES,), None, DRIFT_CARD.modalities[name].unit)
        modality = Modality(reader, info, per_read=(Standardize.of(np.concatenate(features)), OneRow()))
        return build_splits(
            self,
            classes=GASES,
            rows=rows,
            modalities={name: modality},
            progress=progress,
        )


class OneRow(Stage):
    """A series of one row as a static input.

    Shape: `Series` [1, C] -> [C]
    """

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Return the row."""
        import torch

        if len(value.values) != 1:
            raise ValueError(f"a static input is one row, but the series has {len(value.values)}; average it first")
        return torch.from_numpy(value.values[0].copy())


def _changes(table: Series) -> list[int]:
    """Return where the set points change: the first index of each interval, and the end."""
    set_points = table.values[:, :2]
    changed = (set_points[1:] != set_points[:-1]).any(axis=1)
    return [0, *(np.flatnonzero(changed) + 1).tolist(), len(table.times)]
