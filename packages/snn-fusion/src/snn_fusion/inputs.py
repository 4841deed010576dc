"""Check a model's inputs before anything is computed, and replace NaN and inf.

A neuron either fires or not, so a NaN vanishes at the first one: it becomes "no spike", and the logits look like any
others. The model therefore checks its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from snn_fusion.encoders.encoder import Encoder
from snn_fusion.presence import Presence
from snn_fusion.suggestion import did_you_mean


def check_inputs(inputs: object, encoders: nn.ModuleDict, fallback: Tensor | None) -> dict[str, int]:
    """Check names, types and shapes (never values) and return each input's batch axis by modality.

    Args:
        inputs: the model's argument.
        encoders: the model's encoders by modality.
        fallback: a parameter of the model, whose dtype and device apply to encoders without parameters.

    Raises:
        ValueError: not a mapping from the model's modalities to tensors of the encoders' shapes, dtype and device, or
            modalities that differ in batch size.
    """
    names = tuple(encoders.keys())
    if not isinstance(inputs, Mapping):
        example = ", ".join(f"{name!r}: {name}" for name in names)
        raise ValueError(f"pass one mapping from modality to tensor, model({{{example}}}), not {_describe(inputs)}")
    axes: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for name, x in cast(Mapping[str, object], inputs).items():
        check_modality(name, names)
        encoder = encoders[name]
        assert isinstance(encoder, Encoder)
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} must be a PyTorch tensor, but it is {_describe(x)}{_conversion_hint(x)}")
        try:
            axes[name] = encoder.batch_axis(x)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        _check_dtype_and_device(name, x, next(encoder.parameters(), fallback))
        sizes[name] = x.shape[axes[name]]
    if len(sizes) > 1:
        first, *others = sizes.values()
        if any(size != first for size in others):
            sizes_text = ", ".join(f"{name} has {size}" for name, size in sizes.items())
            raise ValueError(f"modalities must agree in batch size, but {sizes_text}")
    return axes


def check_modality(name: object, known: Sequence[str]) -> None:
    """Raise `ValueError` for a name that is not among those of the model's modalities."""
    if name not in known:
        name_text = repr(name) if isinstance(name, str | int) else _describe(name)
        fault = f"the model reads {', '.join(known)}, and {name_text} is not among them"
        suggestion = did_you_mean(name, known) if isinstance(name, str) else ""
        raise ValueError(f"{fault}; {suggestion}" if suggestion else fault)


def check_mask(name: str, mask: object, B: int, device: torch.device) -> None:
    """Raise `ValueError` unless `mask` is a bool tensor [B] on `device`."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"present[{name!r}] must be a PyTorch tensor, bool [{B}], but it is {_describe(mask)}")
    if mask.dtype != torch.bool or mask.shape != (B,):
        raise ValueError(
            f"present[{name!r}] must have one bool per sample, [{B}], but it is {mask.dtype} {tuple(mask.shape)}"
        )
    if mask.device != device:
        raise ValueError(
            f"present[{name!r}] is on {mask.device}, but {name} is on {device}: move it with .to({str(device)!r})"
        )


def zero_nonfinite(inputs: Mapping[str, Tensor], axes: Mapping[str, int]) -> tuple[dict[str, Tensor], Presence]:
    """Replace NaN and inf with zeros, and return by modality which samples had none, bool [B].

    The zeros keep one sample's NaN out of the batch statistics, which would spread it to all other samples and to the
    running statistics. Finite values are unchanged.
    """
    clean: dict[str, Tensor] = {}
    finite: dict[str, Tensor] = {}
    for name, x in inputs.items():
        is_finite = torch.isfinite(x)
        clean[name] = torch.where(is_finite, x, 0.0)
        of_sample = is_finite.flatten(axes[name] + 1).all(-1)
        finite[name] = of_sample.all(0) if axes[name] else of_sample
    return clean, finite


def nonfinite_samples(finite: Presence, presence: Presence) -> Tensor:
    """Return which samples have NaN or inf in a modality that they have, bool [B]."""
    masks = [~mask & presence[name] if name in presence else ~mask for name, mask in finite.items()]
    return masks[0] if len(masks) == 1 else torch.stack(masks).any(0)


def _check_dtype_and_device(name: str, x: Tensor, parameter: Tensor | None) -> None:
    if parameter is None:
        return
    if x.device != parameter.device:
        raise ValueError(
            f"{name} is on {x.device}, but the model is on {parameter.device}: move it with "
            f".to({str(parameter.device)!r})"
        )
    if x.dtype == parameter.dtype or (x.dtype in _AUTOCAST and torch.is_autocast_enabled(x.device.type)):
        return
    dtype_name = str(parameter.dtype).removeprefix("torch.")
    raise ValueError(
        f"{name} is {str(x.dtype).removeprefix('torch.')}, but the model computes in {dtype_name}: convert it with "
        f"{'.float()' if dtype_name == 'float32' else f'.to(torch.{dtype_name})'}"
    )


_AUTOCAST = (torch.float32, torch.bfloat16, torch.float16)
"""Types that autocast converts."""


def _describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    module = type(value).__module__.partition(".")[0]
    kind = type(value).__name__
    return f"a NumPy {'array' if kind == 'ndarray' else kind}" if module == "numpy" else f"of type {kind}"


def _conversion_hint(value: object) -> str:
    if type(value).__module__.partition(".")[0] == "numpy":
        return ": convert it with torch.from_numpy(...).float()"
    return ": convert it with torch.tensor(..., dtype=torch.float32)" if isinstance(value, list | tuple) else ""
