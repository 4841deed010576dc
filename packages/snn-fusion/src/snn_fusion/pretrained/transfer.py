"""Initialize a model from the weights of another one, with a report of what was loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from snn_fusion.model import FusionModel
from snn_fusion.pretrained.folder import read_weights


@dataclass(frozen=True)
class ShapeMismatch:
    """A tensor whose shape differs between file and model."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """Result of `load_weights` by the tensors' dotted names; `print` shows it."""

    loaded: tuple[str, ...]
    """Tensors of the model that now hold the file's values."""
    missing: tuple[str, ...]
    """Tensors that only the model has; they are unchanged."""
    unexpected: tuple[str, ...]
    """Tensors that only the file has; they are ignored."""
    mismatched: tuple[ShapeMismatch, ...]
    """Tensors whose shapes differ; the model's are unchanged."""

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model was loaded and every tensor of the file was used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        line = (
            f"loaded {len(self.loaded)} of {total} tensors ({len(self.missing)} missing from the file, "
            f"{len(self.mismatched)} of another shape, {len(self.unexpected)} only in the file)"
        )
        return "\n".join([line, *self._details()])

    def _details(self) -> Iterator[str]:
        for mismatch in self.mismatched:
            yield f"  {mismatch.name}: {mismatch.in_file} in the file, {mismatch.in_model} in the model"
        for heading, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            # One line per part: a new modality has dozens of tensors.
            for module, count in _by_module(names).items():
                yield f"  {heading}: {module}" + (f" ({count} tensors)" if count > 1 else "")


def load_weights(model: FusionModel, folder: Path | str) -> LoadReport:
    """Copy into `model` every tensor of a saved model with the same name and shape.

    For fine-tuning from another model's weights: with other classes, an additional modality, or another fusion method.
    Values are converted to the model's dtype and device. To load a model exactly as saved, use `from_pretrained`.

    Args:
        model: changed in place; tensors that do not match keep their values.
        folder: written by `save_pretrained`.

    Returns:
        which tensors were loaded and which were not.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: the file is damaged, or none of its parameters matches; the model is unchanged then.
    """
    stored = read_weights(folder)
    expected = model.state_dict()
    matching = [name for name, tensor in expected.items() if name in stored and stored[name].shape == tensor.shape]
    report = LoadReport(
        loaded=tuple(matching),
        missing=tuple(name for name in expected if name not in stored),
        unexpected=tuple(name for name in stored if name not in expected),
        mismatched=tuple(
            ShapeMismatch(name, tuple(stored[name].shape), tuple(tensor.shape))
            for name, tensor in expected.items()
            if name in stored and stored[name].shape != tensor.shape
        ),
    )
    # Batch norm's counters match any model, so only parameters count.
    if not any(name in report.loaded for name, _ in model.named_parameters()):
        raise ValueError(f"none of the weights in {folder} matches the model: {report}")
    model.load_state_dict({name: stored[name] for name in matching}, strict=False)
    return report


def _by_module(names: tuple[str, ...]) -> dict[str, int]:
    """Count the tensors of each part, named by the first three components of their dotted names."""
    counts: dict[str, int] = {}
    for name in names:
        module = ".".join(name.split(".")[:3])
        counts[module] = counts.get(module, 0) + 1
    return counts
