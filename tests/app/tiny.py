"""A dataset that a network learns in seconds: bright left or right halves, low or high tones."""

import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 4000


def write_tiny_dataset(root: Path, *, train: int = 96, test: int = 16) -> Path:
    """Write images, tones and manifest.csv to `root`, with equally many samples of both classes."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, str]] = []
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            label = i % 2
            pixels = rng.uniform(0, 80, (16, 16))
            pixels[:, 8 * label : 8 * label + 8] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{split}{i}.png")
            time = np.arange(RATE // 4) / RATE
            tone = np.sin(2 * np.pi * (300 + 900 * label) * time + rng.uniform(0, 6))
            soundfile.write(root / f"{split}{i}.wav", 0.5 * tone + 0.05 * rng.standard_normal(len(time)), RATE)
            rows.append(
                {
                    "split": split,
                    "label": ("left", "right")[label],
                    "image": f"{split}{i}.png",
                    "audio": f"{split}{i}.wav",
                }
            )
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def tiny_options(root: Path, out: Path) -> list[str]:
    """Options with which a run on that dataset takes one or two seconds."""
    return [
        *("--data.kind", "manifest", "--data.root", str(root), "--data.size", "16"),
        *("--data.val-fraction", "0.25"),
        *("--model.channels", "16", "--model.fusion.num-heads", "4", "--model.time-steps", "3"),
        *("--train.epochs", "3", "--train.batch-size", "8", "--train.learning-rate", "0.01", "--train.device", "cpu"),
        *("--out", str(out)),
    ]
