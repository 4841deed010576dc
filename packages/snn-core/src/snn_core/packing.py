"""Spikes as bits: eight to a byte, for what is kept, sent or stored.

The first spike in row-major order is the lowest bit of the first byte, as in SpikingJelly 2.0 and in
`numpy.packbits(..., bitorder="little")`; the last byte is filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_core.ops.memory import empty

TILE = 1 << 17
"""Elements that a CPU works through at once: what lies between two steps stays in its cache. A multiple of 8."""
LEAST = 1 << 12
"""Tensors with fewer elements stay as they are in `spikes_as_bits`: there is nothing to gain."""
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class PackedSpikes:
    """Spikes as bits, with what is needed to get them back."""

    bits: Tensor
    """uint8 [ceil(n / 8)], on the device of the spikes."""
    shape: torch.Size
    """Shape of the spikes, with n elements."""
    dtype: torch.dtype
    """Their dtype."""


def pack_spikes(spikes: Tensor, *, check: bool = False) -> PackedSpikes:
    """Spikes of any shape and real dtype as bits, without a gradient.

    Args:
        spikes: values 0 and 1. Any other value but 0 counts as 1, too.
        check: look at all values first, which takes longer than the packing itself.

    Raises:
        ValueError: `check`, and a value is neither 0 nor 1.
    """
    flat = spikes.detach().flatten()
    if check:
        other = ((flat != 0) & (flat != 1)).nonzero()
        if len(other):
            place, value = int(other[0, 0]), flat[other[0, 0]].item()
            raise ValueError(
                f"spikes are 0 or 1, but {len(other)} of {flat.numel()} values are not, the first one {value} at "
                f"{tuple(int(i) for i in np.unravel_index(place, spikes.shape))}; pack what the neuron gives, unscaled"
            )
    return PackedSpikes(_bits(flat.to(torch.bool)), spikes.shape, spikes.dtype)


def unpack_spikes(packed: PackedSpikes) -> Tensor:
    """The spikes 0 and 1 behind `packed`, in their shape and dtype, contiguous, on the device of the bits.

    Raises:
        ValueError: the number of bytes does not fit the shape.
    """
    n = packed.shape.numel()
    if packed.bits.numel() != -(-n // 8):
        raise ValueError(
            f"{n} spikes of shape {tuple(packed.shape)} are {-(-n // 8)} bytes of bits, but there are "
            f"{packed.bits.numel()}"
        )
    return _spikes(packed.bits, n, packed.dtype).view(packed.shape)


@contextmanager
def spikes_as_bits() -> Generator[None, None, None]:
    """Within the block, autograd keeps spikes for the backward pass as bits: 1/8 byte each instead of 4 or 2.

    It knows spikes by their values: a tensor is packed if every element is 0 or 1 to the last bit, which one pass over
    it tells (on a GPU, the host waits for the answer). A mark set by neurons would cost less, but mixed precision,
    pooling and concatenation make new tensors without it, and a mark left on a tensor that was changed would lose data.
    So this holds for any module, gradients are the same bit for bit, and masks of dropout, say, are packed as well.

    Everything else stays as it is: other values, parameters, small tensors, and views with gaps in their memory. A
    tensor that k operations keep is packed k times. Only the forward pass has to run within the block; of nested
    blocks and other hooks on saved tensors, the innermost counts.
    """
    with torch.autograd.graph.saved_tensors_hooks(_keep, _restore):
        yield


class _Kept(NamedTuple):
    """Packed memory of a tensor, and how the tensor lay in it."""

    memory: PackedSpikes
    shape: torch.Size
    stride: tuple[int, ...]


def _keep(x: Tensor) -> Tensor | _Kept:
    owner = x if x._base is None else x._base  # pyright: ignore[reportPrivateUsage]
    if x.numel() < LEAST or isinstance(owner, nn.Parameter) or type(x) is not Tensor or x.layout is not torch.strided:
        return x
    if not (x.is_floating_point() or x.dtype is torch.bool):
        return x
    memory = _memory(x)
    bits = None if memory is None else _exact_bits(memory)
    if memory is None or bits is None:
        return x
    return _Kept(PackedSpikes(bits, memory.shape, x.dtype), x.shape, x.stride())


def _restore(kept: Tensor | _Kept) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    # The same strides as before: with others a kernel might add up in another order.
    return unpack_spikes(kept.memory).as_strided(kept.shape, kept.stride)


def _memory(x: Tensor) -> Tensor | None:
    """The elements of x [n] in the order of memory and each once, without a copy; None if there are gaps in between."""
    once = x.detach()
    for axis, stride in enumerate(x.stride()):
        if stride == 0:
            once = once.narrow(axis, 0, 1)
    ordered = once.permute(sorted(range(x.dim()), key=lambda axis: -once.stride(axis)))
    return ordered.flatten() if ordered.is_contiguous() and not ordered.is_neg() else None


def _exact_bits(flat: Tensor) -> Tensor | None:
    """The bits of x [n] if its elements are 0 and 1, compared as integers so that -0.0 is another value; else None."""
    words = flat.view(_WORDS[flat.element_size()])
    one = torch.ones((), dtype=flat.dtype).view(words.dtype).item()
    if flat.device.type != "cpu":
        fired = words == one
        return _bits(fired) if torch.equal(fired, words != 0) else None
    values, bits = words.numpy(), np.empty(-(-len(flat) // 8), np.uint8)
    for start in range(0, len(values), TILE):
        part = values[start : start + TILE]
        fired = part == one
        if np.count_nonzero(fired) != np.count_nonzero(part):
            return None
        bits[start // 8 : (start + TILE) // 8] = np.packbits(fired, bitorder="little")
    return torch.as_tensor(bits)


def _bits(fired: Tensor) -> Tensor:
    """Bool [n] -> uint8 [ceil(n / 8)]."""
    if fired.device.type == "cpu":
        return torch.as_tensor(np.packbits(fired.numpy(), bitorder="little"))
    return _portable_bits(fired)


def _spikes(bits: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """uint8 [ceil(n / 8)] -> n zeros and ones."""
    if bits.device.type != "cpu":
        return _portable_spikes(bits, n, dtype)
    spikes, packed = empty((n,), dtype=dtype, device=bits.device), bits.numpy()
    for start in range(0, n, TILE):
        part = spikes[start : start + TILE]
        fired = np.unpackbits(packed[start // 8 : (start + TILE) // 8], count=len(part), bitorder="little")
        part.copy_(torch.as_tensor(fired))
    return spikes


def _portable_bits(fired: Tensor) -> Tensor:
    eights = F.pad(fired.view(torch.uint8), (0, -len(fired) % 8)).view(-1, 8)
    return (eights * _weights(fired.device)).sum(1, dtype=torch.uint8)


def _portable_spikes(bits: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    return (bits[:, None] & _weights(bits.device)).ne(0).flatten()[:n].to(dtype)


def _weights(device: torch.device) -> Tensor:
    return 1 << torch.arange(8, dtype=torch.uint8, device=device)
