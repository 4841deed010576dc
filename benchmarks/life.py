"""Measure firing rates of the cross-modal branch before and after training, published against calibrated.

For two modalities (spoken and written digits) and three (audio, upper and lower half of the image), token counts of 4,
16 and 64 and head widths of 2, 8 and 16: the lowest and highest firing rate of the branch's layers at step 0 and after
training, how many are silent (below 0.1 %), and test accuracy with the branch and with alpha set to 0. Then, for two
modalities, 16 tokens and head width 4, other changes that might keep the branch active:

    uv run python benchmarks/life.py                         prints the tables; 66 short trainings, about half an hour
    uv run python benchmarks/life.py --output FILE.md        also writes them to a file
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_core import spiking_layers
from snn_datasets import DigitsSpec, InMemoryDataset
from snn_fusion import FusionModel, ModelSpec, calibrate, health

CHANNELS = 64
BATCH = 32
TARGET_RATE = 0.2
"""Firing rate that calibration sets and that the penalty compares with."""
SIDES = {4: 8, 16: 16, 64: 32}
"""Height and width of an input in pixels, by its number of tokens after shallow patch splitting."""
Data = dict[str, tuple[dict[str, Tensor], Tensor]]
Fields = dict[str, object]


@dataclass(frozen=True)
class Change:
    """One departure from the defaults."""

    name: str
    fusion: Fields = field(default_factory=Fields)
    """Fields of the fusion's spec."""
    neuron: Fields = field(default_factory=Fields)
    """Fields of the neuron's spec."""
    rate_penalty: float = 0.0
    """Weight in the loss of `rate_penalty`."""


NOTHING = Change("none")
STUDY = (
    NOTHING,
    Change("heads merged as published", fusion={"head_merge": "published"}),
    Change("scale auto", fusion={"scale": "auto"}),
    Change("threshold 0.5", neuron={"v_threshold": 0.5}),
    Change("learned thresholds", neuron={"learn_threshold": True}),
    Change("surrogate slope 2 (wider)", neuron={"slope": 2.0}),
    Change("surrogate slope 8 (narrower)", neuron={"slope": 8.0}),
    Change("atan surrogate, slope 2", neuron={"surrogate": "atan", "slope": 2.0}),
    Change("gradient through time", neuron={"detach_membrane": False}),
    Change("soft reset", neuron={"v_reset": None}),
    Change("learned alpha", fusion={"learnable_alpha": True}),
    Change("penalty on firing rates, weight 0.1", rate_penalty=0.1),
    Change("penalty on firing rates, weight 1", rate_penalty=1.0),
    Change("penalty on firing rates, weight 10", rate_penalty=10.0),
    Change("penalty on firing rates, weight 1, triangle surrogate", neuron={"surrogate": "triangle"}, rate_penalty=1.0),
)


@cache
def load_digits(modalities: int, side: int) -> Data:
    """Return training and test inputs by modality, each [samples, 1, side, side], and labels."""
    splits = DigitsSpec().build()
    data: Data = {}
    for name, split in (("train", splits.train), ("test", splits.test)):
        assert isinstance(split, InMemoryDataset)
        visual, audio = split.inputs["visual"], split.inputs["audio"]
        half = visual.shape[2] // 2
        parts = (
            {"audio": audio, "visual": visual}
            if modalities == 2
            else {"audio": audio, "upper": visual[:, :, :half], "lower": visual[:, :, half:]}
        )
        inputs = {key: F.interpolate(x, (side, side), mode="bilinear", antialias=True) for key, x in parts.items()}
        data[name] = inputs, torch.tensor(split.labels)
    return data


def branch_rates(model: FusionModel, inputs: dict[str, Tensor]) -> list[float]:
    """Return the firing rate of each layer of the branch."""
    layers = health(model, inputs).layers
    return [layer.firing_rate for name, layer in layers.items() if name.startswith("fusion.")]


@contextmanager
def live_rates(model: FusionModel) -> Generator[list[Tensor], None, None]:
    """Collect firing rates of the branch's layers, differentiable and in the order in which the layers run."""
    rates: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, spikes: Tensor) -> None:
        rates.append(spikes.mean())

    handles = [layer.neuron.register_forward_hook(note) for layer in spiking_layers(model.fusion).values()]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def rate_penalty(rates: list[Tensor]) -> Tensor:
    """Return the mean over layers of the squared distance to the target rate."""
    return (torch.stack(rates) - TARGET_RATE).square().mean()


@torch.no_grad()
def accuracy(model: FusionModel, inputs: dict[str, Tensor], labels: Tensor) -> float:
    """Return the accuracy in evaluation mode."""
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
    change: Change = NOTHING,
) -> list[str]:
    """Train one model; return rates and silent layers before and after, and accuracy with and without the branch."""
    torch.manual_seed(seed)
    data = load_digits(modalities, SIDES[tokens])
    inputs, labels = data["train"]
    spec = ModelSpec.model_validate(
        {
            "input_shapes": {name: tuple(x.shape[1:]) for name, x in inputs.items()},
            "encoders": {name: {"kind": "patch_splitting", "depth": "shallow"} for name in inputs},
            "num_classes": 10,
            "channels": CHANNELS,
            "fusion": {
                "kind": "ccssa",
                "num_heads": CHANNELS // width,
                "head_merge": "published" if init == "uncalibrated" else "ordered",
                **change.fusion,
            },
            "neuron": change.neuron,
        }
    )
    model = spec.build()
    probe = {name: x[:256] for name, x in inputs.items()}
    if init == "calibrated":
        calibrate(model, probe, target_rate=TARGET_RATE)
    start = branch_rates(model, probe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,))
        with live_rates(model) as rates:
            output = model({name: x[chosen] for name, x in inputs.items()})
        loss = model.total_loss(output, labels[chosen]).total
        if change.rate_penalty:
            loss = loss + change.rate_penalty * rate_penalty(rates)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    end = branch_rates(model, probe)
    with_branch = accuracy(model, *data["test"])
    if isinstance(model.fusion.alpha, Tensor):
        model.fusion.alpha.data.zero_()
    else:
        setattr(model.fusion, "alpha", 0.0)  # noqa: B010 - nn.Module types attributes as tensors and modules
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
        "# Firing rates of the cross-modal branch",
        "",
        f"Digits, C = {CHANNELS}, T = 4, batch {BATCH}, {options.steps} steps, seed {options.seed}; PyTorch "
        f"{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads. Rates are the lowest and "
        "highest of the branch's layers; silent is below 0.1 %.",
        "",
        "| modalities | tokens | head width | init | rates at step 0 | silent | rates at the end | silent | accuracy "
        "| with alpha 0 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for modalities, tokens, width, init in product((2, 3), SIDES, (2, 8, 16), ("uncalibrated", "calibrated")):
        cells = row(modalities, tokens, width, init, steps=options.steps, seed=options.seed)
        lines.append("| " + " | ".join([str(modalities), str(tokens), str(width), init, *cells]) + " |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## Other changes that might keep it active",
        "",
        "Two modalities, 16 tokens, head width 4.",
        "",
        "| change | init | rates at step 0 | silent | rates at the end | silent | accuracy | with alpha 0 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines[-7:]), flush=True)
    for change, init in product(STUDY, ("uncalibrated", "calibrated")):
        cells = row(2, 16, 4, init, steps=options.steps, seed=options.seed, change=change)
        lines.append("| " + " | ".join([change.name, init, *cells]) + " |")
        print(lines[-1], flush=True)
    lines += ["", f"{time.perf_counter() - started:.0f} s."]
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
