"""Compare our results with golden arrays: values, losses, gradients and running statistics.

Agreement is 1e-4 relative, 1e-5 absolute where values are near 0. The arrays are float32 themselves: entries of a
gradient that nearly cancel carry the rounding of its large ones (up to 5e-5 where those are 48, measured against
float64), so for gradients 2e-6 of the largest entry is allowed besides. Gradients of biases before a batch norm are
rounding noise altogether and not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.golden import Golden, frames, model, model_arrays, model_inputs, part
from snn_core import LIF
from snn_fusion import ClassContrastive, FusionOutput
from snn_fusion.methods.base import FusedTokens

GROUPS = ("evaluation", "training", "loss", "gradients", "statistics")


@dataclass(frozen=True)
class Compared:
    """One of our arrays and the golden one."""

    group: str
    """One of GROUPS."""
    what: str
    ours: Tensor
    golden: Tensor

    def assert_agrees(self) -> None:
        assert_agrees(self.ours, self.golden, self.what)

    @property
    def error(self) -> float:
        """The largest difference, relative to the largest golden entry; absolute if all are 0."""
        if self.ours.shape != self.golden.shape:
            return float("inf")
        largest = float(self.golden.abs().max()) or 1.0
        error = float((self.ours.detach() - self.golden).abs().max()) / largest
        return error if error == error else float("inf")  # NaN


def assert_agrees(ours: Tensor, golden: Tensor, what: str) -> None:
    rounding = 2e-6 * float(golden.abs().max()) if what.startswith("gradient") else 0.0
    torch.testing.assert_close(ours, golden, rtol=1e-4, atol=1e-5 + rounding, msg=lambda text: f"{what}: {text}")


def assert_gradients_agree(module: nn.Module, expected: Mapping[str, Tensor]) -> None:
    for compared in _gradients(module, expected):
        compared.assert_agrees()


def assert_statistics_agree(module: nn.Module, expected: Mapping[str, Tensor]) -> None:
    for compared in _statistics(module, expected):
        compared.assert_agrees()


def without_noise(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: g for name, g in gradients.items() if not name.endswith(("expand.linear.bias", "contract.linear.bias"))
    }


def compare(golden: Golden) -> list[Compared]:
    """Compare everything in a case."""
    kind = golden.name.split("_")[0]
    return list({"neuron": _neuron, "alignment": _alignment, "model": _model}.get(kind, _part)(golden))


def _gradients(module: nn.Module, expected: Mapping[str, Tensor]) -> Iterator[Compared]:
    parameters = dict(module.named_parameters())
    assert expected
    for name, golden in without_noise(expected).items():
        ours = parameters[name].grad
        assert ours is not None, f"no gradient reached {name}"
        yield Compared("gradients", f"gradient of {name}", ours, golden)


def _input_gradient(name: str, x: Tensor, golden: Tensor) -> Compared:
    assert x.grad is not None
    return Compared("gradients", f"gradient of {name}", x.grad, golden)


def _statistics(module: nn.Module, expected: Mapping[str, Tensor]) -> Iterator[Compared]:
    buffers = dict(module.named_buffers())
    assert expected
    for name, golden in expected.items():
        yield Compared("statistics", name, buffers[name], golden)


def _neuron(golden: Golden) -> Iterator[Compared]:
    x = golden.arrays["in/x"].requires_grad_()
    spikes = LIF(detach_membrane=True)(x)
    spikes.backward(golden.arrays["cotangent"])
    yield Compared("training", "spikes", spikes, golden.arrays["out/spikes"])
    yield _input_gradient("x", x, golden.arrays["grad_in/x"])


def _alignment(golden: Golden) -> Iterator[Compared]:
    a, b = (golden.arrays[f"in/{name}"].requires_grad_() for name in "ab")
    loss = ClassContrastive(temperature=golden.settings["temperature"])(
        a.mean(0), b.mean(0), golden.arrays["in/labels"]
    )
    loss.backward()
    yield Compared("loss", "loss", loss, golden.arrays["out/loss"])
    for name, x in (("a", a), ("b", b)):
        yield _input_gradient(name, x, golden.arrays[f"grad_in/{name}"])


def _part(golden: Golden) -> Iterator[Compared]:
    built = part(golden)
    inputs = {name: built.inward(x).contiguous().requires_grad_() for name, x in golden.under("in/").items()}

    def outputs() -> tuple[Tensor, ...]:
        result = built.module(*inputs.values())
        return (result,) if isinstance(result, Tensor) else result

    built.module.eval()
    for index, output in enumerate(outputs()):
        yield Compared("evaluation", f"output {index}", output, built.outward(golden.arrays[f"eval/out{index}"]))

    built.module.train()
    trained = outputs()
    for index, output in enumerate(trained):
        yield Compared("training", f"output {index}", output, built.outward(golden.arrays[f"train/out{index}"]))
    torch.autograd.backward(
        trained, [built.outward(golden.arrays[f"train/cotangent{index}"]) for index in range(len(trained))]
    )
    for name, x in inputs.items():
        yield _input_gradient(name, x, built.inward(golden.arrays[f"train/grad_in/{name}"]))
    yield from _gradients(built.module, built.named(golden.under("train/grad_weights/")))
    # Weight attention has no batch norm, so there are no statistics.
    if golden.name != "weight_attention":
        yield from _statistics(built.module, built.named(golden.under("train/after/")))


def _model(golden: Golden) -> Iterator[Compared]:
    arrays, built, inputs = golden.arrays, model(golden), model_inputs(golden)
    unimodal = golden.name == "model_unimodal"
    seen: list[Any] = []
    built.fusion.register_forward_hook(lambda _module, _inputs, fused: seen.append(fused))
    assert not built.training
    yield from _outputs("evaluation", built(inputs), seen.pop(), golden.under("eval/"))
    output = built.train()(inputs)
    yield from _outputs("training", output, seen.pop(), golden.under("train/"))
    if unimodal:
        output.logits.backward(arrays["train/cotangent0"])
    else:
        loss = built.total_loss(output, arrays["in/labels"])
        # The published classification loss is only that of the prediction; CMCI's total adds those of the modalities.
        prediction = F.cross_entropy(output.logits, arrays["in/labels"], label_smoothing=built.label_smoothing)
        yield Compared("loss", "classification loss", prediction, arrays["train/loss_classification"])
        yield Compared("loss", "loss", loss.total, arrays["train/loss"])
        if "train/loss_alignment" in arrays:
            yield Compared("loss", "alignment loss", loss.alignment, arrays["train/loss_alignment"])
        loss.total.backward()
    timed = unimodal or not golden.settings["static"]
    for name, x in inputs.items():
        expected = arrays[f"train/grad_in/{'x' if unimodal else name}"]
        yield _input_gradient(name, x, frames(expected) if timed else expected)
    yield from _gradients(built, model_arrays(golden, "train/grad_weights/"))
    yield from _statistics(built, model_arrays(golden, "train/after/"))


def _outputs(group: str, output: FusionOutput, fused: FusedTokens, golden: Mapping[str, Tensor]) -> Iterator[Compared]:
    yield Compared(group, "logits", output.logits, golden["out0" if "out0" in golden else "logits"])
    if "feature1" in golden:
        # The modalities' own logits (CMCI), or residuals, or fused tokens of methods without residuals, averaged over
        # tokens.
        read = fused.residuals or fused.tokens
        features = list(output.logits_of.values()) or [x.mean(2) for x in read.values()]
        for index, feature in enumerate(features):
            yield Compared(group, f"feature {index + 1}", feature, golden[f"feature{index + 1}"])
