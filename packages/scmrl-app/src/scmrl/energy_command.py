"""`scmrl energy`: what one inference costs, by layer, beside the same network without spikes.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scmrl.data_access import AS_TRAINED, DataAccess

BATCH = 16
"""Samples counted at a time."""


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
    """Count the operations of one inference by layer, and what energy they take, beside the network without spikes.

    Multiplications with addition (MAC) and additions alone (AC) are counted as they occur on samples of the split, by
    the literature's convention and by a strict one. Memory access is not counted. Writes energy.json, energy.md and the
    picture energy.png and .svg into the run's folder; those of an earlier count are replaced.

    Args:
        run: folder that `scmrl train` left; none: the newest one in the folder `runs`.
        samples: how many to count on, evenly spaced over the split; all if it has fewer.
        table: energy of an operation: 45nm (float32), 45nm-fp16, 45nm-int32, 45nm-int8, or values of your own in
            picojoules: mac=4.6,ac=0.9.
        split: samples to count on.
        json: another file to write energy.json to.
        access: where the data are now.
    """
    from scmrl.energy.tables import energy_table
    from scmrl.engine.newest_run import run_or_newest
    from scmrl.engine.run_folder import read_experiment, write_json, write_text

    if samples < 1:
        raise ValueError(f"--samples {samples}: counting needs at least 1 sample")
    prices = energy_table(table)
    if json is not None and not json.absolute().parent.is_dir():
        raise ValueError(f"--json {json}: there is no folder {json.absolute().parent}")
    run = run_or_newest(run)
    read_experiment(run, access)

    from rich.console import Console

    from scmrl.energy.measure import measure
    from scmrl.energy.picture import draw
    from scmrl.energy.wording import SHOWN, contents, markdown, print_tables, tables
    from scmrl.progress import Progress
    from scmrl.tables import one_line

    with Progress.create() as progress:
        data, counts = measure(run, split, samples, BATCH, progress, access)
    content = contents(counts, prices, data=data, split=split)
    blocks = tables(content)
    write_json(run / "energy.json", content)
    write_text(run / "energy.md", markdown(content, blocks))
    draw(content, run)
    if json is not None:
        write_json(json, content)
    print_tables(blocks[:SHOWN], Console())
    for note in content["notes"]:
        print(f"note: {one_line(note)}")
    written = "energy.json, energy.md, energy.png, energy.svg"
    print(f"in {run}: {written}" + (f"; also {json}" if json is not None else ""))
    return 0
