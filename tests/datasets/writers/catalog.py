"""Every dataset with a small copy of it in its real layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.writers.crema_d import write_crema_d
from datasets.writers.dvs128_gesture import write_dvs128_gesture
from datasets.writers.flv import write_video
from datasets.writers.gas import write_gas_drift, write_gas_mixtures
from datasets.writers.hand_gestures import write_hand_gestures
from datasets.writers.jpeg import write_jpeg
from datasets.writers.made_up import MadeUpSpec, write_made_up
from datasets.writers.mnistdvs_ntidigits import write_mnistdvs_ntidigits
from datasets.writers.shd import write_shd
from datasets.writers.st_mnist import write_st_mnist
from datasets.writers.urbansound8k_av import write_urbansound8k_av
from datasets.writers.video_folders import AVE_LISTS, write_ave, write_kinetics_sounds
from datasets.writers.wav import write_wav
from snn_datasets import DATASETS, DataSpec, FileDataSpec


@dataclass(frozen=True)
class Entry:
    """How a small copy of one dataset is made and opened."""

    kind: str
    write: Callable[[Path], object]
    """Writes it into a folder."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Options that suit so small a copy."""
    is_on_disk: bool = True
    """Whether it has files at all."""

    def spec(self, root: Path, **more: Any) -> DataSpec:
        """What opens the copy, with further options if they are those of a dataset of files."""
        spec_type = MadeUpSpec if self.kind == "made-up" else DATASETS[self.kind]
        options = dict(self.fields)
        if self.is_on_disk:
            options["root"] = root
        if issubclass(spec_type, FileDataSpec):
            options |= more
        return spec_type.model_validate(options)


def write_pictures_and_tones(root: Path) -> None:
    """A manifest of 18 samples of two classes."""
    rows = ["sample_id,split,label,photo,sound"]
    for number in range(18):
        split, label = ("train", "train", "val", "test")[number % 4], ("cat", "dog")[number // 4 % 2]
        write_jpeg(root / f"p{number}.jpg", height=20, width=24, left=(9 * number, 80, 40), right=(0, 10 * number, 90))
        write_wav(root / f"s{number}.wav", hertz=300 + 100 * number, rate=8000, seconds=0.3)
        rows.append(f"{number},{split},{label},p{number}.jpg,s{number}.wav")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_mnistdvs_ntidigits_stmnist(root: Path) -> None:
    """All three modalities."""
    write_mnistdvs_ntidigits(root)
    write_st_mnist(root / "ST-MNIST", per_digit=24)


def write_hand_gestures_with_frames(root: Path) -> None:
    """The recordings, and the frames as `convert_davis` makes them."""
    from snn_datasets.formats.hand_gesture_arrays import convert_davis

    write_hand_gestures(root)
    for path in sorted(root.glob("*_davis.npz")):
        convert_davis(path, allow_pickle=True)


def write_more_of_ave(root: Path) -> None:
    """With a second class in training."""
    write_ave(root, {**AVE_LISTS, "train": (*AVE_LISTS["train"], "Violin, fiddle&gggggggggg7&good&0&3")})


def with_other_videos(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same files, but each video brighter and higher than the one before."""

    def write_differing(root: Path) -> None:
        write(root)
        for number, path in enumerate(sorted(root.rglob("*.mp4"))):
            write_video(path, frames=30, rate=10, height=48, width=64, step=1 + number, hertz=400 + 300 * number)

    return write_differing


CATALOG: dict[str, Entry] = {
    entry.kind: entry
    for entry in (
        Entry("made-up", write_made_up),
        Entry("digits", lambda root: None, {"modalities": ("visual",)}, is_on_disk=False),
        Entry("manifest", write_pictures_and_tones, {"size": 16, "mel_bands": 20}),
        Entry("crema-d", write_crema_d, {"size": 32, "columns": 8}),
        Entry("urbansound8k-av", write_urbansound8k_av, {"size": 32}),
        Entry("mnistdvs-ntidigits", write_mnistdvs_ntidigits, {"val_fraction": 0.25, "test_fraction": 0.3}),
        Entry("st-mnist", write_st_mnist),
        Entry(
            "mnistdvs-ntidigits-stmnist", write_mnistdvs_ntidigits_stmnist, {"val_fraction": 0.25, "test_fraction": 0.3}
        ),
        Entry("hand-gestures", write_hand_gestures_with_frames),
        Entry("shd", write_shd),
        Entry("dvs128-gesture", write_dvs128_gesture),
        Entry("gas-mixtures", write_gas_mixtures, {"response_s": 5.0, "baseline_s": 2.0, "guard_s": 5.0}),
        Entry("gas-drift", write_gas_drift),
        Entry("ave", with_other_videos(write_more_of_ave), {"size": 32, "mel_bands": 16}),
        Entry("kinetics-sounds", with_other_videos(write_kinetics_sounds), {"size": 32, "mel_bands": 16}),
    )
}
