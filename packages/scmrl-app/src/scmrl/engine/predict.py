"""Predict clips that are not in a run's dataset."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from scmrl.engine.evaluate import predict_batch
from scmrl.run_folder.clips import Clip, select_reader
from scmrl.run_folder.inputs import Inputs
from scmrl.run_folder.open import OpenRun
from snn_datasets import Draw, Modality, Sample, Source, collate
from snn_datasets.base.single_thread import single_thread

BATCH = 32
"""Clips per batch."""


@dataclass(frozen=True)
class ClipPrediction:
    """The prediction for a clip, or why there is none."""

    clip: Clip
    probabilities: dict[str, float] = field(default_factory=dict[str, float])
    """Probability of each class, by name."""
    missing: tuple[str, ...] = ()
    """Modalities that the clip lacks."""
    fault: str = ""
    """Why there is no prediction, in a line that names the clip; empty if there is one."""


@torch.no_grad()
def predict_clips(run: OpenRun, clips: Iterable[Clip], *, debug: bool = False) -> Iterator[ClipPrediction]:
    """Read and predict clips, in order; a clip that cannot be read yields its fault.

    Args:
        run: the run.
        clips: the clips.
        debug: raise the error of a clip instead of yielding its fault.
    """
    timed = frozenset(name for name, m in run.inputs.modalities.items() if m.info.is_timed)
    remaining = iter(clips)
    while chunk := list(islice(remaining, BATCH)):
        results = [_read(run.inputs, clip, timed, debug=debug) for clip in chunk]
        samples = [sample for sample in results if isinstance(sample, Sample)]
        row_probabilities: Iterator[list[float]] = iter(())
        if samples:
            _, rows, _ = predict_batch(run.model, collate(samples), run.device)
            row_probabilities = iter(cast("list[list[float]]", rows.double().cpu().tolist()))
        for clip, sample in zip(chunk, results, strict=True):
            if isinstance(sample, Sample):
                missing = tuple(name for name in run.inputs.modalities if name in sample.absent)
                probabilities = next(row_probabilities)
                if all(map(math.isfinite, probabilities)):
                    yield ClipPrediction(clip, dict(zip(run.inputs.classes, probabilities, strict=True)), missing)
                else:
                    yield ClipPrediction(clip, fault=f"{clip.id}: the logits are inf or NaN, so there is no prediction")
            else:
                yield ClipPrediction(clip, fault=sample)


def _read(inputs: Inputs, clip: Clip, timed: frozenset[str], *, debug: bool) -> Sample | str:
    """Read a clip into a sample, or return why it cannot be read."""
    if clip.fault:
        return clip.fault if clip.fault.startswith(clip.id) else f"{clip.id}: {clip.fault}"
    tensors: dict[str, Tensor] = {}
    for name, modality in inputs.modalities.items():
        if name not in clip.files:
            info = modality.info
            tensors[name] = torch.zeros(info.input_shape)
            continue
        try:
            tensors[name] = read_file(modality, clip.files[name], Draw(inputs.seed, clip.id, name))
        except ImportError:
            raise  # a missing package affects all clips
        except Exception as error:  # any error of one file: the other clips are still predicted
            if debug:
                raise
            return f"{clip.id}, {name}: {str(error) or type(error).__name__}"
    return Sample(clip.id, tensors, 0, frozenset(inputs.modalities.keys() - clip.files.keys()), timed)


@single_thread()
def read_file(modality: Modality, path: Path, draw: Draw) -> Tensor:
    """Read a file into a model input, with the reader and the stages of the training.

    Raises:
        FileNotFoundError, ReadError: it is missing or cannot be read.
        ValueError: the result contains inf or NaN.
        ImportError: a package is needed to read it.
    """
    reader, first = select_reader(modality.reader, path)
    # No augmentation outside training.
    modality = replace(modality, reader=reader, cached=(*first, *modality.cached), augment=())
    value = modality.encode_input(modality.load(Source(path), draw), draw, augmented=False)
    if not value.isfinite().all():
        raise ValueError(f"{path} yields inf or NaN; replace the file")
    return value
