"""Does the cross-modal branch live? Firing rates of its layers before and after training, published against calibrated.

For two senses (spoken and written digits) and three (sound, upper and lower half of the picture), token counts of 4, 16
and 64 and head widths of 2, 8 and 16: the lowest and highest firing rate of the branch's layers at step 0 and after
training, how many are silent (below 0.1 %), and test accuracy with the branch and with alpha set to 0. Then, for two
senses, 16 tokens and head width 4, what else might keep the branch alive:

    uv run python benchmarks/life.py                         prints the tables; 58 short trainings, about half an hour
    uv run python benchmarks/life.py --output FILE.md        writes it, too
"""

from __future__ import annotations

import argparse
import platform
import time
from functools import cache
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_datasets import DigitsSpec
from snn_fusion import FusionModel, ModelSpec, calibrate

CHANNELS = 64
BATCH = 32
SIDES = {4: 8, 16: 16, 64: 32}
"""Pixels along an input's edge by the tokens that shallow patch splitting makes of it."""
Data = dict[str, tuple[dict[str, Tensor], Tensor]]
Fields = dict[str, object]
STUDY: tuple[tuple[str, Fields, Fields], ...] = (
    ("as it is", {}, {}),
    ("heads merged as published", {"head_merge": "published"}, {}),
    ("scale auto", {"scale": "auto"}, {}),
    ("threshold 0.5", {}, {"v_threshold": 0.5}),
    ("learnt thresholds", {}, {"learn_threshold": True}),
    ("surrogate slope 2 (wider)", {}, {"slope": 2.0}),
    ("surrogate slope 8 (narrower)", {}, {"slope": 8.0}),
    ("atan surrogate, slope 2", {}, {"surrogate": "atan", "slope": 2.0}),
    ("gradient through time", {}, {"detach_membrane": False}),
    ("soft reset", {}, {"v_reset": None}),
    ("learnt alpha", {"learnable_alpha": True}, {}),
)
"""What is changed, in the fusion's and in the neuron's spec."""


@cache
def senses(modalities: int, side: int) -> Data:
    """Training and test inputs by sense, each [samples, 1, side, side], and labels."""
    splits = DigitsSpec().build()
    found: Data = {}
    for name, split in (("train", splits.train), ("test", splits.test)):
        seen, heard = split.inputs["visual"], split.inputs["audio"]
        half = seen.shape[2] // 2
        parts = (
            {"audio": heard, "visual": seen}
            if modalities == 2
            else {"audio": heard, "upper": seen[:, :, :half], "lower": seen[:, :, half:]}
        )
        inputs = {key: F.interpolate(x, (side, side), mode="bilinear", antialias=True) for key, x in parts.items()}
        found[name] = inputs, torch.tensor(split.labels)
    return found


def branch_rates(model: FusionModel, inputs: dict[str, Tensor]) -> list[float]:
    """Firing rates of the layers of the branch."""
    layers = model.health(inputs).layers
    return [layer.firing_rate for name, layer in layers.items() if name.startswith("fusion.")]


@torch.no_grad()
def accuracy(model: FusionModel, inputs: dict[str, Tensor], labels: Tensor) -> float:
    """Share of samples whose class is found, in evaluation mode."""
    model.eval()
    parts = [
        model({name: x[start : start + 100] for name, x in inputs.items()}).logits.argmax(1)
        for start in range(0, len(labels), 100)
    ]
    model.train()
    return float((torch.cat(parts) == labels).double().mean())


def row(
    modalities: int,
    tokens: int,
    width: int,
    init: str,
    *,
    steps: int,
    seed: int,
    fusion: Fields | None = None,
    neuron: Fields | None = None,
) -> list[str]:
    """Train one model and describe its branch: rates and silent layers before and after, accuracy with and without."""
    torch.manual_seed(seed)
    data = senses(modalities, SIDES[tokens])
    inputs, labels = data["train"]
    spec = ModelSpec.model_validate(
        {
            "encoders": {name: {"input_shape": tuple(x.shape[1:]), "depth": "shallow"} for name, x in inputs.items()},
            "num_classes": 10,
            "channels": CHANNELS,
            "fusion": {
                "kind": "ccssa",
                "num_heads": CHANNELS // width,
                "head_merge": "published" if init == "published" else "ordered",
                **(fusion or {}),
            },
            "neuron": neuron or {},
        }
    )
    model = spec.build()
    probe = {name: x[:256] for name, x in inputs.items()}
    if init == "calibrated":
        calibrate(model, probe)
    start = branch_rates(model, probe)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,))
        output = model({name: x[chosen] for name, x in inputs.items()})
        optimiser.zero_grad()
        model.total_loss(output, labels[chosen]).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    end = branch_rates(model, probe)
    with_branch = accuracy(model, *data["test"])
    if isinstance(model.fusion.alpha, Tensor):
        model.fusion.alpha.data.zero_()
    else:
        model.fusion.alpha = 0.0
    without = accuracy(model, *data["test"])
    cells: list[str] = []
    for rates in (start, end):
        silent = sum(rate < 0.001 for rate in rates)
        cells += [f"{min(rates):.1%} to {max(rates):.1%}", f"{silent} of {len(rates)}"]
    return [*cells, f"{with_branch:.1%}", f"{without:.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="training steps of a model (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    started = time.perf_counter()
    lines = [
        "# Does the cross-modal branch live?",
        "",
        f"Digits, C = {CHANNELS}, T = 4, batch {BATCH}, {options.steps} steps, seed {options.seed}; PyTorch "
        f"{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads. Rates are the lowest and "
        "highest of the branch's layers; silent is below 0.1 %.",
        "",
        "| senses | tokens | head width | init | rates at step 0 | silent | rates at the end | silent | accuracy "
        "| with alpha 0 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for modalities, tokens, width, init in product((2, 3), SIDES, (2, 8, 16), ("published", "calibrated")):
        cells = row(modalities, tokens, width, init, steps=options.steps, seed=options.seed)
        lines.append("| " + " | ".join([str(modalities), str(tokens), str(width), init, *cells]) + " |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## What else might keep it alive",
        "",
        "| change | init | rates at step 0 | silent | rates at the end | silent | accuracy | with alpha 0 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines[-5:]), flush=True)
    for (change, fusion, neuron), init in product(STUDY, ("published", "calibrated")):
        cells = row(2, 16, 4, init, steps=options.steps, seed=options.seed, fusion=fusion, neuron=neuron)
        lines.append("| " + " | ".join([change, init, *cells]) + " |")
        print(lines[-1], flush=True)
    lines += ["", f"{time.perf_counter() - started:.0f} s."]
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
