"""Convert the training state of a rank to plain tensors and JSON, and back.

With FSDP a rank has shards of the parameters, the averaged weights and the optimizer's state, and saves its own shards.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from scmrl.engine.parallel import unwrap
from snn_core.distributed import is_sharded

Platform = dict[str, Any]
"""Hardware and software that affect the last bits of a result."""


def tensors_of(net: nn.Module, optimizer: torch.optim.Optimizer, averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of this rank, on the CPU: `model/NAME`, `averaged/NAME` and `optimizer/PARAMETER/KEY`.

    Raises:
        ValueError: a module has extra state that is not a tensor.
    """
    named = _targets(net, averaged)
    names: dict[Tensor, str] = {parameter: name for name, parameter in unwrap(net).named_parameters()}
    for parameter, state in optimizer.state.items():
        named |= {f"optimizer/{names[parameter]}/{key}": value for key, value in state.items()}
    stored: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in named.items():
        local = _local(tensor.detach()).cpu().contiguous()
        storage = local.untyped_storage()
        # safetensors refuses tensors that share memory, such as tied weights and shards.
        if storage.data_ptr() in storages or storage.nbytes() != local.nbytes:
            local = local.clone()
        storages.add(local.untyped_storage().data_ptr())
        stored[name] = local
    return stored


def restore_tensors(
    net: nn.Module, optimizer: torch.optim.Optimizer, averaged: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> None:
    """Load the tensors that `tensors_of` returned.

    Raises:
        ValueError: the stored tensors do not match this model; nothing was changed.
    """
    targets = _targets(net, averaged)
    parameters = dict(unwrap(net).named_parameters())
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        if name.startswith("optimizer/"):
            parameter, _, key = name.removeprefix("optimizer/").rpartition("/")
            states.setdefault(parameter, {})[key] = tensor
    stored_names = {name for name in stored if not name.startswith("optimizer/")}
    faults = [f"{name} is missing" for name in targets.keys() - stored_names]
    faults += [f"{name} is not part of the model" for name in stored_names - targets.keys()]
    for name in targets.keys() & stored_names:
        faults += _difference(name, stored[name], _local(targets[name]))
    for name, state in states.items():
        if name not in parameters:
            faults.append(f"optimizer/{name} is not part of the model")
            continue
        for key, value in state.items():
            if value.dim():  # the step count is a scalar
                faults += _difference(f"optimizer/{name}/{key}", value, _local(parameters[name]))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(f"its tensors do not match this model: {'; '.join(sorted(faults)[:3])}{more}")
    with torch.no_grad():
        for name, target in targets.items():
            _local(target).copy_(stored[name])
    _restore_optimizer(optimizer, parameters, states)


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Load the optimizer state; a parameter without stored state had no gradient yet."""
    names = {parameter: name for name, parameter in parameters.items()}
    content = optimizer.state_dict()
    in_order = [parameter for group in optimizer.param_groups for parameter in cast("list[Tensor]", group["params"])]
    content["state"] = {
        index: {key: _like(parameter, value) for key, value in states[names[parameter]].items()}
        for index, parameter in enumerate(in_order)
        if names[parameter] in states
    }
    optimizer.load_state_dict(content)


def _targets(net: nn.Module, averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast("dict[str, object]", unwrap(net).state_dict())
    for name, value in model.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"a checkpoint can only hold tensors, but the model's {name} is {type(value).__name__}; return a "
                "tensor from get_extra_state, or keep the state in a registered buffer"
            )
    named = {f"model/{name}": cast(Tensor, value) for name, value in model.items()}
    return named | {f"averaged/{name}": value for name, value in averaged.items()}


def _local(tensor: Tensor) -> Tensor:
    """The tensor, or this rank's shard of it."""
    return cast(Any, tensor).to_local() if is_sharded(tensor) else tensor


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Turn a stored shard into a tensor that is distributed like the parameter."""
    if not is_sharded(parameter) or not value.dim():
        return value
    from torch.distributed.tensor import DTensor

    assert isinstance(parameter, DTensor)
    return DTensor.from_local(
        value.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _difference(name: str, stored: Tensor, expected: Tensor) -> list[str]:
    if stored.shape == expected.shape and stored.dtype == expected.dtype:
        return []
    return [f"{name} is {_described(stored)}, not {_described(expected)}"]


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


@dataclass(frozen=True)
class Generators:
    """States of the global random number generators of a rank."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: Tensor
    """uint8 [bytes]."""
    cuda: Tensor | None
    """uint8 [bytes]; None without a GPU."""

    @classmethod
    def current(cls, device: torch.device) -> Generators:
        """Read the current states."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        numpy = np.random.get_state(legacy=True)
        return cls(random.getstate(), cast("tuple[Any, ...]", numpy), torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        """Restore the states; nothing may draw from the generators between this and the next step."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if device.type == "cuda" and self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, device)

    def tensors(self) -> dict[str, Tensor]:
        """States that are stored as tensors."""
        states = {"generator/torch": self.torch}
        return states if self.cuda is None else {**states, "generator/cuda": self.cuda}

    def json(self) -> dict[str, Any]:
        """States that are stored as JSON."""
        name, keys, *rest = self.numpy
        return {"python": self.python, "numpy": [name, keys.tolist(), *rest]}

    @classmethod
    def parse(cls, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> Generators:
        """Parse what `tensors` and `json` returned.

        Raises:
            ValueError, TypeError, LookupError, OverflowError, RuntimeError: the states are invalid.
        """
        version, keys, gauss = content["python"]
        name, words, *rest = content["numpy"]
        states = cls(
            (version, tuple(keys), gauss),
            (name, np.array(words, dtype=np.uint32), *rest),
            tensors["generator/torch"],
            tensors.get("generator/cuda"),
        )
        # Detect invalid states before anything is changed.
        random.Random().setstate(states.python)
        np.random.RandomState().set_state(cast(Any, states.numpy))
        torch.Generator().set_state(states.torch)
        return states


def platform_of(device: torch.device) -> Platform:
    """The platform that this rank computes on."""
    return {
        "threads": torch.get_num_threads(),
        "PyTorch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
    }
