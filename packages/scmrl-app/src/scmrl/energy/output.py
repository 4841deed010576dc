"""Output of an energy measurement: energy.json for programs, tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scmrl.console.tables import DataTable, escape_markdown, one_line
from scmrl.energy.counting import ModelOperations, Operations
from scmrl.energy.prices import EnergyTable

FORMAT_VERSION = 1
"""Of energy.json; raised when the meaning of its fields changes."""
INPUTS = {"spikes": "spikes", "whole": "integers", "real": "real"}
UNITS = ((1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
NOTES = (
    "paper: the convention of Spikformer (arXiv:2209.15425) and of the Spike-driven Transformer (arXiv:2307.01694). "
    "The first layer of each encoder is MACs if its input is real-valued. Every other layer is ACs: its dense "
    "operations times the fraction of its inputs that are not 0. In a product of activations, the input is the factor "
    "that spikes.",
    "strict: a layer is ACs only if all its inputs are 0 or 1. Each spike then counts once per output that it reaches, "
    "padding excluded; products in attention count coincidences with a spike. Layers with any other input, such as "
    "sums of spikes, sums scaled by alpha, or means, are MACs on all inputs. Hardware could do better, because "
    "W (a + alpha c) = W a + (alpha W) c needs only additions for spikes a and c; strict does not assume this.",
    "neuron updates are listed separately: one MAC per neuron and time step (leak and current), one AC without leak, "
    "two MACs and one AC with an adaptive threshold. Normalization and the current's factor are folded into weights, "
    "the scale of attention into thresholds.",
    "dense twin: the same layers with real-valued activations in place of neurons, so that all products are MACs on "
    "all inputs; over one time step, as a network without spikes would run, and over the same number of steps.",
    "not counted: memory access and data movement, which often need more energy than arithmetic; biases, sums of "
    "residuals and their scale, means, pooling, gates, comparisons with thresholds, resets. Counting only arithmetic "
    "favors spiking networks: with data movement, on typical neuromorphic hardware, arXiv:2409.08290v4 finds that at 5 "
    "time steps the firing rate must be below 5.7 % to need less energy than an equivalent quantized network.",
)
PRINTED_TABLES = 3
"""Number of tables printed on a terminal; energy.md holds all of them."""


def to_json(operations: ModelOperations, table: EnergyTable, *, data: str, split: str) -> dict[str, Any]:
    """Return the content of energy.json: operations and joules for one sample, mean over samples."""

    def priced(part: Operations) -> dict[str, float]:
        return {"mac": part.mac, "ac": part.ac, "energy_j": table.joules(part.mac, part.ac)}

    notes = [*NOTES]
    if operations.timed and operations.time_steps > 1:
        notes.append(
            f"{', '.join(operations.timed)}: the input has a time axis, and the dense twin of one step gets its first "
            f"step only; the twin of {operations.time_steps} steps is the fair comparison."
        )
    if operations.unlayered:
        notes.append(
            f"{', '.join(operations.unlayered)}: the encoder has no layer, so by the paper's convention none of its "
            "operations are MACs, whatever the input; strict depends on the input values."
        )
    return {
        "format_version": FORMAT_VERSION,
        "data": data,
        "split": split,
        "samples": operations.samples,
        "time_steps": operations.time_steps,
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
            for layer in operations.layers
        ],
        "neurons": [
            {"layer": neurons.name, "updates": neurons.updates, "rate": neurons.rate, **priced(neurons.operations)}
            for neurons in operations.neurons
        ],
        "totals": {
            "paper": priced(operations.paper),
            "strict": priced(operations.strict),
            "neurons": priced(operations.updates),
            "strict_with_neurons": priced(operations.strict + operations.updates),
            "dense_twin": {**priced(operations.dense_once), "time_steps": 1},
            "dense_twin_same_steps": {**priced(operations.dense), "time_steps": operations.time_steps},
        },
        "notes": notes,
    }


def make_tables(content: Mapping[str, Any]) -> list[DataTable]:
    """Make the tables from the content of energy.json."""
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
    source = f"{content['data']}, {content['split']}, mean over {content['samples']:,} samples"
    prices = f"{content['picojoules']['mac']:g} pJ per MAC, {content['picojoules']['ac']:g} pJ per AC"
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for layer in content["layers"]:
        parts.setdefault(part_name(layer["layer"]), []).append(layer)
    return [
        DataTable(
            f"operations and energy of one inference: {source}; {content['table']}: {prices}",
            ("", "MAC", "AC", "energy", "relative to dense twin, 1 step"),
            [
                (label, *_operation_cells(totals[name]), f"{totals[name]['energy_j'] / twin:.1%}" if twin else "-")
                for name, label in names.items()
            ],
        ),
        DataTable(
            "by part",
            ("part", "dense MAC", "paper", "strict"),
            [
                (
                    part,
                    format_count(sum(layer["dense"] for layer in layers)),
                    format_joules(sum(layer["paper"]["energy_j"] for layer in layers)),
                    format_joules(sum(layer["energy_j"] for layer in layers)),
                )
                for part, layers in parts.items()
            ],
        ),
        DataTable(
            "by layer: type of the input, fraction of the input that is not 0, operations",
            ("layer", "input", "not 0", "dense MAC", "paper MAC", "AC", "energy", "strict MAC", "AC", "energy"),
            [
                (
                    layer["layer"],
                    INPUTS[layer["inputs"]],
                    f"{layer['rate']:.1%}",
                    format_count(layer["dense"]),
                    *_operation_cells(layer["paper"]),
                    *_operation_cells(layer),
                )
                for layer in content["layers"]
            ],
        ),
        DataTable(
            "neuron updates",
            ("layer", "updates", "firing rate", "MAC", "AC", "energy"),
            [
                (
                    neurons["layer"],
                    format_count(neurons["updates"]),
                    f"{neurons['rate']:.1%}",
                    *_operation_cells(neurons),
                )
                for neurons in content["neurons"]
            ],
        ),
    ]


def part_name(layer: str) -> str:
    """Return the name of the encoder that contains a layer, or of another part of the model."""
    names = layer.split(".")
    return ".".join(names[: 2 if names[0] == "encoders" else 1])


def format_count(operations: float) -> str:
    """Format a number of operations: `640`, `73.7 k`, `23.3 M`."""
    return _scaled(operations, ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")))


def format_joules(energy: float) -> str:
    """Format an energy in joules with a suitable unit."""
    return _scaled(energy, [(size, f" {unit}") for size, unit in UNITS])


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Format three digits in the largest unit with a value of at least 1."""
    size, unit = next((entry for entry in units if value >= 0.9995 * entry[0]), units[-1])
    return f"{value / size:.3g}{unit}"


def to_markdown(content: Mapping[str, Any], blocks: Sequence[DataTable]) -> str:
    """Return the tables as a Markdown document."""
    lines = [f"# Energy of one inference on {escape_markdown(content['data'])}", ""]
    lines += [block.markdown() for block in blocks]
    lines += ["## Counting rules", ""]
    lines += [f"- {escape_markdown(note)}" for note in (*content["notes"], f"energy: {content['source']}")]
    return "\n".join([*lines, ""])


def print_tables(blocks: Sequence[DataTable], console: Console) -> None:
    """Print tables; on a terminal, only those that fit."""
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


def _operation_cells(counts: Mapping[str, Any]) -> tuple[str, str, str]:
    return format_count(counts["mac"]), format_count(counts["ac"]), format_joules(counts["energy_j"])
