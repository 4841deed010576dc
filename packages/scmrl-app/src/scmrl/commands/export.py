"""`scmrl export`: export a run's model for other programs.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scmrl.config.data_access import AS_TRAINED, DataAccess
from scmrl.config.preflight import require_parent

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
    """Export a run's model as a PyTorch program (.pt2), ONNX model or NIR graph, verified against the original.

    PyTorch programs and ONNX models accept batches of any size with all modalities and do not need this library. NIR
    can express single encoders, and only some of them. The verification uses samples of the run's test split.

    Args:
        run: run folder.
        format: file format; onnx needs `pip install "scmrl-app[onnx]"`, nir `pip install "snn-core[nir]"`.
        out: file to write; must not exist.
        modality: modality whose encoder is exported to NIR; required if there are several.
        access: where the data are now.
    """
    from scmrl.run_folder.files import read_experiment

    if not out.name or out.exists():
        raise ValueError(f"--out {out} exists already, and nothing is overwritten; name another file")
    require_parent("--out", out)
    if modality is not None and format != "nir":
        raise ValueError(f"--modality {modality} is for --format nir; {format} exports the whole model")
    read_experiment(run, access)

    from scmrl.console.progress import Progress
    from scmrl.export import program as exporting
    from scmrl.export.nir import compare_nir, save_nir
    from scmrl.run_folder.atomic import atomic_write
    from scmrl.run_folder.open import open_run

    opened = open_run(run, access)
    model = opened.model.cpu()
    if format == "onnx":
        exporting.require_onnx()
    if format == "nir":
        modality = _select_modality(modality, model.modalities)
    with Progress.create() as progress, atomic_write(out) as part:
        if modality is not None:
            save_nir(model, modality, part)  # before the data are read, because NIR may not support the encoder
        batch = exporting.samples_of(opened.data(progress).test)
        if modality is not None:
            different, total = compare_nir(part, model, modality, batch)
            result = f"{different} of {total:,} spikes of {modality}'s encoder differ, over {len(batch['ids'])} samples"
        else:
            progress.info(f"exporting {run} to {format}; large models take a minute")
            exported = exporting.export_program(model, batch)
            if format == "pt2":
                exporting.save_pt2(exported, part)
                loaded = exporting.load_pt2(part)
            else:
                exporting.save_onnx(exported, part, model.modalities)
                loaded = exporting.load_onnx(part)
            largest, different, total = exporting.compare(loaded, model, batch)
            result = f"the logits of {total} test samples differ by {largest:.2e} at most"
            if different:
                result += f"; in {different} of them a spike depends on the last bit"
    print(f"{out}: {result}")
    if modality is None:
        print(f"inputs {exporting.shapes_of(model, batch)}; output logits [B, {model.readout.head.out_features}]")
    return 0


def _select_modality(modality: str | None, known: Sequence[str]) -> str:
    if modality is None and len(known) == 1:
        return known[0]
    if modality is None:
        raise ValueError(f"NIR holds one encoder per file: name its modality, --modality {' or '.join(known)}")
    if modality not in known:
        raise ValueError(f"--modality {modality}: the run has {', '.join(known)}")
    return modality
