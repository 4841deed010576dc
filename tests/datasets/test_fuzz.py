"""Ten thousand damaged files, every reader: each is read or refused as documented, soon, in little memory, no crash.

The usual run reads a tenth of them. All of them, with a line of numbers for each reader:

    pytest tests/datasets/test_fuzz.py -m slow -rP
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image as Pillow

from datasets.writers import mutants
from datasets.writers.aedat import some_events, write_aedat2, write_aedat3
from datasets.writers.events_npy import write_events
from datasets.writers.flv import write_video
from datasets.writers.hdf5 import some_spikes, write_ntidigits_file, write_shd_file
from datasets.writers.mat import write_mat
from datasets.writers.mutants import Batch, Original, Report
from datasets.writers.series_csv import write_series_csv
from datasets.writers.st_mnist import spike_trains
from datasets.writers.wav import tone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

FILES = 10_000
USUAL = 1_000
MOST_MEGABYTES = 1000
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """A good file of a reader."""

    file: str
    write: Callable[[Path], object]
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    part: tuple[str | int | float, ...] = ()


def picture(path: Path, *, mode: str = "RGB", **options: Any) -> None:
    pixels = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    Pillow.fromarray(pixels).resize((40, 30)).convert(mode).save(path, **options)


def sound(path: Path, *, container: str | None = None) -> None:
    wave = tone(440, rate=8000, seconds=0.2)
    soundfile.write(path, np.stack([wave, wave / 2], 1), 8000, format=container)


def utterances(count: int, channels: int) -> list[Any]:
    return [some_spikes(RNG, 30 + number, channels=channels, seconds=0.9) for number in range(count)]


def events() -> np.ndarray:
    return some_events(RNG, 60, duration=5000)


SENSOR = {"height": 128, "width": 128}
VIDEO = partial(write_video, frames=12, rate=10, height=32, width=48, hertz=440)
TABLE = RNG.standard_normal((40, 3))
VIDEOS = [
    *(Case(f"x.{ending}", VIDEO) for ending in ("flv", "mp4", "avi", "mkv")),
    Case("late.flv", partial(VIDEO, codecs=("flv", "mp3"), late=2)),
    Case("turned.mp4", partial(VIDEO, turned=(90, True, False), options={"movflags": "faststart"})),
    Case("live.webm", partial(VIDEO, codecs=("libvpx", "libopus"), sound_rate=48_000, piped=True)),
]
CASES: dict[str, list[Case]] = {
    "image": [
        *(Case(f"x.{ending}", picture) for ending in ("png", "jpg", "webp", "tif", "bmp", "ppm")),
        Case("x.gif", partial(picture, mode="P", transparency=3)),
        Case("packed.tif", partial(picture, compression="tiff_lzw")),
        Case("gray.png", partial(picture, mode="I;16")),
    ],
    "waveform": [
        *(Case(f"x.{ending}", sound) for ending in ("wav", "flac", "ogg", "mp3", "aiff")),
        *(Case(f"x.{name}", partial(sound, container=name.upper())) for name in ("w64", "rf64", "caf", "au")),
    ],
    "video": VIDEOS,
    "soundtrack": VIDEOS,
    "series": [
        Case("x.csv", lambda path: write_series_csv(path, TABLE, times=np.arange(40) / 10, names=("t", "a", "b", "c"))),
        Case("x.tsv", lambda path: write_series_csv(path, TABLE, delimiter="\t"), {"rate": 10.0}),
        Case("x.npy", lambda path: np.save(path, TABLE), {"rate": 10.0}),
    ],
    "events": [
        Case("columns.npy", lambda path: write_events(path, events(), how="columns"), SENSOR),
        Case("structured.npy", lambda path: write_events(path, events(), how="structured"), SENSOR),
        Case("arrays.npz", lambda path: write_events(path, events(), how="arrays"), SENSOR),
    ],
    "aedat2": [Case("x.aedat", lambda path: write_aedat2(path, events()))],
    "aedat3": [Case("x.aedat", lambda path: write_aedat3(path, events(), per_packet=20))],
    "n-tidigits": [
        Case(
            "x.hdf5",
            lambda path: write_ntidigits_file(
                path, train={"man-ae-a-1": utterances(1, 64)[0]}, test={"man-bc-a-2": utterances(1, 64)[0]}
            ),
            part=("train", "man-ae-a-1"),
        )
    ],
    "shd": [
        Case(
            "x.h5",
            lambda path: write_shd_file(
                path, utterances(3, 700), labels=(0, 1, 1), speakers=(0, 0, 1), keys=("a", "b")
            ),
            part=(1,),
        )
    ],
    "st-mnist": [
        Case("x.mat", lambda path: write_mat(path, {"spiketrain": spike_trains(RNG)}, compressed=False)),
        Case("packed.mat", lambda path: write_mat(path, {"spiketrain": spike_trains(RNG)})),
    ],
}
ORIGINALS = sum(map(len, CASES.values()))


def read_damaged(kind: str, folder: Path, files: int) -> Report:
    """Run a separate process on damaged files of each of a reader's formats."""
    originals: list[Original] = []
    for case in CASES[kind]:
        case.write(folder / case.file)
        originals.append({"path": str(folder / case.file), "fields": case.fields, "part": list(case.part)})
    batch = Batch(kind=kind, originals=originals, files=files)
    done = subprocess.run(
        [sys.executable, "-P", mutants.__file__],
        input=json.dumps(batch),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=1200,
    )
    last = done.stdout.splitlines()[-1] if done.stdout else "nothing"
    death = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit {done.returncode}"
    assert done.returncode == 0, f"{kind} ended with {death} after {last}, which is kept\n{done.stderr[-3000:]}"
    report: Report = json.loads(last)
    refusals = ", ".join(f"{count} {cause or 'seen by the reader'}" for cause, count in report["refused"].items())
    print(
        f"{kind}: {files * len(originals)} files, {report['read']} read, refused: {refusals}; "
        f"longest {report['seconds']:.2f} s, at most {report['megabytes']:.0f} MB"
    )
    assert report["read"] + sum(report["refused"].values()) == files * len(originals)
    assert report["megabytes"] < MOST_MEGABYTES
    return report


def test_every_reader_is_tried():
    offered = entry_points(group="snn_datasets.readers")
    assert set(CASES) == {entry.name for entry in offered if entry.dist and entry.dist.name == "snn-datasets"}


@pytest.mark.parametrize("kind", CASES)
def test_a_damaged_file_is_read_or_refused(kind: str, tmp_path: Path):
    report = read_damaged(kind, tmp_path, -(-USUAL // ORIGINALS))
    # Damage that always shows, or never, would test little.
    assert report["read"]
    assert sum(report["refused"].values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_ten_thousand_damaged_files_are_read_or_refused(kind: str, tmp_path: Path):
    read_damaged(kind, tmp_path, -(-FILES // ORIGINALS))
