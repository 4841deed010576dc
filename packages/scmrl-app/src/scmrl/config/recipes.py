"""Recipes: whole experiments by name, each a function. Imports no PyTorch.

A recipe gives base settings, which files and options override: `scmrl train scmrl-cremad --data.root DIR --train.epochs
20`. The default folder of a dataset of files is data/<kind>.

The recipes `...-published` reproduce the authors' training of S-CMRL (He et al. 2025, arXiv:2502.12488;
docs/published.md): their inputs and splits, the silent start of the cross-modal branch, their schedule, and the epoch
selected on the test split, so the test accuracy is no estimate for new data. One difference: the cosine decay ends with
the last of 100 epochs, the authors' ten epochs later.

The other recipes train on the same tasks by good practice: no person, recording or symbol in two splits, the epoch
selected on a validation split, a cross-modal branch that is alive from the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from scmrl.config.experiment import Experiment, ModelOptions, TrainSpec
from scmrl.config.overlay.faults import did_you_mean
from snn_datasets import CremaDSpec, DigitsSpec, MnistDvsNTidigitsSpec, UrbanSound8KAVSpec
from snn_fusion import BackboneSpec, CCSSASpec, ClassContrastiveSpec, ModelSpec, PatchSplittingSpec, preset

BOTH = ("audio", "visual")


def digits() -> Experiment:
    """Written and spoken digits, embedded: what `scmrl train` does without a recipe."""
    return Experiment()


def three_modalities() -> Experiment:
    """Written, spoken and touched digits, embedded."""
    return Experiment(data=DigitsSpec(modalities=(*BOTH, "touch")))


def scmrl_cremad(root: Path = Path("data/crema-d")) -> Experiment:
    """CREMA-D's six emotions from voice and face, no actor in two splits; four frames and their audio."""
    return Experiment(
        data=CremaDSpec(root=root, modalities=BOTH, protocol="actors", time_steps=4),
        model=ModelOptions(
            channels=256,
            time_steps=4,
            alignment=ClassContrastiveSpec(temperature=0.07),
            # The spectrogram of a step is 128 x 32: shallow splitting would give 256 tokens.
            encoders={"audio": PatchSplittingSpec(depth="full")},
        ),
        train=_schedule(),
    )


def scmrl_cremad_published(root: Path = Path("data/crema-d")) -> Experiment:
    """CREMA-D as published: one frame and one spectrogram a clip, clips split at random, the test split selects."""
    return Experiment(
        data=CremaDSpec(root=root, modalities=BOTH, protocol="published", val_fraction=0.0),
        model=_without_shapes(preset("scmrl-cremad-published")),
        train=_published_schedule(),
        seed=42,
    )


def scmrl_urbansound8k_av(root: Path = Path("data/urbansound8k-av")) -> Experiment:
    """UrbanSound8K-AV's ten city sounds from audio and images, no source recording in two splits."""
    return Experiment(
        data=UrbanSound8KAVSpec(root=root, modalities=BOTH, protocol="grouped"),
        model=ModelOptions(channels=64, time_steps=4, alignment=ClassContrastiveSpec(temperature=0.08)),
        train=_schedule(),
    )


def scmrl_urbansound8k_av_published(root: Path = Path("data/urbansound8k-av")) -> Experiment:
    """UrbanSound8K-AV as published: the first 70 % of each class by name are for training, the test split selects."""
    return Experiment(
        data=UrbanSound8KAVSpec(root=root, modalities=BOTH, protocol="published", val_fraction=0.0),
        model=_without_shapes(preset("scmrl-urbansound8k-av-published")),
        train=_published_schedule(),
        seed=42,
    )


def scmrl_mnistdvs_ntidigits(root: Path = Path("data/mnistdvs-ntidigits")) -> Experiment:
    """Digits from an event camera and a silicon cochlea, 16 steps; no symbol or speaker in two splits."""
    return Experiment(
        # A quarter of the sensor's side: 128 x 128 would take sixteen times as long.
        data=MnistDvsNTidigitsSpec(root=root, modalities=BOTH, protocol="events", time_steps=16, size=32),
        model=ModelOptions(channels=256, time_steps=16, fusion=CCSSASpec()),
        train=_schedule(),
    )


def scmrl_mnistdvs_ntidigits_published(root: Path = Path("data/mnistdvs-ntidigits")) -> Experiment:
    """MNIST-DVS with N-TIDIGITS as published: 28 x 28 in 16 steps, 500 pairs a class, the test split selects."""
    return Experiment(
        data=MnistDvsNTidigitsSpec(root=root, modalities=BOTH, protocol="published", time_steps=16),
        model=_without_shapes(preset("scmrl-mnistdvs-ntidigits-published")),
        train=_published_schedule(),
        seed=42,
    )


RECIPES: Mapping[str, Callable[[], Experiment]] = MappingProxyType(
    {
        "digits": digits,
        "three-modalities": three_modalities,
        "scmrl-cremad": scmrl_cremad,
        "scmrl-cremad-published": scmrl_cremad_published,
        "scmrl-urbansound8k-av": scmrl_urbansound8k_av,
        "scmrl-urbansound8k-av-published": scmrl_urbansound8k_av_published,
        "scmrl-mnistdvs-ntidigits": scmrl_mnistdvs_ntidigits,
        "scmrl-mnistdvs-ntidigits-published": scmrl_mnistdvs_ntidigits_published,
    }
)
"""Every recipe by its name on the command line."""


def recipe(name: str) -> Experiment:
    """Return the experiment of that name, one of `RECIPES`.

    Raises:
        ValueError: there is no such recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"{name}: no such recipe{did_you_mean(name, RECIPES)}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()


def _schedule() -> TrainSpec:
    """100 epochs at the published learning rate."""
    return TrainSpec(epochs=100, batch_size=128, learning_rate=5e-3, learning_rate_batch=1024, warmup_epochs=5.0)


def _published_schedule() -> TrainSpec:
    """The published schedule with every field, so that changed defaults do not affect it."""
    return TrainSpec(
        epochs=100,
        batch_size=128,
        accumulate=1,
        learning_rate=5e-3,
        learning_rate_batch=1024,
        final_learning_rate=1e-5,
        warmup_epochs=5.0,
        weight_decay=1e-4,
        gradient_clip=0.0,
        precision="float32",
        average=0.0,
        class_weights="none",
        patience=None,
        selection="test",
        augment_shift=0.0,
        augment_scale=0.0,
    )


def _without_shapes(spec: ModelSpec) -> ModelOptions:
    """A model's options; the data give the shapes."""
    return ModelOptions(
        **{field: getattr(spec, field) for field in BackboneSpec.model_fields},
        encoders=dict(spec.encoders),
    )
