"""`scmrl explain`: what a run's model looks at, what counts, and which neurons fire.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scmrl.config.data_access import AS_TRAINED, DataAccess


def explain(
    run: Path | None = None,
    /,
    *,
    samples: int = 4,
    ids: str | None = None,
    split: Literal["test", "val", "train"] = "test",
    out: Path | None = None,
    wrong: bool = False,
    seed: int = 0,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Show what a run's model looks at in some samples, what counts for its answer, and which neurons fire.

    Leaves a folder with a page, index.md, that shows it all and says how to read it; numbers in JSON, pictures as PNG
    and SVG. An earlier explanation in that folder is replaced.

    Args:
        run: folder that `scmrl train` left; none: the newest one in the folder `runs`.
        samples: how many samples to explain, drawn by the seed.
        ids: explain these instead, a list with commas.
        split: where the samples are from.
        out: folder to make; none: explain in the run's folder.
        wrong: draw among the samples that the model gets wrong.
        seed: decides which samples are drawn, and the map of all samples.
        access: where the data are now.
    """
    from scmrl.run_folder.files import read_experiment
    from scmrl.run_folder.newest import run_or_newest

    if samples < 1:
        raise ValueError(f"--samples {samples}: give 1 or more")
    if seed < 0:
        raise ValueError(f"--seed {seed} is negative; give 0 or more")
    if ids is not None and wrong:
        raise ValueError("--ids and --wrong exclude each other: the first names samples, the second draws some")
    run = run_or_newest(run)
    read_experiment(run, access)

    from scmrl.explain.folder import check_out

    target = run / "explain" if out is None else out
    check_out(target)

    from scmrl.console.tables import one_line
    from scmrl.explain.making import make

    chosen = [part.strip() for part in ids.split(",") if part.strip()] if ids is not None else None
    if chosen == []:
        raise ValueError("--ids names no sample; give ids with commas between them")
    made = make(run, target, chosen, count=samples, split=split, wrong=wrong, seed=seed, access=access)
    for line in made:
        print(one_line(line))
    print(f"in {target}: index.md, explain.json, features.png, and a folder of pictures and numbers for each sample")
    return 0
