"""The run that a demo serves: its model, its test split, and how it reads files."""

# PyTorch leaves some of its functions untyped.
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
from scmrl.demo.clips import DemoClip, file_endings
from scmrl.demo.encoding import axes_label, encode_explanation, encode_frames, is_flipped
from scmrl.demo.errors import RefusedError
from scmrl.demo.sandbox import SUPPORTED
from scmrl.demo.sound import encode_wav
from scmrl.explain.explanation import explain
from scmrl.explain.inference import class_probabilities, run_model
from scmrl.run_folder.clips import accepted_kinds
from scmrl.run_folder.inputs import Inputs
from scmrl.run_folder.open import open_run
from snn_datasets import DatasetInfo, Draw, RecordedDataset, SampleDataset
from snn_datasets.base.recordings import Waveform
from snn_datasets.stages.noise import mix_with_noise
from snn_fusion import FusionModel


@dataclass(frozen=True)
class OpenDemo:
    """A run that predicts samples, files, or both."""

    run: Path
    model: FusionModel
    explained_model: FusionModel
    """A copy for explanations: hooks record its layers, so that no other prediction may run at the same time."""
    info: DatasetInfo
    device: torch.device
    samples: SampleDataset | None
    """The test split; None if it cannot be read."""
    no_samples: str
    """The reason for that."""
    inputs: Inputs | None
    """How the run reads files; None if it reads none."""
    no_files: str
    """The reason for that."""
    explain_lock: threading.Lock = field(default_factory=threading.Lock)

    def sample(self, index: int) -> DemoClip:
        """Return a sample of the test split.

        Raises:
            RefusedError: there is no such sample, or it cannot be read.
        """
        if self.samples is None:
            raise RefusedError(self.no_samples, 404)
        self._check_index(self.samples, index)
        try:
            sample = self.samples[index]
        except (ValueError, OSError) as error:
            raise RefusedError(f"sample {index} cannot be read: {error}") from error
        present = {name: value.float() for name, value in sample.inputs.items() if name not in sample.absent}
        return DemoClip(present, dict.fromkeys(present, sample.id), sample.label)

    def sound(self, index: int, modality: str) -> bytes:
        """Return the recorded sound of a sample of the test split as a WAV file.

        Raises:
            RefusedError: there is none, or it cannot be read.
        """
        if modality not in self.info.modalities:
            raise RefusedError(self._unknown_modality(modality), 404)
        samples = self.samples
        if not isinstance(samples, RecordedDataset) or not self.has_sound(modality):
            raise RefusedError(f"the samples of this run hold no sound for {modality}", 404)
        self._check_index(samples, index)
        source = samples.rows[index].sources[modality]
        if source is None:
            raise RefusedError(f"sample {index} has no {modality}", 404)
        try:
            recording = samples.modalities[modality].reader.read(source)
        except (ValueError, OSError) as error:
            raise RefusedError(f"the sound of sample {index} cannot be read: {error}") from error
        if not isinstance(recording, Waveform):
            raise RefusedError(f"the samples of this run hold no sound for {modality}", 404)
        return encode_wav(recording)

    def has_sound(self, modality: str) -> bool:
        """Return whether the sound of the samples can be played."""
        samples = self.samples
        return isinstance(samples, RecordedDataset) and samples.modalities[modality].reader.gives == "waveform"

    def _check_index(self, samples: SampleDataset, index: int) -> None:
        if not 0 <= index < len(samples):
            raise RefusedError(f"there is no sample {index}; the test split has samples 0 to {len(samples) - 1}", 404)

    def _unknown_modality(self, modality: str) -> str:
        return f"the run has no modality {modality!r}; it has {', '.join(self.info.modalities)}"

    def predict(self, clip: DemoClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Any]:
        """Predict a clip without muted modalities and with noise; returns JSON for the page.

        Args:
            clip: the clip.
            muted: modalities to remove.
            noise: by modality, the share of noise, 0 to 1; see `snn_datasets.stages.noise.mix_with_noise`.

        Raises:
            RefusedError: no modality is left, or one is unknown.
        """
        inputs = self._perturb(clip, muted, noise)
        with torch.no_grad():
            probabilities = class_probabilities(run_model(self.model, self._batch(inputs)).logits)[0]
        frames = {
            name: encode_frames(value.numpy(), clip.inputs[name].numpy(), self.info.modalities[name])
            for name, value in inputs.items()
        }
        return {
            "probabilities": probabilities.tolist(),
            "label": clip.label,
            "names": clip.names,
            "frames": frames,
        }

    def explain(self, clip: DemoClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Any]:
        """Explain the prediction, which takes longer; arguments and errors as `predict`."""
        inputs = self._perturb(clip, muted, noise)
        with self.explain_lock:
            explanation = explain(self.explained_model, self._batch(inputs), self.info, label=clip.label)
        return encode_explanation(explanation, self.info)

    def _perturb(self, clip: DemoClip, muted: frozenset[str], noise: Mapping[str, float]) -> dict[str, Tensor]:
        """Return the model's inputs by modality, on the CPU and without a batch axis."""
        if unknown := {*muted, *noise} - self.info.modalities.keys():
            raise RefusedError(self._unknown_modality(min(unknown)))
        if not clip.inputs.keys() - muted:
            raise RefusedError("no modality is left; the model needs at least one")
        inputs: dict[str, Tensor] = {}
        for name, value in clip.inputs.items():
            if name not in muted:
                generator = Draw(0, clip.names[name], name, stage="demo").generator()
                inputs[name] = mix_with_noise(value, noise.get(name, 0.0), self.info.modalities[name].kind, generator)
        return inputs

    def _batch(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch of one on the model's device, [1, ...] or [T, 1, ...]."""
        timed = {name for name, info in self.info.modalities.items() if info.is_timed}
        return {name: value.unsqueeze(1 if name in timed else 0).to(self.device) for name, value in inputs.items()}

    def describe(self, max_upload: float) -> dict[str, Any]:
        """Return what the page needs before the first prediction; the size limit of uploads is in MB."""
        return {
            "run": self.run.resolve().name,
            "data": self.info.name,
            "notes": list(self.info.notes),
            "classes": list(self.info.classes),
            "modalities": [
                {
                    "name": name,
                    "kind": info.kind,
                    "synthetic": info.synthetic,
                    "flipped": is_flipped(info),
                    "axes": axes_label(info),
                    "has_sound": self.has_sound(name),
                    "accepts": list(accepted_kinds(self.inputs.modalities[name].reader)) if self.inputs else [],
                    "endings": list(file_endings(self.inputs.modalities[name])) if self.inputs else [],
                }
                for name, info in self.info.modalities.items()
            ],
            "labels": list(self.samples.labels) if self.samples is not None else [],
            "no_samples": self.no_samples,
            "no_files": self.no_files,
            "max_upload": max_upload,
        }


def open_demo(folder: Path, progress: Progress, access: DataAccess | None = None) -> OpenDemo:
    """Load a run: its model, how it reads files, and the test split of its dataset if it is available.

    Raises:
        ValueError: there is no run, or it can predict neither samples nor files.
        FileNotFoundError: the folder holds no model.
    """
    opened = open_run(folder, access)
    model, device, no_files = opened.model, opened.device, ""
    inputs = opened.inputs if opened.inputs.modalities else None
    if inputs is None:
        no_files = "This run accepts no clips: its samples are generated, not read from files."
    samples, no_samples, info = None, "", None
    try:
        splits = opened.data(progress)
        samples, info = splits.test, splits.info
    except (ValueError, OSError) as error:
        no_samples = str(error)
    if inputs is not None and not SUPPORTED:
        inputs, no_files = None, "Uploads need process limits, which only Linux and macOS have."
    if info is None:
        if inputs is None:
            raise ValueError(f"{folder} can predict neither samples nor files: {no_samples}; {no_files}")
        info = DatasetInfo(folder.name, inputs.classes, inputs.infos)
    return OpenDemo(folder, model, deepcopy(model), info, device, samples, no_samples, inputs, no_files)
