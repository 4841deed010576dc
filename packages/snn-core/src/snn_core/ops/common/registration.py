"""Register operations with PyTorch: schema, implementation, output shapes, gradient and decomposition."""

# PyTorch leaves the types of its registration functions open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("snn_core", "FRAGMENT")
_decompositions: dict[Any, Callable[..., Any]] = {}


def register(
    schema: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    gradient: Callable[..., Any] | None = None,
    save_for_backward: Callable[..., None] | None = None,
    decomposition: Callable[..., Any] | None = None,
) -> None:
    """Register `snn_core::<name>`, so that torch.compile and torch.export trace it as one node.

    Args:
        schema: `name(arguments) -> (results)`.
        function: implementation for all devices.
        fake: returns outputs of the right shape and dtype without computing.
        gradient: `(ctx, *grads) -> gradients of all arguments`.
        save_for_backward: `(ctx, inputs, output)`, called after the forward.
        decomposition: the same in operations of PyTorch alone, for exporters.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"snn_core::{name}", fake, lib=_library)
    if gradient is not None:
        torch.library.register_autograd(f"snn_core::{name}", gradient, setup_context=save_for_backward, lib=_library)
    if decomposition is not None:
        _decompositions[getattr(torch.ops.snn_core, name).default] = decomposition


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return a table for `ExportedProgram.run_decompositions`: each inference operation in operations of PyTorch.

    The result runs without snn-core. All samples must have the same length.
    """
    return dict(_decompositions)
