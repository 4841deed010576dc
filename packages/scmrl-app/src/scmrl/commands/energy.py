"""`scmrl energy`: operations and energy of one inference, by layer. PyTorch is loaded only when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scmrl.config.data_access import AS_TRAINED, DataAccess
from scmrl.config.preflight import require_parent

BATCH = 16
"""Samples per batch."""


def energy(
    run: Path | None = None,
    /,
    *,
    samples: int = 64,
    table: str = "45nm",
    split: Literal["test", "val", "train"] = "test",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Count the operations and energy of one inference by layer, compared with the same network without spikes.

    Multiply-accumulates (MAC) and accumulates (AC) are counted on samples of the split, by the convention of the
    literature and by a strict one. Memory access is not counted. Writes energy.json, energy.md, energy.png and
    energy.svg into the run's folder and replaces older ones.

    Args:
        run: run folder of `scmrl train`; none: the newest one in the folder `runs`.
        samples: number of samples, evenly spaced over the split; all if it has fewer.
        table: energy of an operation: 45nm (float32), 45nm-fp16, 45nm-int32, 45nm-int8, or custom values in
            picojoules: mac=4.6,ac=0.9.
        split: the split of these samples.
        json: a second path for energy.json.
        access: where the data are.
    """
    from scmrl.energy.prices import energy_table
    from scmrl.run_folder.files import read_experiment, write_json, write_text
    from scmrl.run_folder.newest import run_or_newest

    if samples < 1:
        raise ValueError(f"--samples {samples}: at least 1 sample is needed")
    prices = energy_table(table)
    if json is not None:
        require_parent("--json", json)
    run = run_or_newest(run)
    read_experiment(run, access)

    from rich.console import Console

    from scmrl.console.progress import Progress
    from scmrl.console.tables import one_line
    from scmrl.energy.figure import write_figure
    from scmrl.energy.measure import measure_energy
    from scmrl.energy.output import PRINTED_TABLES, make_tables, print_tables, to_json, to_markdown

    with Progress.create() as progress:
        data, counts = measure_energy(run, split, samples, BATCH, progress, access)
    content = to_json(counts, prices, data=data, split=split)
    blocks = make_tables(content)
    write_json(run / "energy.json", content)
    write_text(run / "energy.md", to_markdown(content, blocks))
    write_figure(content, run)
    if json is not None:
        write_json(json, content)
    print_tables(blocks[:PRINTED_TABLES], Console())
    for note in content["notes"]:
        print(f"note: {one_line(note)}")
    written = "energy.json, energy.md, energy.png, energy.svg"
    print(f"in {run}: {written}" + (f"; also {json}" if json is not None else ""))
    return 0
