"""Compare whole models, ours and the baseline in SpikingJelly: training steps, inference, peak memory.

S-CMRL in the published sizes, with the same weights and inputs. A training step is forward, loss with alignment, and
backward. One process, thread CPU time, both models interleaved, medians. Peak memory is measured in a separate process
for each model. Run on an otherwise idle machine:

    uv run python benchmarks/model.py                            every configuration
    uv run python benchmarks/model.py crema-d events-64          some of them
    uv run python benchmarks/model.py --output FILE.md           also writes the tables
    uv run python benchmarks/model.py --threads 2                wall time of two threads
    uv run python benchmarks/model.py --through-time             gradients flow through time in both models, so that the
                                                                 baseline has SpikingJelly's own LIF
    uv run python benchmarks/model.py --profile                  only the operators of our training step

Before a configuration is timed, its first lines report how far the two models agree in float32, training mode: the
largest difference of logits, and the spikes that differ, also from those of the baseline in float64. A spike differs
where rounding decides whether a potential reaches the threshold. It then changes the potentials of all neurons that
read it, and several spikes in each further layer, so only the first layers that differ show the cause.
"""

from __future__ import annotations

import argparse
import copy
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from baseline.layers import DetachedLIFNode, lif_node
from baseline.scmrl import SCMRL
from timing import measure
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from snn_core import spiking_layers
from snn_fusion import CCSSASpec, ClassContrastiveSpec, FusionModel, ModelSpec, PatchSplittingSpec, preset

ROUNDS = 7
PROFILED = 12
"""Operators that a profile lists."""
Inputs = dict[str, Tensor]
Name = Literal["baseline", "ours"]
NAMES: tuple[Name, ...] = ("baseline", "ours")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Configuration:
    """A published model, and the batch that it gets."""

    preset: str
    batch: int
    time_steps: int
    timed: bool
    """Whether inputs have a time axis, as events have, or are one image."""

    def spec(self, *, through_time: bool) -> ModelSpec:
        """Return our model's spec, with or without gradients through time."""
        published = preset(self.preset)
        neuron = published.neuron.model_copy(update={"detach_membrane": not through_time})
        return published.model_copy(update={"time_steps": self.time_steps, "neuron": neuron})

    def inputs(self) -> tuple[Inputs, Tensor]:
        """Return random images, or random events of a few percent, [(T,) B, C, H, W] by modality, and labels [B]."""
        generator, spec = torch.Generator().manual_seed(1), preset(self.preset)
        leading = (self.time_steps, self.batch) if self.timed else (self.batch,)
        inputs: Inputs = {}
        for name, shape in spec.input_shapes.items():
            x = torch.rand(*leading, *shape, generator=generator)
            inputs[name] = (x < 0.05).float() if self.timed else x
        return inputs, torch.randint(spec.num_classes, (self.batch,), generator=generator)


CONFIGURATIONS = {
    "urbansound8k-av": Configuration("scmrl-urbansound8k-av-published", batch=16, time_steps=4, timed=False),
    "crema-d": Configuration("scmrl-cremad-published", batch=8, time_steps=4, timed=False),
    "events-16": Configuration("scmrl-mnistdvs-ntidigits-published", batch=16, time_steps=16, timed=True),
    "events-64": Configuration("scmrl-mnistdvs-ntidigits-published", batch=2, time_steps=64, timed=True),
}
"""The published sizes; events were published with 16 and with 64 steps."""


def build_ours(spec: ModelSpec, inputs: Inputs) -> FusionModel:
    """Return our model with random weights with which every layer fires, and the inputs' running statistics.

    The published initialization leaves the cross-modal branch silent, where no two models could differ.
    """
    torch.manual_seed(0)
    model = spec.build()
    norms = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    for name, norm in norms.items():
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        # Attention over a few time steps counts few coincidences.
        low = 1.0 if ".temporal." in name else 0.5
        nn.init.uniform_(norm.bias, low, 2 * low)
    for name, layer in spiking_layers(model).items():
        if name.endswith("projection"):
            layer.adjust_drive(4.0, 1.0)
    for norm in norms.values():
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(inputs)
    for norm in norms.values():
        norm.momentum = 0.1
    return model


def build_baseline(spec: ModelSpec, weights: Mapping[str, Tensor] | None = None) -> SCMRL:
    """Return the baseline of our spec, with our model's weights if there are any."""
    encoder, fusion, alignment = next(iter(spec.encoders.values())), spec.fusion, spec.alignment
    assert isinstance(encoder, PatchSplittingSpec)
    assert isinstance(fusion, CCSSASpec)
    assert isinstance(alignment, ClassContrastiveSpec)
    model = SCMRL(
        {name: shape[0] for name, shape in spec.input_shapes.items()},
        spec.channels,
        spec.num_classes,
        time_steps=spec.time_steps,
        shallow=encoder.depth == "shallow",
        num_heads=fusion.num_heads,
        alpha=fusion.alpha,
        temperature=alignment.temperature,
        node=DetachedLIFNode if spec.neuron.detach_membrane else lif_node,
    )
    if weights is not None:
        # The factor of attention is a buffer of ours.
        model.load_state_dict({name: x for name, x in weights.items() if not name.endswith(".spike.scale")})
    return model


Model = FusionModel | SCMRL


def loss_of(model: Model, inputs: Inputs, labels: Tensor) -> Tensor:
    """Return the loss with alignment, a scalar."""
    if isinstance(model, SCMRL):
        return model.loss(model(inputs), labels).total
    return model.total_loss(model(inputs), labels).total


def train(model: Model, inputs: Inputs, labels: Tensor, dtype: torch.dtype | None = None) -> Callable[[], None]:
    """Return one training step without an optimizer, under autocast if there is a dtype."""
    model.train()

    def run() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = loss_of(model, inputs, labels)
        loss.backward()
        model.zero_grad()

    return run


def infer(model: Model, inputs: Inputs, dtype: torch.dtype | None = None) -> Callable[[], None]:
    """Return one forward pass in evaluation mode, under autocast if there is a dtype."""
    model = copy.deepcopy(model).eval()

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            model(inputs)

    return run


def outputs_of(model: Model, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """Return logits [B, K] in training mode, and the spikes of each layer [T, ...] as bool, by its name."""
    spikes: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            spikes[name] = output.bool()

        return record

    model = copy.deepcopy(model).train()
    for name, module in model.named_modules():
        # The neuron of attention is in a layer of ours, which scales its drive, and in none of the baseline.
        if name.endswith((".neuron", ".spike")):
            module.register_forward_hook(recorder(name.removesuffix(".neuron")))
    with torch.no_grad():
        logits = model(inputs).logits
    return logits, spikes


def agreement(models: Mapping[Name, Model], inputs: Inputs) -> list[str]:
    """Return lines on how far both models agree with each other, and with the baseline in float64."""
    (theirs, spikes), (ours, of_ours) = (outputs_of(models[name], inputs) for name in NAMES)
    assert spikes.keys() == of_ours.keys(), "the layers differ; the models are not comparable"
    exact, of_exact = outputs_of(
        copy.deepcopy(models["baseline"]).double(), {name: x.double() for name, x in inputs.items()}
    )

    def distance(one: Tensor, other: Tensor) -> str:
        return f"{(one - other).abs().max().item():.1e}"

    def flips(one: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> int:
        return int((one[name] != other[name]).sum())

    rows = {
        name: (flips(of_ours, spikes, name), flips(of_ours, of_exact, name), flips(spikes, of_exact, name))
        for name in spikes
    }
    total = sum(x.numel() for x in spikes.values()) / 1e6
    rates = [x.float().mean().item() for x in spikes.values()]
    apart, of_ours_off, of_theirs_off = (sum(column) for column in zip(*rows.values(), strict=True))
    lines = [
        f"Logits, at most {exact.abs().max().item():.2f}, differ by {distance(ours, theirs)}: ours from float64 by "
        f"{distance(ours, exact)}, the baseline's by {distance(theirs, exact)}. The {len(rows)} layers fire at "
        f"{min(rates):.1%} to {max(rates):.1%}. Of {total:.1f} M values, 0 or 1, {apart:,} differ: ours from float64 "
        f"in {of_ours_off:,}, the baseline's in {of_theirs_off:,}.",
        "",
    ]
    differing = {name: row for name, row in rows.items() if row[0]}
    if differing:
        lines += [
            "| layer | spikes | ours and baseline differ | ours and float64 | baseline and float64 |",
            "|---" * 5 + "|",
        ]
        lines += [
            f"| {name} | {int(spikes[name].sum()):,} | {' | '.join(f'{n:,}' for n in row)} |"
            for name, row in differing.items()
        ]
        lines.append("")
    return lines


def resident(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Return bytes of this process in memory, now or at their peak (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} in /proc/self/status")


def print_peak(name: Name, spec: ModelSpec, configuration: Configuration) -> None:
    """Print the bytes that the first training steps of a model add to those after the imports."""
    before = resident("VmRSS")
    inputs, labels = configuration.inputs()
    step = train(spec.build() if name == "ours" else build_baseline(spec), inputs, labels)
    for _ in range(3):
        step()
    print(resident("VmHWM") - before)


def peak(name: Name, configuration: str, options: list[str]) -> float:
    """Return the peak of a model's training steps over the imports in MB, in a separate process."""
    command = [sys.executable, __file__, configuration, "--peak", name, *options]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(completed.stdout.split()[-1]) / 1e6


def profile_table(step: Callable[[], None]) -> list[str]:
    """Return the operators with the most self CPU time in one training step."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step()
    events = [(float(event.self_cpu_time_total), event.count, event.key) for event in recorded.key_averages()]
    total = sum(own for own, _, _ in events)
    lines = ["| operator | calls | self CPU ms | % |", "|---" * 4 + "|"]
    for own, calls, operator in sorted(events, reverse=True)[:PROFILED]:
        lines.append(f"| `{operator}` | {calls} | {own / 1e3:.1f} | {own / total:.1%} |")
    return [*lines, "", f"Together {total / 1e3:.0f} ms.", ""]


def compare(models: Mapping[Name, Model], inputs: Inputs, labels: Tensor, clock: Callable[[], float]) -> list[str]:
    """Return the table of times of one configuration."""
    runs: dict[str, Callable[[], None]] = {}
    for precision, dtype in PRECISIONS.items():
        for name in NAMES:
            runs[f"training {precision} {name}"] = train(models[name], inputs, labels, dtype)
            runs[f"inference {precision} {name}"] = infer(models[name], inputs, dtype)
    seconds = measure(runs, rounds=ROUNDS, clock=clock)
    lines = [
        "| | precision | baseline ms | ours ms | speedup | over the baseline in float32 |",
        "|---" * 6 + "|",
    ]
    for kind in ("training", "inference"):
        for precision in PRECISIONS:
            theirs, ours = (seconds[f"{kind} {precision} {name}"] for name in NAMES)
            full = seconds[f"{kind} float32 baseline"]
            lines.append(
                f"| {kind} | {precision} | {theirs * 1e3:.0f} | {ours * 1e3:.0f} | {theirs / ours:.2f} "
                f"| {full / ours:.2f} |"
            )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="*", help=f"of {', '.join(CONFIGURATIONS)}; default: all")
    parser.add_argument("--threads", type=int, default=1, help="threads; with more than one, times are wall times")
    parser.add_argument("--through-time", action="store_true", help="let gradients flow through time")
    parser.add_argument("--profile", action="store_true", help="list the operators of our training step instead")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--peak", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = cast("list[str]", options.configurations) or list(CONFIGURATIONS)
    if unknown := [name for name in names if name not in CONFIGURATIONS]:
        parser.error(f"no configuration is called {unknown[0]!r}; there are {', '.join(CONFIGURATIONS)}")
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(
            options.peak, CONFIGURATIONS[names[0]].spec(through_time=options.through_time), CONFIGURATIONS[names[0]]
        )
        return
    passed_on = ["--threads", str(options.threads), *(["--through-time"] if options.through_time else [])]
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    lines: list[str] = []

    def show(*new: str) -> None:
        lines.extend(new)
        print("\n".join(new), flush=True)

    gradients = "flow through time" if options.through_time else "do not flow through time, as published"
    if options.profile:
        what = f"Operators of our training step in float32, the {PROFILED} with the most self time."
    else:
        timing = "Thread CPU time" if options.threads == 1 else f"Wall time of {options.threads} threads"
        what = (
            f"{timing}, medians of {ROUNDS} interleaved rounds; bfloat16 is autocast. MB are the peak of three "
            "training steps in float32 over the memory after the imports."
        )
    show(
        "# Whole models against SpikingJelly",
        "",
        f"S-CMRL in the published sizes; gradients {gradients}. PyTorch {torch.__version__}, {platform.machine()}. "
        f"{what}",
        "",
    )
    for name in names:
        configuration = CONFIGURATIONS[name]
        spec = configuration.spec(through_time=options.through_time)
        inputs, labels = configuration.inputs()
        show(f"## {name}: T = {configuration.time_steps}, B = {configuration.batch}, C = {spec.channels}", "")
        ours = build_ours(spec, inputs)
        if options.profile:
            show(*profile_table(train(ours, inputs, labels)))
            continue
        models: dict[Name, Model] = {"baseline": build_baseline(spec, ours.state_dict()), "ours": ours}
        show(*agreement(models, inputs))
        show(*compare(models, inputs, labels, clock))
        theirs_mb, ours_mb = (peak(name_of, name, passed_on) for name_of in NAMES)
        show(f"Peak: baseline {theirs_mb:.0f} MB, ours {ours_mb:.0f} MB, {ours_mb / theirs_mb:.2f} of it.", "")
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
