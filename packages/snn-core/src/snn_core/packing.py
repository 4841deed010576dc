"""Pack spikes into bits, eight to a byte, to save, send or store them.

The first spike in row-major order is the lowest bit of the first byte, as in SpikingJelly 2.0 and in
`numpy.packbits(..., bitorder="little")`. The last byte is padded with zeros.
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

from snn_core.ops.common.memory import empty

CHUNK = 1 << 17
"""Elements that a CPU processes at once, so that intermediate results stay in its cache. A multiple of 8."""
MIN_ELEMENTS = 1 << 12
"""`spikes_as_bits` leaves smaller tensors unpacked: packing them saves nothing."""
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class PackedSpikes:
    """Packed spikes with the shape and dtype to restore."""

    bits: Tensor
    """uint8 [ceil(n / 8)], on the device of the spikes."""
    shape: torch.Size
    """Shape of the spikes, n elements."""
    dtype: torch.dtype
    """Dtype of the spikes."""


def pack_spikes(spikes: Tensor, *, check: bool = False) -> PackedSpikes:
    """Pack spikes of any shape and real dtype into bits. There is no gradient.

    Args:
        spikes: values 0 and 1. Any other nonzero value is packed as 1.
        check: verify all values first, which takes longer than packing.

    Raises:
        ValueError: a value is neither 0 nor 1 (only with `check`).
    """
    flat = spikes.detach().flatten()
    if check:
        other = ((flat != 0) & (flat != 1)).nonzero()
        if len(other):
            position, value = int(other[0, 0]), flat[other[0, 0]].item()
            raise ValueError(
                f"spikes must be 0 or 1, but {len(other)} of {flat.numel()} values are not, the first one {value} at "
                f"{tuple(int(i) for i in np.unravel_index(position, spikes.shape))}; pack unscaled spikes"
            )
    return PackedSpikes(_bits(flat.to(torch.bool)), spikes.shape, spikes.dtype)


def unpack_spikes(packed: PackedSpikes) -> Tensor:
    """Return the spikes 0 and 1 in their shape and dtype, contiguous, on the device of the bits.

    Raises:
        ValueError: the number of bytes does not match the shape.
    """
    n = packed.shape.numel()
    if packed.bits.numel() != -(-n // 8):
        raise ValueError(
            f"{n} spikes of shape {tuple(packed.shape)} take {-(-n // 8)} bytes, but bits has {packed.bits.numel()}"
        )
    return _spikes(packed.bits, n, packed.dtype).view(packed.shape)


@contextmanager
def spikes_as_bits() -> Generator[None, None, None]:
    """Within the block, autograd saves spikes for the backward pass as bits: 1/8 byte each instead of 4 or 2.

    A tensor is packed if every element is exactly 0 or 1, which takes one pass over it (on a GPU, the host waits for
    the result). A mark set by neurons would be cheaper, but mixed precision, pooling and concatenation create new
    tensors without it, and a mark on a tensor that was changed later would lose data. So this works for any module,
    gradients are bit-identical, and binary tensors such as dropout masks are packed too.

    Other values, parameters, small tensors and views with gaps in memory are saved unchanged. A tensor that k
    operations save is packed k times. Only the forward pass has to run within the block. The innermost of nested
    blocks and other saved-tensor hooks applies.
    """
    with torch.autograd.graph.saved_tensors_hooks(pack_if_binary, restore):
        yield


class PackedMemory(NamedTuple):
    """Packed storage of a tensor with the shape and strides of the tensor."""

    memory: PackedSpikes
    shape: torch.Size
    stride: tuple[int, ...]


def pack_if_binary(x: Tensor) -> Tensor | PackedMemory:
    """Pack a tensor of zeros and ones; return any other tensor unchanged."""
    owner = x if x._base is None else x._base  # pyright: ignore[reportPrivateUsage]
    if (
        x.numel() < MIN_ELEMENTS
        or isinstance(owner, nn.Parameter)
        or type(x) is not Tensor
        or x.layout is not torch.strided
    ):
        return x
    if not (x.is_floating_point() or x.dtype is torch.bool):
        return x
    memory = _dense_elements(x)
    bits = None if memory is None else bits_if_binary(memory)
    if memory is None or bits is None:
        return x
    return PackedMemory(PackedSpikes(bits, memory.shape, x.dtype), x.shape, x.stride())


def restore(saved: Tensor | PackedMemory) -> Tensor:
    """Undo `pack_if_binary`."""
    if isinstance(saved, Tensor):
        return saved
    # The same strides as before: with others a kernel might sum in another order.
    return unpack_spikes(saved.memory).as_strided(saved.shape, saved.stride)


def _dense_elements(x: Tensor) -> Tensor | None:
    """Return the distinct elements of x [n] in memory order without a copy, or None if there are gaps between them."""
    once = x.detach()
    for axis, stride in enumerate(x.stride()):
        if stride == 0:
            once = once.narrow(axis, 0, 1)
    ordered = once.permute(sorted(range(x.dim()), key=lambda axis: -once.stride(axis)))
    return ordered.flatten() if ordered.is_contiguous() and not ordered.is_neg() else None


def bits_if_binary(flat: Tensor) -> Tensor | None:
    """Return the bits of x [n] if all elements are 0 or 1, else None. Compared as integers, so -0.0 is not 0."""
    words = flat.view(_WORDS[flat.element_size()])
    one = torch.ones((), dtype=flat.dtype).view(words.dtype).item()
    if flat.device.type != "cpu":
        fired = words == one
        return _bits(fired) if torch.equal(fired, words != 0) else None
    values, bits = words.numpy(), np.empty(-(-len(flat) // 8), np.uint8)
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        fired = part == one
        if np.count_nonzero(fired) != np.count_nonzero(part):
            return None
        bits[start // 8 : (start + CHUNK) // 8] = np.packbits(fired, bitorder="little")
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
    for start in range(0, n, CHUNK):
        part = spikes[start : start + CHUNK]
        fired = np.unpackbits(packed[start // 8 : (start + CHUNK) // 8], count=len(part), bitorder="little")
        part.copy_(torch.as_tensor(fired))
    return spikes


def _portable_bits(fired: Tensor) -> Tensor:
    eights = F.pad(fired.view(torch.uint8), (0, -len(fired) % 8)).view(-1, 8)
    return (eights * _weights(fired.device)).sum(1, dtype=torch.uint8)


def _portable_spikes(bits: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    return (bits[:, None] & _weights(bits.device)).ne(0).flatten()[:n].to(dtype)


def _weights(device: torch.device) -> Tensor:
    return 1 << torch.arange(8, dtype=torch.uint8, device=device)
