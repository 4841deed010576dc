"""`scmrl import`: convert a checkpoint of the published S-CMRL code to a model of this library.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snn_fusion.specs.explain import error_lines

SIZE = (128, 128)
"""Default height and width of a modality."""


def import_(
    checkpoint: Path,
    /,
    *,
    time_steps: int,
    out: Path,
    method: str | None = None,
    modality: str = "input",
    size: tuple[str, ...] = (),
    num_heads: int = 16,
    alpha: float = 1.5,
    temperature: float = 0.1,
    ema: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Convert a checkpoint of the authors' training script to a folder for `snn_fusion.from_pretrained`.

    The checkpoint is read as data: code in it is refused.

    Args:
        checkpoint: the authors' file, .pth.tar or a state dict.
        time_steps: T of static inputs; the weights do not determine it.
        out: folder of the model, new or empty.
        method: fusion method, if the weights do not determine it: spatiotemporal, spatial, temporal,
            weight_attention, sca, cmci or none.
        modality: name of a unimodal model's input.
        size: height and width of the inputs as MODALITY=HxW, or HxW for all, such as audio=256x192; SCA and CMCI work
            at this size only, the others at any size.
        num_heads: attention heads.
        alpha: scale of the residual.
        temperature: temperature of the alignment loss, for further training.
        ema: load the moving average of the weights, if the checkpoint has one.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a new or empty folder")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"--out {out} is not empty, and nothing is overwritten; name a new or empty folder")
    if time_steps < 1:
        raise ValueError(f"--time-steps {time_steps}: must be at least 1")

    from pydantic import ValidationError

    from snn_fusion import read_published, save_pretrained

    published = read_published(
        checkpoint,
        time_steps=time_steps,
        num_heads=num_heads,
        alpha=alpha,
        temperature=temperature,
        method=method,  # pyright: ignore[reportArgumentType]  # validated there
        modality=modality,
        ema=ema,
    )
    sizes = read_sizes(size, published.modalities)
    unknown = [name for name in published.modalities if name not in sizes]
    if unknown and published.method in ("sca", "cmci"):
        raise ValueError(
            f"{published.method.upper()} works at one size, which the weights do not determine: add "
            + " ".join(f"--size {name}=HEIGHTxWIDTH" for name in unknown)
        )
    sizes |= dict.fromkeys(unknown, SIZE)
    try:
        spec = published.spec(sizes)
    except ValidationError as error:
        faults = "; ".join(error_lines(error.errors()))
        raise ValueError(f"{checkpoint} and the options do not give a valid model: {faults}") from error
    model = published.build(sizes)
    save_pretrained(model, spec, out)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{out}: {published.method}, {' and '.join(published.modalities)}, {published.num_classes} classes, "
        f"{published.channels} channels, {parameters:,} parameters; load it with snn_fusion.from_pretrained"
    )
    if unknown:
        print(f"note: the size of {' and '.join(unknown)} is set to {SIZE[0]} x {SIZE[1]}; change it with --size")
    return 0


def read_sizes(texts: Sequence[str], modalities: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Parse height and width by modality, from HxW for all or MODALITY=HxW.

    Raises:
        ValueError: invalid text, or an unknown modality.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for text in texts:
        name, equals, size = text.rpartition("=")
        if equals and name not in modalities:
            raise ValueError(f"--size {text}: the model has no modality {name!r}; it has {', '.join(modalities)}")
        match = re.fullmatch(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})", size, re.ASCII)
        if match is None:
            raise ValueError(f"--size {text}: give height and width as HEIGHTxWIDTH, such as 128x128")
        sizes |= dict.fromkeys([name] if equals else modalities, (int(match[1]), int(match[2])))
    return sizes
