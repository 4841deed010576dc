"""Time the reading of datasets against the published pipeline and tonic, in one process with interleaved candidates.

Files are generated in a temporary folder: images and sounds of CREMA-D's size and length, and event recordings. One
thread, thread CPU time, medians; files are in the page cache, as in every epoch but the first. tonic is not a
dependency because of its license (GPL-3.0):

    uv run --with tonic python benchmarks/preparation.py                     print the tables
    uv run --with tonic python benchmarks/preparation.py --output FILE.md    write them as well
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import soundfile
import torch
import torchaudio
from PIL import Image
from torch import Tensor
from torchvision import transforms

from snn_datasets import (
    DatasetCard,
    DatasetSplits,
    Draw,
    Events,
    FileDataSpec,
    ModalityCard,
    ModalityInfo,
    RecordedDataset,
    ReportProgress,
    Row,
    Source,
    build_splits,
)
from snn_datasets.base.modality import Modality
from snn_datasets.datasets.crema_d import CremaDSpec, published_split
from snn_datasets.modalities.audio import WaveformReader
from snn_datasets.modalities.events import EventsReader
from snn_datasets.stages.codings import EventFrames

ROUNDS = 7
CLIPS = 96
RECORDINGS = 240
STEPS = 16
SAMPLES = 10_000
"""Number of samples read in sequence to see whether memory grows."""


def timed(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each candidate over interleaved rounds."""
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            start = time.thread_time()
            run()
            times[name].append(time.thread_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


# Images and sound


def write_clips(root: Path) -> None:
    """Write clips with CREMA-D's names, sizes and lengths: smooth images of 480 x 360, noise of 2.5 s at 16 kHz."""
    rng = np.random.default_rng(0)
    split = published_split()
    train = [stem for stem in split if split[stem] == "train"][:CLIPS]
    test = [stem for stem in split if split[stem] == "test"][:8]
    (root / "AudioWAV").mkdir(parents=True)
    for stem in (*train, *test):
        small = Image.fromarray(rng.integers(0, 256, (45, 60, 3), np.uint8))
        folder = root / "Image-01-FPS" / stem
        folder.mkdir(parents=True)
        small.resize((480, 360), Image.Resampling.BICUBIC).save(folder / "00000.jpg", quality=90)
        wave = rng.normal(0, 0.1, rng.integers(32_000, 48_000)).clip(-1, 1)
        soundfile.write(root / "AudioWAV" / f"{stem}.wav", wave, 16_000)


class PublishedPipeline:
    """The published processing of one training clip, in plain torchvision and torchaudio."""

    def __init__(self, root: Path, stems: Sequence[str]) -> None:
        self.root, self.stems = root, stems
        self.image = transforms.Compose(
            [
                transforms.RandomResizedCrop(128),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        self.square = transforms.Compose([transforms.Resize((128, 128)), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        stem = self.stems[index]
        visual = self.image(Image.open(self.root / "Image-01-FPS" / stem / "00000.jpg").convert("RGB"))
        # torchaudio.load needs TorchCodec, which is slower than this.
        samples, rate = soundfile.read(self.root / "AudioWAV" / f"{stem}.wav", dtype="float32", always_2d=True)
        wave = torchaudio.transforms.Resample(rate, 22_050)(torch.from_numpy(samples.T)).clamp(-1, 1)
        spectrogram = torchaudio.transforms.Spectrogram(512, hop_length=353, power=1.0, pad_mode="constant")(wave)
        audio = self.square(Image.fromarray(torch.log(spectrogram + 1e-7).squeeze().numpy()))
        return cast("Tensor", audio), cast("Tensor", visual)


def clips(root: Path) -> list[str]:
    write_clips(root / "clips")

    def build(**fields: Any) -> RecordedDataset:
        spec = CremaDSpec(
            root=root / "clips",
            protocol="published",
            frames_from="folder",
            val_fraction=0,
            cache_folder=root / "cache",
            **fields,
        )
        train = spec.build().train
        assert isinstance(train, RecordedDataset)
        return train

    plain, cached = build(cache="off"), build(cache="auto")
    published = PublishedPipeline(root / "clips", plain.ids)
    torch.testing.assert_close(published[0][0], plain[0].inputs["audio"], atol=1e-3, rtol=0)
    assert published[0][1].shape == plain[0].inputs["visual"].shape
    epoch = iter(range(1_000_000))

    def ours(dataset: RecordedDataset) -> None:
        number = next(epoch)
        for index in range(CLIPS):
            dataset[number, index]

    times = timed(
        {
            "published": partial(read_all, published),
            "uncached": lambda: ours(plain),
            "cached": lambda: ours(cached),
        }
    )
    size = sum(path.stat().st_size for path in (root / "cache").rglob("*") if path.is_file())
    return [
        "## A training clip of CREMA-D as published, JPEG and WAV to tensors",
        "",
        "Every row draws new crops and flips in every epoch. The cache holds uncropped images and final spectrograms, "
        f"{size / (CLIPS + 8) / 1e3:.0f} kB per clip.",
        "",
        "| pipeline | clips/s | against published |",
        "|---|---|---|",
        *(
            row(name, f"{CLIPS / times[name]:.0f}", f"{times['published'] / times[name]:.2f}")
            for name in ("published", "uncached", "cached")
        ),
    ]


def sounds(root: Path) -> list[str]:
    files = sorted((root / "clips" / "AudioWAV").glob("*.wav"))
    reader = WaveformReader()
    times = timed(
        {
            "soundfile.read": lambda: [soundfile.read(path, dtype="float32", always_2d=True) for path in files],
            "WaveformReader": lambda: [reader.read(Source(path)) for path in files],
        }
    )
    return [
        "## Reading WAV files of 2 to 3 s",
        "",
        "The reader also rejects files that are truncated, too long, empty, or contain NaN.",
        "",
        "| | files/s |",
        "|---|---|",
        *(row(name, f"{len(files) / seconds:.0f}") for name, seconds in times.items()),
    ]


# Events


def draw_events(count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return events [count] of an edge that crosses the sensor in 0.3 s, as during a saccade."""
    events = np.empty(count, np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]))
    events["t"] = np.sort(rng.integers(0, 300_000, count))
    center = side * (0.3 + 0.4 * events["t"] / 300_000)
    events["x"] = np.clip(rng.normal(center, side / 10), 0, side - 1)
    events["y"] = np.clip(rng.normal(side / 2, side / 5, count), 0, side - 1)
    events["p"] = rng.integers(0, 2, count)
    return events


CARD = DatasetCard(
    kind="drawn-events",
    title="Random events of this benchmark",
    version="1",
    license="Apache-2.0",
    citation="",
    sources=("this file",),
    classes=("any",),
    modalities={"events": ModalityCard(kind="events", shape="[T, 2, side, side]", unit="events")},
    splits="all for training",
)


class EventFolder(FileDataSpec):
    """A folder of event recordings, each a training sample."""

    kind: str = "drawn-events"
    side: int = 34

    card: ClassVar[DatasetCard] = CARD

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Use all recordings of the folder for training."""
        rows = [Row(path.stem, 0, {"events": Source(path)}) for path in sorted(self.root.glob("*.npy"))]
        modality = Modality(
            EventsReader(height=self.side, width=self.side),
            ModalityInfo("events", (2, self.side, self.side), STEPS),
            per_read=(EventFrames(steps=STEPS),),
        )
        return build_splits(
            self,
            classes=CARD.classes,
            rows={"train": rows, "val": (), "test": ()},
            modalities={"events": modality},
        )


class TonicRecordings:
    """The same files in the form of a tonic dataset."""

    def __init__(self, files: Sequence[Path], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        events = np.load(self.files[index])
        return (events if self.transform is None else self.transform(events)), 0


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def event_rows(root: Path, tonic: Any, *, count: int, side: int) -> list[str]:
    folder = root / f"events-{side}"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(RECORDINGS):
        np.save(folder / f"{number:04d}.npy", draw_events(count, side, rng))
    files = sorted(folder.glob("*.npy"))
    cached = EventFolder(root=folder, side=side, cache_folder=root / f"cache-{side}").build().train
    assert cached[0].inputs["events"].sum() == count
    readings: dict[str, Callable[[], object]] = {"ours": partial(read_all, cached)}
    sizes = {"ours": disk(root / f"cache-{side}")}
    if tonic is not None:
        to_frame = tonic.transforms.ToFrame(sensor_size=(side, side, 2), n_time_bins=STEPS)
        for name, before, after in (("tonic, frames", to_frame, None), ("tonic, events", None, to_frame)):
            cache = root / f"{name}-{side}"
            dataset = tonic.DiskCachedDataset(TonicRecordings(files, before), str(cache), transform=after)
            readings[name] = partial(read_all, dataset)
            readings[name]()
            sizes[name] = disk(cache)
    times = timed(readings)
    return [
        row(
            f"{count:,}",
            side,
            name,
            f"{RECORDINGS / seconds:.0f}",
            f"{sizes[name] / RECORDINGS / 1e3:.1f}",
            f"{seconds / times['ours']:.1f}",
            f"{sizes['ours'] / sizes[name]:.2f}",
        )
        for name, seconds in times.items()
    ]


def read_all(dataset: Any) -> None:
    """Read every sample once and keep none, because allocating memory for all would cost more than reading."""
    for index in range(len(dataset)):
        dataset[index]


def events(root: Path, tonic: Any) -> list[str]:
    return [
        f"## Events to [{STEPS}, 2, side, side], every epoch",
        "",
        f"{RECORDINGS} recordings. Ours caches events and computes float32 frames of all events on reading; tonic's "
        "`DiskCachedDataset` caches the int16 frames of `ToFrame`, or the events.",
        "",
        "| events | side | reading | samples/s | kB per sample | speedup of ours | disk use of ours |",
        "|---|---|---|---|---|---|---|",
        *event_rows(root, tonic, count=4_200, side=34),
        *event_rows(root, tonic, count=30_000, side=128),
    ]


def frame_row(tonic: Any, count: int) -> str:
    raw = draw_events(count, 128, np.random.default_rng(0))
    events = Events.of(t=raw["t"], x=raw["x"], y=raw["y"], p=raw["p"].astype(np.uint8), size=(128, 128))
    encode, draw = EventFrames(steps=STEPS), Draw(0, "", "")
    candidates: dict[str, Callable[[], object]] = {"ours": lambda: encode(events, draw)}
    if tonic is not None:
        to_frame = tonic.transforms.ToFrame(sensor_size=(128, 128, 2), n_time_bins=STEPS)
        candidates["tonic"] = lambda: to_frame(raw)
    times = timed(candidates)
    theirs = f"{times['tonic'] * 1e3:.2f}" if tonic is not None else "-"
    ratio = f"{times['tonic'] / times['ours']:.1f}" if tonic is not None else "-"
    return row(f"{count:,}", f"{times['ours'] * 1e3:.2f}", theirs, ratio)


def frames(tonic: Any) -> list[str]:
    return [
        f"## Events to {STEPS} frames of 128 x 128, in memory, ms",
        "",
        "| events | ours | tonic | ratio |",
        "|---|---|---|---|",
        *(frame_row(tonic, count) for count in (5_000, 50_000, 400_000)),
    ]


# Memory


def resident_mb() -> float:
    """Return the private memory of this process in MB, without mapped files."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError("this system does not report the memory of a process")


def memory(root: Path) -> list[str]:
    lines = [
        f"## Memory while {SAMPLES:,} clips are read, MB",
        "",
        "| reading | after 1,000 | after 5,500 | after 10,000 |",
        "|---|---|---|---|",
    ]
    for cache in ("off", "auto"):
        spec = CremaDSpec(
            root=root / "clips",
            protocol="published",
            frames_from="folder",
            val_fraction=0,
            cache=cache,
            cache_folder=root / "cache",
        )
        train = spec.build().train
        readings: list[float] = []
        for number in range(SAMPLES):
            train[number // CLIPS, number % CLIPS]
            if number + 1 in (1_000, 5_500, 10_000):
                readings.append(resident_mb())
        lines.append(row("from files" if cache == "off" else "from the cache", *(f"{mb:.0f}" for mb in readings)))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    try:
        import tonic  # pyright: ignore[reportMissingImports]
    except ImportError:
        tonic = None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tables = [clips(root), sounds(root), events(root, tonic), frames(tonic), memory(root)]
    baseline = f"tonic {tonic.__version__}" if tonic is not None else "tonic is not installed, so its rows are missing"
    lines = [
        "# Reading datasets",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, {baseline}; one thread; medians of {ROUNDS} interleaved "
        "rounds of thread CPU time, files in the page cache.",
    ]
    for table in tables:
        lines += ["", *table]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
