"""Packed spikes: layout of NumPy and SpikingJelly, lossless, bit-identical gradients."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from present import present
from snn_core import LIF, SpikingConv2d, SpikingLinear
from snn_core.packing import (
    CHUNK,
    MIN_ELEMENTS,
    PackedMemory,
    PackedSpikes,
    _portable_bits,
    _portable_spikes,
    pack_if_binary,
    pack_spikes,
    restore,
    spikes_as_bits,
    unpack_spikes,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool]


def spikes(*shape: int, rate: float = 0.3, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(shape) < rate).to(dtype)


def bytes_of(saved: Tensor | PackedMemory) -> int:
    return saved.untyped_storage().nbytes() if isinstance(saved, Tensor) else saved.memory.bits.nbytes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (3, 5, 7), (2 * CHUNK + 3,)], ids=str)
def test_packing_equals_numpy_and_unpacking_inverts_it(dtype: torch.dtype, shape: tuple[int, ...]):
    x = spikes(*shape, dtype=dtype)
    packed = pack_spikes(x)
    assert packed.bits.dtype == torch.uint8
    np.testing.assert_array_equal(packed.bits, np.packbits(x.bool().numpy(), bitorder="little"))
    restored = unpack_spikes(packed)
    assert (restored.dtype, restored.shape) == (x.dtype, x.shape)
    assert torch.equal(restored, x)


@pytest.mark.parametrize("shape", [(5,), (3, 5, 7), (4, 2, 8)], ids=str)
def test_packed_bytes_equal_those_of_spikingjelly(shape: tuple[int, ...]):
    x = spikes(*shape)
    theirs = functional.bit_spike_compress(x)
    assert torch.equal(pack_spikes(x).bits, theirs)
    assert torch.equal(unpack_spikes(PackedSpikes(theirs, x.shape, x.dtype)), x)
    assert torch.equal(functional.bit_spike_decompress(pack_spikes(x).bits, shape, x.dtype), x)


def test_bits_are_in_row_major_order_for_any_memory_layout():
    x = spikes(3, 5, 7).permute(2, 0, 1)
    assert torch.equal(pack_spikes(x).bits, pack_spikes(x.contiguous()).bits)
    assert torch.equal(unpack_spikes(pack_spikes(x)), x)


@pytest.mark.parametrize("n", [0, 1, 8, 1003])
def test_other_devices_pack_the_same_bytes(n: int):
    x = spikes(n)
    assert torch.equal(_portable_bits(x.bool()), pack_spikes(x).bits)
    assert torch.equal(_portable_spikes(pack_spikes(x).bits, n, torch.bfloat16), x.bfloat16())


@pytest.mark.gpu
def test_a_gpu_packs_the_same_bytes_and_recognizes_spikes():
    x = spikes(64, 1003)
    packed = pack_spikes(x.cuda())
    assert torch.equal(packed.bits.cpu(), pack_spikes(x).bits)
    assert torch.equal(unpack_spikes(packed).cpu(), x)
    saved = pack_if_binary(x.cuda())
    assert isinstance(saved, PackedMemory)
    assert torch.equal(restore(saved).cpu(), x)
    assert isinstance(pack_if_binary((x * 0.5).cuda()), Tensor)


def test_check_reports_other_values_that_are_packed_as_one():
    x = torch.tensor([[0.0, 1.0], [-0.0, 0.25]])
    assert pack_spikes(x).bits.tolist() == [0b1010]
    with pytest.raises(ValueError, match=r"1 of 4 values are not, the first one 0.25 at \(1, 1\)"):
        pack_spikes(x, check=True)
    assert pack_spikes(x[:1], check=True).bits.tolist() == [0b10]
    with pytest.raises(ValueError, match="the first one nan"):
        pack_spikes(torch.tensor([float("nan")]), check=True)


def test_bits_of_another_size_raise():
    with pytest.raises(ValueError, match=r"9 spikes of shape \(9,\) take 2 bytes, but bits has 1"):
        unpack_spikes(PackedSpikes(torch.zeros(1, dtype=torch.uint8), torch.Size([9]), torch.float32))


def views(dtype: torch.dtype) -> dict[str, Tensor]:
    x = spikes(16, 8, 9, 11, dtype=dtype)
    return {
        "contiguous": x,
        "flattened": x.flatten(0, 1),
        "transposed": x.flatten(1).t(),
        "channels_last": x.to(memory_format=torch.channels_last),
        "one_channel_last": x.flatten().as_strided((128, 1, 9, 11), (99, 1, 11, 1)),
        "permuted": x.permute(3, 1, 0, 2),
        "expanded": x[:, None].expand(-1, 3, -1, -1, -1),
        "part": x[8:],
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", views(torch.bool))
def test_saved_tensors_are_restored_with_values_and_strides(name: str, dtype: torch.dtype):
    x = views(dtype)[name]
    saved = pack_if_binary(x)
    assert isinstance(saved, PackedMemory)
    assert saved.memory.bits.numel() <= -(-x.numel() // 8)
    restored = restore(saved)
    assert (restored.dtype, restored.shape, restored.stride()) == (x.dtype, x.shape, x.stride())
    assert torch.equal(restored, x)


def with_last_element(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    x = spikes(CHUNK + MIN_ELEMENTS, dtype=dtype)
    x[-1] = value
    return x


def unpackable() -> dict[str, Tensor]:
    return {
        "half": with_last_element(0.5),
        "minus": with_last_element(-1.0),
        "two": with_last_element(2.0),
        "minus_zero": with_last_element(-0.0),
        "nan": with_last_element(float("nan")),
        "tiny": with_last_element(1e-45),
        "next_to_one": with_last_element(1.0078125, torch.bfloat16),
        "parameter": nn.Parameter(torch.ones(MIN_ELEMENTS)),
        "view_of_parameter": nn.Parameter(torch.ones(64, MIN_ELEMENTS)).t(),
        "small": torch.ones(MIN_ELEMENTS - 1),
        "integers": torch.ones(MIN_ELEMENTS, dtype=torch.int64),
        "gaps": torch.ones(MIN_ELEMENTS, 2)[:, 0],
        "sparse": torch.ones(64, MIN_ELEMENTS).to_sparse(),
        "complex": torch.ones(MIN_ELEMENTS, dtype=torch.complex64),
        "negated": torch.zeros(MIN_ELEMENTS, dtype=torch.complex64).conj().imag,
    }


@pytest.mark.parametrize("name", unpackable())
def test_other_tensors_are_not_packed(name: str):
    x = unpackable()[name]
    assert pack_if_binary(x) is x


def gradients(model: nn.Module, x: Tensor, *, packed: bool, autocast: bool = False) -> list[Tensor]:
    """Return gradients of input and parameters after two backward passes through one graph."""
    model.zero_grad()
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if packed:
            with spikes_as_bits():
                out = model(leaf)
        else:
            out = model(leaf)
    upstream = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype)
    out.backward(upstream, retain_graph=True)
    out.backward(upstream)
    assert leaf.grad is not None
    return [leaf.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


class TwiceUsed(nn.Module):
    """Spikes saved by their product with themselves and by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = SpikingLinear(24, 32), SpikingLinear(32, 16), SpikingLinear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        s = self.first(x)
        return self.a(s * s) * self.b(s)


class Maps(nn.Module):
    """A convolution, batch norm and neuron made of PyTorch's own layers: [T*B, C, H, W] -> spikes, for T=4."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.neuron = LIF(save="d32")

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.norm(self.conv(x)).unflatten(0, (4, -1))).flatten(0, 1)


class ChannelsLast(nn.Module):
    """Two of them in the channels-last layout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Maps(6, 8), Maps(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        s = self.first(x.to(memory_format=torch.channels_last))
        return self.second(s.to(memory_format=torch.channels_last))


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Sequential(SpikingConv2d(6, 8), SpikingConv2d(8, 8), SpikingConv2d(8, 3)), (4, 3, 6, 12, 10)),
        (lambda: nn.Sequential(SpikingLinear(24, 32), nn.Dropout(0.0), SpikingLinear(32, 16)), (4, 5, 17, 24)),
        (TwiceUsed, (4, 5, 17, 24)),
        (ChannelsLast, (12, 6, 11, 9)),
    ],
    ids=["conv", "linear", "twice", "channels_last"],
)
def test_gradients_are_bit_identical(build: Callable[[], nn.Module], shape: tuple[int, ...], autocast: bool):
    torch.manual_seed(1)
    model, x = build(), torch.randn(shape) * 2
    plain = gradients(model, x, packed=False, autocast=autocast)
    packed = gradients(model, x, packed=True, autocast=autocast)
    assert len(plain) == len(packed) == 1 + len(list(model.parameters()))
    assert any(g.count_nonzero() for g in plain[1:])
    for a, b in zip(plain, packed, strict=True):
        assert torch.equal(a, b)


def test_second_derivatives_pass_through_packed_tensors():
    s = spikes(64, 100).requires_grad_()
    results: list[Tensor] = []
    for packed in (False, True):
        if packed:
            with spikes_as_bits():
                y = (s * s * s).sum()
        else:
            y = (s * s * s).sum()
        (first,) = torch.autograd.grad(y, s, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), s)
        results.append(second)
    assert torch.equal(*results)
    assert results[0].count_nonzero() > 0


def test_an_in_place_change_after_the_forward_does_not_affect_the_backward():
    s, weight = spikes(64, 100), torch.randn(100, 3, requires_grad=True)
    expected = s.t() @ torch.ones(64, 3)
    with spikes_as_bits():
        y = s @ weight
    s.zero_()
    y.sum().backward()
    assert torch.equal(present(weight.grad), expected)


def test_a_convolutional_stack_saves_one_bit_per_spike():
    model, x = nn.Sequential(*(Maps(16, 16) for _ in range(3))), spikes(8, 16, 24, 20)
    bytes_per_element = {}
    for packed in (False, True):
        storages: dict[int, int] = {}
        alive: list[Tensor | PackedMemory] = []

        def save(
            tensor: Tensor,
            packed: bool = packed,
            storages: dict[int, int] = storages,
            alive: list[Tensor | PackedMemory] = alive,
        ) -> Tensor | PackedMemory:
            saved = pack_if_binary(tensor) if packed else tensor
            alive.append(saved)  # prevents reuse of an address
            memory = saved if isinstance(saved, Tensor) else saved.memory.bits
            storages[memory.untyped_storage().data_ptr()] = memory.untyped_storage().nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(save, restore):
            model(x)
        bytes_per_element[packed] = sum(storages.values()) / (3 * x.numel())
    # Each layer saves its input, the input of its batch norm and the neuron's distances to threshold.
    assert bytes_per_element[False] == pytest.approx(12, rel=0.02)
    assert bytes_per_element[True] == pytest.approx(8 + 1 / 8, rel=0.02)
