"""`scmrl export`: a run's model as a file for other programs.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scmrl.data_access import AS_TRAINED, DataAccess

Format = Literal["pt2", "onnx", "nir"]


def export(
    run: Path,
    /,
    *,
    format: Annotated[Format, Parameter(name="--format")],
    out: Path,
    modality: str | None = None,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Write a run's model as a PyTorch program (.pt2), ONNX model, or NIR graph, compared with the original first.

    PyTorch programs and ONNX models take a batch of any size with all modalities and need nothing of this library. NIR
    expresses single encoders, and of those only some. The comparison reads samples of the run's test split.

    Args:
        run: folder that `scmrl train` left.
        format: what to write; onnx needs `pip install "scmrl-app[onnx]"`, nir `pip install "snn-core[nir]"`.
        out: the file, which must not exist yet.
        modality: whose encoder becomes NIR; needed where there are several.
        access: where the data are now.
    """
    from scmrl.engine.run_folder import read_experiment

    if not out.name or out.exists():
        raise ValueError(f"--out {out} exists already, and nothing is overwritten; name another file")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")
    if modality is not None and format != "nir":
        raise ValueError(f"--modality {modality} is for --format nir; {format} takes the whole model")
    read_experiment(run, access)

    from scmrl.engine import export as exporting
    from scmrl.engine.atomic import atomic_write
    from scmrl.engine.export_nir import compare_nir, save_nir
    from scmrl.engine.open_run import open_run
    from scmrl.progress import Progress

    opened = open_run(run, access)
    model = opened.model.cpu()
    if format == "onnx":
        exporting.require_onnx()
    if format == "nir":
        modality = _chosen(modality, model.modalities)
    with Progress.create() as progress, atomic_write(out) as part:
        if modality is not None:
            save_nir(model, modality, part)  # before the data are read, as it may be refused
        batch = exporting.samples_of(opened.data(progress).test)
        if modality is not None:
            different, total = compare_nir(part, model, modality, batch)
            said = f"{different} of {total:,} spikes of {modality}'s encoder differ, over {len(batch['ids'])} samples"
        else:
            progress.info(f"exporting {run} to {format}, which takes a minute for large models")
            exported = exporting.program(model, batch)
            if format == "pt2":
                exporting.save_pt2(exported, part)
                loaded = exporting.load_pt2(part)
            else:
                exporting.save_onnx(exported, part, model.modalities)
                loaded = exporting.load_onnx(part)
            largest, different, total = exporting.compare(loaded, model, batch)
            said = f"the logits of {total} test samples differ by {largest:.2e} at most"
            if different:
                said += f"; in {different} of them the last bit decided about a spike"
    print(f"{out}: {said}")
    if modality is None:
        print(f"it takes {exporting.shapes_of(model, batch)}, and gives logits [B, {model.readout.head.out_features}]")
    return 0


def _chosen(modality: str | None, known: Sequence[str]) -> str:
    if modality is None and len(known) == 1:
        return known[0]
    if modality is None:
        raise ValueError(f"NIR expresses one encoder a file: name it, --modality {' or '.join(known)}")
    if modality not in known:
        raise ValueError(f"--modality {modality}: the run has {', '.join(known)}")
    return modality
