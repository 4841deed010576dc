"""`scmrl explain`: attention, occlusion, contributions and spikes of single samples.

Nothing here imports PyTorch before the command runs.
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
    """Explain a run's predictions: what the model attends to, what the prediction depends on, which neurons fire.

    Writes a folder with a page, index.md, that shows and explains the figures, with numbers as JSON and figures as PNG
    and SVG. An earlier explanation in that folder is replaced.

    Args:
        run: run folder of `scmrl train`; default: the newest run in the folder `runs`.
        samples: number of samples to explain, drawn at random.
        ids: explain these samples instead, separated by commas.
        split: split of the samples.
        out: folder to write; default: `explain` in the run folder.
        wrong: draw from the misclassified samples.
        seed: of the draw and of the t-SNE maps.
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
    from scmrl.explain.explain_run import explain_run

    selected = [part.strip() for part in ids.split(",") if part.strip()] if ids is not None else None
    if selected == []:
        raise ValueError("--ids names no sample; give ids separated by commas")
    lines = explain_run(run, target, selected, count=samples, split=split, wrong=wrong, seed=seed, access=access)
    for line in lines:
        print(one_line(line))
    print(f"in {target}: index.md, explain.json, features.png, and one folder of figures and numbers per sample")
    return 0
