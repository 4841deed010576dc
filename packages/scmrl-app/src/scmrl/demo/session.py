"""A run that can be asked: its model, its test split, and how it reads files."""

# torch leaves the types of some of its own functions open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress
from scmrl.demo.clips import ShownClip, endings
from scmrl.demo.drawing import axes_of, drawn, frames_of, is_flipped
from scmrl.demo.noise import disturbed
from scmrl.demo.refused import RefusedError
from scmrl.demo.sandbox import POSSIBLE
from scmrl.demo.sound import wav
from scmrl.explain.asking import asked, chances
from scmrl.explain.explanation import explain
from scmrl.run_folder.clips import accepted_kinds
from scmrl.run_folder.inputs import Inputs
from scmrl.run_folder.open import open_run
from snn_datasets import DatasetInfo, Draw, RecordedDataset, SampleDataset
from snn_datasets.base.recordings import Waveform
from snn_fusion import FusionModel


@dataclass(frozen=True)
class OpenDemo:
    """A run, ready to be asked about samples, files, or one of the two."""

    run: Path
    model: FusionModel
    """Which answers at once."""
    watched: FusionModel
    """The same again, for explaining: that watches the model from within, where no other question must come."""
    info: DatasetInfo
    device: torch.device
    samples: SampleDataset | None
    """Its test split; None where it cannot be read."""
    no_samples: str
    """Why not."""
    inputs: Inputs | None
    """How it reads files; None where it reads none."""
    no_files: str
    """Why not."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Of explaining, one at a time."""

    def sample(self, index: int) -> ShownClip:
        """A sample of the test split.

        Raises:
            RefusedError: there is none of that number.
        """
        if self.samples is None:
            raise RefusedError(self.no_samples, 404)
        if not 0 <= index < len(self.samples):
            raise RefusedError(
                f"there is no sample {index}; the test split has those from 0 to {len(self.samples) - 1}", 404
            )
        try:
            sample = self.samples[index]
        except (ValueError, OSError) as error:
            raise RefusedError(f"sample {index} cannot be read: {error}") from error
        there = {name: value.float() for name, value in sample.inputs.items() if name not in sample.absent}
        return ShownClip(there, dict.fromkeys(there, sample.id), sample.label)

    def sound(self, index: int, modality: str) -> bytes:
        """The sound of a sample of the test split as it was recorded, a WAV file.

        Raises:
            RefusedError: there is none, or it cannot be read.
        """
        if modality not in self.info.modalities:
            raise RefusedError(self._unknown(modality), 404)
        samples = self.samples
        if not isinstance(samples, RecordedDataset) or not self.is_heard(modality):
            raise RefusedError(f"the samples of this run hold no sound for {modality}", 404)
        if not 0 <= index < len(samples):
            raise RefusedError(
                f"there is no sample {index}; the test split has those from 0 to {len(samples) - 1}", 404
            )
        source = samples.rows[index].sources[modality]
        if source is None:
            raise RefusedError(f"sample {index} has no {modality}", 404)
        try:
            recording = samples.modalities[modality].reader.read(source)
        except (ValueError, OSError) as error:
            raise RefusedError(f"the sound of sample {index} cannot be read: {error}") from error
        if not isinstance(recording, Waveform):
            raise RefusedError(f"the samples of this run hold no sound for {modality}", 404)
        return wav(recording)

    def is_heard(self, modality: str) -> bool:
        """Whether the sound of the samples can be played."""
        samples = self.samples
        return isinstance(samples, RecordedDataset) and samples.modalities[modality].reader.gives == "waveform"

    def _unknown(self, modality: str) -> str:
        return f"the run has no modality {modality!r}; it has {', '.join(self.info.modalities)}"

    def answer(self, clip: ShownClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Any]:
        """What the model says of a clip without some of its senses and with noise on others, for the page.

        Args:
            clip: what is asked about.
            muted: modalities that the model does not get.
            noise: by modality the share of noise, 0 to 1, see `disturbed`.

        Raises:
            RefusedError: nothing is left to ask about, or an unknown modality.
        """
        given = self._given(clip, muted, noise)
        with torch.no_grad():
            probabilities = chances(asked(self.model, self._batch(given)).logits)[0]
        frames = {
            name: frames_of(value.numpy(), clip.inputs[name].numpy(), self.info.modalities[name])
            for name, value in given.items()
        }
        return {
            "probabilities": probabilities.tolist(),
            "label": clip.label,
            "names": clip.names,
            "frames": frames,
        }

    def explanation(self, clip: ShownClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Any]:
        """Why it says so: takes longer, arguments and errors as of `answer`."""
        given = self._given(clip, muted, noise)
        with self.turn:
            return drawn(explain(self.watched, self._batch(given), self.info, label=clip.label), self.info)

    def _given(self, clip: ShownClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Tensor]:
        """What the model gets of a clip, by modality, on the CPU and without a batch axis."""
        if unknown := {*muted, *noise} - self.info.modalities.keys():
            raise RefusedError(self._unknown(min(unknown)))
        if not clip.inputs.keys() - muted:
            raise RefusedError("no sense is left; the model needs one at least")
        given: dict[str, Tensor] = {}
        for name, value in clip.inputs.items():
            if name not in muted:
                drawing = Draw(0, clip.names[name], name, stage="demo").generator()
                given[name] = disturbed(value, noise.get(name, 0.0), self.info.modalities[name].kind, drawing)
        return given

    def _batch(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of one on the model's device, [1, ...] or [T, 1, ...]."""
        timed = {name for name, info in self.info.modalities.items() if info.time_steps is not None}
        return {name: value.unsqueeze(1 if name in timed else 0).to(self.device) for name, value in given.items()}

    def described(self, largest_upload: float) -> dict[str, Any]:
        """What the page has to know before anything is asked; the largest upload in MB."""
        return {
            "run": self.run.resolve().name,
            "data": self.info.name,
            "notes": list(self.info.notes),
            "classes": list(self.info.classes),
            "senses": [
                {
                    "name": name,
                    "kind": info.kind,
                    "synthetic": info.synthetic,
                    "flipped": is_flipped(info),
                    "axes": axes_of(info),
                    "heard": self.is_heard(name),
                    "takes": list(accepted_kinds(self.inputs.modalities[name].reader)) if self.inputs else [],
                    "endings": list(endings(self.inputs.modalities[name])) if self.inputs else [],
                }
                for name, info in self.info.modalities.items()
            ],
            "labels": list(self.samples.labels) if self.samples is not None else [],
            "no_samples": self.no_samples,
            "no_files": self.no_files,
            "largest_upload": largest_upload,
        }


def open_demo(folder: Path, progress: Progress, access: DataAccess | None = None) -> OpenDemo:
    """Load a run: its model, how it reads files, and the test split of its dataset, where it is still there.

    Raises:
        ValueError: no run, or one that can be asked about neither samples nor files.
        FileNotFoundError: no model in the folder.
    """
    opened = open_run(folder, access)
    model, device, no_files = opened.model, opened.device, ""
    inputs = opened.inputs if opened.inputs.modalities else None
    if inputs is None:
        no_files = "No clip can be dropped here: the samples of this run are made by a program, not read from files."
    samples, no_samples, info = None, "", None
    try:
        splits = opened.data(progress)
        samples, info = splits.test, splits.info
    except (ValueError, OSError) as error:
        no_samples = str(error)
    if inputs is not None and not POSSIBLE:
        inputs, no_files = None, "Files are read where processes can be limited: on Linux or macOS."
    if info is None:
        if inputs is None:
            raise ValueError(f"{folder} can be asked about nothing: {no_samples}; {no_files}")
        info = DatasetInfo(folder.name, inputs.classes, inputs.infos)
    return OpenDemo(folder, model, deepcopy(model), info, device, samples, no_samples, inputs, no_files)
