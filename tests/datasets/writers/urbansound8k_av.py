"""A small UrbanSound8K-AV in its real layout."""

from pathlib import Path

from datasets.writers.jpeg import write_jpeg
from datasets.writers.wav import write_wav

CLASSES = {"dog_bark": 3, "gun_shot": 6, "siren": 8}
"""Three of the ten, with their numbers."""
RECORDINGS = 8
SLICES = 3


def write_urbansound8k_av(root: Path, *, table: bool = True) -> dict[tuple[str, str], int]:
    """Class and stem -> official fold: 8 recordings of each of three classes, each cut into 3 slices.

    Sounds differ in rate and channels, as those of UrbanSound8K do. All slices of a recording are in one fold.
    """
    folds: dict[tuple[str, str], int] = {}
    for class_, number in CLASSES.items():
        for recording in range(RECORDINGS):
            for slice_ in range(SLICES):
                stem = f"{1000 * number + 37 * recording}-{number}-0-{slice_}"
                folds[class_, stem] = 1 + (recording + number) % 10
                rate, channels = (44_100, 2) if recording % 2 else (8_000, 1)
                write_wav(
                    root / "Dataset_v3_sound" / class_ / f"{stem}.wav",
                    hertz=200 * number,
                    rate=rate,
                    seconds=0.4 + 0.2 * slice_,
                    channels=channels,
                )
                color = (number * 25, 10 * recording, 60 * slice_)
                write_jpeg(
                    root / "Dataset_v3_vision" / class_ / f"{stem}.jpg", height=60, width=80, left=color, right=color
                )
    if table:
        (root / "metadata").mkdir(exist_ok=True)
        lines = [
            f"{stem}.wav,{stem.split('-')[0]},0.0,1.0,1,{fold},{CLASSES[class_]},{class_}"
            for (class_, stem), fold in folds.items()
        ]
        header = "slice_file_name,fsID,start,end,salience,fold,classID,class"
        (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folds
