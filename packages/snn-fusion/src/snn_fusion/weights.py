"""Start a model from the weights of another one, with a report of what fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from snn_fusion.model import FusionModel
from snn_fusion.pretrained import read_weights


@dataclass(frozen=True)
class ShapeMismatch:
    """A tensor that both have, in different shapes."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did with each tensor, by its dotted name; `print` shows it."""

    loaded: tuple[str, ...]
    """Tensors of the model that now hold the file's values."""
    missing: tuple[str, ...]
    """Tensors of the model that the file lacks; they keep the values they had."""
    unexpected: tuple[str, ...]
    """Tensors of the file that the model lacks; they are ignored."""
    mismatched: tuple[ShapeMismatch, ...]
    """Tensors whose shapes differ; the model's keep the values they had."""

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model was loaded and none of the file was ignored."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        line = (
            f"loaded {len(self.loaded)} of {total} tensors ({len(self.missing)} missing from the file, "
            f"{len(self.mismatched)} of another shape, {len(self.unexpected)} in the file alone)"
        )
        return "\n".join([line, *self._details()])

    def _details(self) -> Iterator[str]:
        for mismatch in self.mismatched:
            yield f"  {mismatch.name}: {mismatch.in_file} in the file, {mismatch.in_model} in the model"
        for heading, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            # Whole parts are named once: a modality that is new has dozens of tensors.
            for module, count in _by_module(names).items():
                yield f"  {heading}: {module}" + (f" ({count} tensors)" if count > 1 else "")


def load_weights(model: FusionModel, folder: Path | str) -> LoadReport:
    """Copy into `model` every tensor of a saved model that has its name and shape.

    For starting from another model's weights: with other classes, one modality more, or another fusion method. The
    values are converted to the model's dtype and device. To load a model as it was saved there is `from_pretrained`.

    Args:
        model: changed in place; what does not fit keeps its values.
        folder: what `save_pretrained` wrote.

    Returns:
        which tensors were loaded and which were not.

    Raises:
        FileNotFoundError: the folder holds no weights.
        ValueError: the file is damaged, or none of its parameters fits; the model is unchanged then.
    """
    stored = read_weights(folder)
    expected = model.state_dict()
    fitting = [name for name, tensor in expected.items() if name in stored and stored[name].shape == tensor.shape]
    report = LoadReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in expected if name not in stored),
        unexpected=tuple(name for name in stored if name not in expected),
        mismatched=tuple(
            ShapeMismatch(name, tuple(stored[name].shape), tuple(tensor.shape))
            for name, tensor in expected.items()
            if name in stored and stored[name].shape != tensor.shape
        ),
    )
    # Counters of batches fit any model: it takes a parameter to call this a start from these weights.
    if not any(name in report.loaded for name, _ in model.named_parameters()):
        raise ValueError(f"none of the weights in {folder} fits the model: {report}")
    model.load_state_dict({name: stored[name] for name in fitting}, strict=False)
    return report


def _by_module(names: tuple[str, ...]) -> dict[str, int]:
    """How many tensors of each part there are, named by the first three parts of their dotted names."""
    counts: dict[str, int] = {}
    for name in names:
        module = ".".join(name.split(".")[:3])
        counts[module] = counts.get(module, 0) + 1
    return counts
