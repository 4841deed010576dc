"""Add your own sensor to images: one more column in the manifest, and one line with its reader and coding.

Needs only `pip install ./packages/snn-datasets` in a clone; with uv, run `uv run python examples/your_sensor.py`. The
files are generated here.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from snn_datasets import ManifestSpec, collate

rng = np.random.default_rng(0)
with TemporaryDirectory() as folder:
    root = Path(folder)
    rows = ["split,label,photo,gas"]
    for n, split in enumerate(["train"] * 12 + ["test"] * 4):
        label = ("fresh", "rotten")[n % 2]
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / f"fruit{n}.png")
        readings = rng.normal(n % 2, 0.1, (50, 8)).cumsum(0)  # 5 s of 8 sensors, 10 times a second
        np.savetxt(root / f"fruit{n}.csv", readings, delimiter=",")
        gas = "" if n == 4 else f"fruit{n}.csv"  # the sensor was missing that day
        rows.append(f"{split},{label},fruit{n}.png,{gas}")
    (root / "manifest.csv").write_text("\n".join(rows))

    how = {"gas": {"reader": {"kind": "series", "rate": 10}, "coding": {"kind": "steps", "steps": 6}}}
    spec = ManifestSpec.model_validate({"root": root, "columns": how, "cache": "off"})
    splits = spec.build()
    for name, modality in splits.info.modalities.items():
        print(f"{name}: {modality.kind} {modality.shape}, {modality.time_steps or 'no'} time steps")
    batch = next(iter(DataLoader(splits.train, batch_size=len(splits.train), collate_fn=collate)))
    for name, value in batch["inputs"].items():
        print(f"{name} {tuple(value.shape)}, present for {int(batch['present'][name].sum())} of {len(batch['labels'])}")
