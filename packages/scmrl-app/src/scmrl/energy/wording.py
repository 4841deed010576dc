"""What an account says: energy.json for programs, tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scmrl.energy.account import Account, Cost
from scmrl.energy.tables import EnergyTable
from scmrl.tables import DataTable, escape_markdown, one_line

FORMAT_VERSION = 1
"""Of energy.json; raised when what is there changes its meaning."""
INPUTS = {"spikes": "spikes", "whole": "whole numbers", "real": "real"}
UNITS = ((1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
NOTES = (
    "paper: the convention of Spikformer (arXiv:2209.15425) and of the Spike-driven Transformer (arXiv:2307.01694). "
    "The first layer of each encoder is MACs if its input is real-valued; every other layer is ACs, its dense "
    "operations times the share of its inputs that are not 0. In a product of activations the input is the factor that "
    "spikes.",
    "strict: a layer is ACs only if all its inputs were 0 or 1, and then each spike counts for the outputs that it "
    "reaches, none for padding; products of attention count coincidences with a spike. Whatever got anything else, "
    "such as sums of spikes, sums scaled by alpha, or means, is MACs on all inputs. Hardware could do better, since "
    "W (a + alpha c) = W a + (alpha W) c is additions for spikes a and c; strict does not assume that it does.",
    "neuron updates are apart: one MAC a neuron and time step (leak and current), one AC where nothing leaks, two MACs "
    "and one AC where the threshold adapts. Normalization and the current's factor are folded into weights, the "
    "scale of attention into thresholds.",
    "dense twin: the same layers with real-valued activations in the place of neurons, so that all products are MACs "
    "on all inputs; over one time step, as a network without spikes would run, and over as many steps as here.",
    "not counted: memory access and the movement of data, which often take more energy than arithmetic; biases, sums "
    "of residuals and their scale, means, pooling, gates, comparisons with thresholds, resets. Arithmetic alone "
    "flatters spiking networks: with data movement, on typical neuromorphic hardware, arXiv:2409.08290v4 finds that at "
    "5 time steps one has to fire below 5.7 % to need less energy than an equivalent quantized network.",
)
SHOWN = 3
"""Tables for a terminal; the rest is in energy.md alone."""


def contents(account: Account, table: EnergyTable, *, data: str, split: str) -> dict[str, Any]:
    """The account in numbers, as energy.json holds it: operations and joules for one sample, a mean over samples."""

    def priced(cost: Cost) -> dict[str, float]:
        return {"mac": cost.mac, "ac": cost.ac, "energy_j": table.joules(cost.mac, cost.ac)}

    notes = [*NOTES]
    if account.timed and account.time_steps > 1:
        notes.append(
            f"{', '.join(account.timed)}: the input has a time axis, of which the dense twin of one step saw the first "
            f"step only; the one of {account.time_steps} steps is the fair comparison."
        )
    if account.unlayered:
        notes.append(
            f"{', '.join(account.unlayered)}: the encoder has no layer, so that by the paper's convention none is "
            "MACs, whatever values come in; strict looks at the values."
        )
    return {
        "format_version": FORMAT_VERSION,
        "data": data,
        "split": split,
        "samples": account.samples,
        "time_steps": account.time_steps,
        "table": table.name,
        "picojoules": {"mac": table.mac, "ac": table.ac},
        "source": table.source,
        "layers": [
            {
                "layer": layer.name,
                "inputs": layer.inputs,
                "rate": layer.rate,
                "dense": layer.dense,
                **priced(layer.strict),
                "paper": priced(layer.paper),
            }
            for layer in account.layers
        ],
        "neurons": [
            {"layer": neurons.name, "updates": neurons.updates, "rate": neurons.rate, **priced(neurons.cost)}
            for neurons in account.neurons
        ],
        "totals": {
            "paper": priced(account.paper),
            "strict": priced(account.strict),
            "neurons": priced(account.updates),
            "strict_with_neurons": priced(account.strict + account.updates),
            "dense_twin": {**priced(account.dense_once), "time_steps": 1},
            "dense_twin_same_steps": {**priced(account.dense), "time_steps": account.time_steps},
        },
        "notes": notes,
    }


def tables(content: Mapping[str, Any]) -> list[DataTable]:
    """What there is to show, from the contents of energy.json."""
    totals, steps = content["totals"], content["time_steps"]
    twin = totals["dense_twin"]["energy_j"]
    names = {
        "paper": "spiking, paper",
        "strict": "spiking, strict",
        "neurons": "neuron updates",
        "strict_with_neurons": "spiking, strict, with neuron updates",
        "dense_twin": "dense twin, 1 time step",
        "dense_twin_same_steps": f"dense twin, {steps} time steps",
    }
    where = f"{content['data']}, {content['split']}, mean of {content['samples']:,} samples"
    prices = f"{content['picojoules']['mac']:g} pJ a MAC, {content['picojoules']['ac']:g} pJ an AC"
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for layer in content["layers"]:
        parts.setdefault(part_of(layer["layer"]), []).append(layer)
    return [
        DataTable(
            f"operations and energy of one inference: {where}; {content['table']}: {prices}",
            ("", "MAC", "AC", "energy", "of the twin's, 1 step"),
            [
                (label, *_cost(totals[name]), f"{totals[name]['energy_j'] / twin:.1%}" if twin else "-")
                for name, label in names.items()
            ],
        ),
        DataTable(
            "by part",
            ("part", "dense MAC", "paper", "strict"),
            [
                (
                    part,
                    count(sum(layer["dense"] for layer in layers)),
                    joules(sum(layer["paper"]["energy_j"] for layer in layers)),
                    joules(sum(layer["energy_j"] for layer in layers)),
                )
                for part, layers in parts.items()
            ],
        ),
        DataTable(
            "by layer: the input, its share that is not 0, and what it makes the layer compute",
            ("layer", "input", "not 0", "dense MAC", "paper MAC", "AC", "energy", "strict MAC", "AC", "energy"),
            [
                (
                    layer["layer"],
                    INPUTS[layer["inputs"]],
                    f"{layer['rate']:.1%}",
                    count(layer["dense"]),
                    *_cost(layer["paper"]),
                    *_cost(layer),
                )
                for layer in content["layers"]
            ],
        ),
        DataTable(
            "neuron updates",
            ("layer", "updates", "fire", "MAC", "AC", "energy"),
            [
                (neurons["layer"], count(neurons["updates"]), f"{neurons['rate']:.1%}", *_cost(neurons))
                for neurons in content["neurons"]
            ],
        ),
    ]


def part_of(layer: str) -> str:
    """The encoder that a layer is in, or else the model's part."""
    names = layer.split(".")
    return ".".join(names[: 2 if names[0] == "encoders" else 1])


def count(operations: float) -> str:
    """Operations as a reader wants them: `640`, `73.7 k`, `23.3 M`."""
    return _scaled(operations, ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")))


def joules(energy: float) -> str:
    """An energy in the unit that suits it."""
    return _scaled(energy, [(size, f" {unit}") for size, unit in UNITS])


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Three digits in the largest unit that leaves a 1 before the point."""
    size, unit = next((entry for entry in units if value >= 0.9995 * entry[0]), units[-1])
    return f"{value / size:.3g}{unit}"


def markdown(content: Mapping[str, Any], blocks: Sequence[DataTable]) -> str:
    """The same tables as a document."""
    lines = [f"# Energy of one inference on {escape_markdown(content['data'])}", ""]
    lines += [block.markdown() for block in blocks]
    lines += ["## How it is counted", ""]
    lines += [f"- {escape_markdown(note)}" for note in (*content["notes"], f"energy: {content['source']}")]
    return "\n".join([*lines, ""])


def print_tables(blocks: Sequence[DataTable], console: Console) -> None:
    """Show tables on a terminal where they fit, and whole where there is none."""
    for block in blocks:
        columns = list(zip(block.columns, *block.rows, strict=True))
        width = sum(max(map(cell_len, column)) + 2 for column in columns)
        console.print(Text(one_line(block.title), style="bold"), soft_wrap=True)
        if console.is_terminal and width > console.width:
            console.print(f"  {len(block.rows)} rows, too wide for this terminal: see energy.md\n")
            continue
        console.width = max(console.width, width)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for number, column in enumerate(block.columns):
            table.add_column(Text(one_line(column)), justify="left" if number == 0 else "right", no_wrap=True)
        for row in block.rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        console.print(table)
        console.print()


def _cost(found: Mapping[str, Any]) -> tuple[str, str, str]:
    return count(found["mac"]), count(found["ac"]), joules(found["energy_j"])
