"""Transforms of torchaudio and torchvision as stages: the library's own numbers, drawn as every stage draws."""

import json
import pickle
import random
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import yaml
from PIL import Image as Pillow
from pydantic import BaseModel, ValidationError
from torch import Tensor
from torchvision.transforms import v2

from datasets.writers.wav import tone
from snn_datasets import Draw, Image, ManifestSpec, RecordedDataset, Series, Stage, Video, Waveform
from snn_datasets.base.registries import STAGES, Stages
from snn_datasets.stages import library_transforms

README = Path(__file__).parents[3] / "packages" / "snn-datasets" / "README.md"
DRAW = Draw(seed=3, sample="a", modality="m", epoch=0)
PICTURE = np.arange(3 * 8 * 10, dtype=np.uint8).reshape(3, 8, 10)


class Spec(BaseModel):
    stages: Stages = ()


def stage(kind: str, transform: str, **arguments: Any) -> Stage:
    return STAGES.parse({"kind": kind, "transform": transform, **arguments})


def applied(transform: Stage, value: object, draw: Draw = DRAW) -> Any:
    return transform(value, draw.of(transform, "augment 0"))


def seed_of(transform: Stage, draw: Draw = DRAW) -> int:
    return draw.of(transform, "augment 0").generator().initial_seed()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# What comes out


def test_a_transform_equals_that_of_its_library():
    picture = noise(1, 20, 30)
    masking = stage("torchaudio", "TimeMasking", time_mask_param=12)
    erasing = stage("torchvision", "RandomErasing", p=1.0, scale=[0.1, 0.3])
    for transform, library in (
        (masking, torchaudio.transforms.TimeMasking(12)),
        (erasing, v2.RandomErasing(p=1.0, scale=(0.1, 0.3))),
    ):
        torch.manual_seed(seed_of(transform))
        assert torch.equal(applied(transform, picture), library(picture))
        assert not torch.equal(applied(transform, picture), picture)


def test_recordings_stay_recordings_of_their_kind():
    sound = Waveform(noise(2, 800).numpy(), 8_000)
    louder = applied(stage("torchaudio", "Vol", gain=0.5), sound)
    assert louder.rate == 8_000
    np.testing.assert_array_equal(louder.samples, sound.samples / 2)
    slower = applied(stage("torchaudio", "Resample", orig_freq=8_000, new_freq=4_000), sound)
    assert (slower.rate, slower.samples.shape) == (4_000, (2, 400))
    assert applied(stage("torchaudio", "MFCC", sample_rate=8_000, n_mfcc=13), sound).shape == (2, 13, 5)

    flip = stage("torchvision", "RandomHorizontalFlip", p=1.0)
    np.testing.assert_array_equal(applied(flip, Image(PICTURE)).pixels, PICTURE[:, :, ::-1])
    video = Video(PICTURE[None].repeat(2, 0), np.array([0.0, 0.5]))
    np.testing.assert_array_equal(applied(flip, video).frames, video.frames[..., ::-1])
    assert applied(flip, video).times is video.times


def test_inputs_are_not_modified():
    erasing = stage("torchvision", "RandomErasing", p=1.0, inplace=True)
    cases: list[tuple[Any, Callable[[Any], np.ndarray]]] = [
        (Image(PICTURE.copy()), lambda v: v.pixels),
        (noise(1, 8, 8), Tensor.numpy),
    ]
    for value, array in cases:
        before = array(value).copy()
        applied(erasing, value)
        np.testing.assert_array_equal(array(value), before)


# What is drawn


def test_draws_depend_on_seed_sample_and_epoch_alone():
    masking, picture = stage("torchaudio", "TimeMasking", time_mask_param=25), noise(1, 20, 30)
    draws = [DRAW, Draw(4, "a", "m", 0), Draw(3, "b", "m", 0), Draw(3, "a", "n", 0), Draw(3, "a", "m", 1)]
    first = [applied(masking, picture, draw) for draw in draws]
    torch.manual_seed(99)
    again = [applied(masking, picture, draw) for draw in reversed(draws)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert len({tuple(transform.flatten().tolist()) for transform in first}) == len(first)


def test_the_generators_of_the_process_go_on_as_before():
    torch.manual_seed(5)
    random.seed(5)
    expected = torch.rand(3), random.random()
    torch.manual_seed(5)
    random.seed(5)
    applied(stage("torchvision", "RandomErasing", p=1.0), noise(1, 8, 8))
    with pytest.raises(ValueError, match="cannot transform"):
        applied(stage("torchvision", "Normalize", mean=[0.5], std=[0.5]), Image(PICTURE))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


# What a cache and a file keep


def test_a_stage_is_compared_stored_and_sent_to_workers():
    transform = stage("torchvision", "RandomErasing", p=0.5, scale=[0.02, 0.1])
    assert STAGES.parse(transform.model_dump(mode="json")) == transform
    assert type(transform).model_validate_json(transform.model_dump_json()) == transform
    assert pickle.loads(pickle.dumps(transform)) == transform
    spec = Spec(stages=(transform,))
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


def test_the_fingerprint_tells_arguments_and_versions_apart(monkeypatch: pytest.MonkeyPatch):
    one, two = (stage("torchaudio", "Vol", gain=gain) for gain in (0.5, 0.6))
    assert one.fingerprint() != two.fingerprint()
    before = one.fingerprint()
    monkeypatch.setattr(library_transforms, "version", lambda name: "99.0")
    assert one.fingerprint() != before


# What is refused


@pytest.mark.parametrize(
    ("kind", "transform", "arguments", "words"),
    [
        ("torchvision", "RandomErasng", {}, r"no transform 'RandomErasng'; did you mean RandomErasing\?"),
        ("torchvision", "RandomErasing", {"scal": [0, 1]}, r"no argument 'scal'; did you mean scale\?; it takes: p,"),
        ("torchaudio", "TimeMasking", {}, "torchaudio's TimeMasking needs the argument 'time_mask_param'"),
        ("torchvision", "RandomErasing", {"p": 7}, r'RandomErasing refuses its arguments \{"p": 7\}: .*interval'),
        ("torchvision", "functional", {}, "no transform 'functional'"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_when_the_stage_is_created(
    kind: str, transform: str, arguments: dict[str, Any], words: str
):
    with pytest.raises(ValidationError, match=words):
        Spec.model_validate({"stages": [{"kind": kind, "transform": transform, **arguments}]})


def test_an_unknown_kind_is_answered_with_the_known_ones():
    with pytest.raises(ValidationError, match=r"unknown stage kind 'torchvison'; did you mean torchvision\?"):
        Spec.model_validate({"stages": [{"kind": "torchvison", "transform": "RandomErasing"}]})


def test_a_recording_of_another_kind_is_refused():
    series = Series(np.zeros((3, 1), np.float32), np.arange(3.0))
    with pytest.raises(ValueError, match=r"torchaudio's Vol takes sound or a tensor, not Series"):
        applied(stage("torchaudio", "Vol", gain=2.0), series)
    with pytest.raises(ValueError, match=r"takes an image, a video or a tensor, not Waveform"):
        applied(stage("torchvision", "RandomErasing"), Waveform(np.zeros((1, 5), np.float32), 8_000))
    with pytest.raises(ValueError, match=r"another orig_freq than the rate of its input, 8000 Hz"):
        applied(stage("torchaudio", "Resample", new_freq=4_000), Waveform(np.zeros((1, 5), np.float32), 8_000))
    with pytest.raises(ValueError, match=r"Spectrogram returns complex numbers"):
        applied(stage("torchaudio", "Spectrogram", power=None), Waveform(np.zeros((1, 500), np.float32), 8_000))


@pytest.fixture
def _nothing_built() -> Iterator[None]:
    library_transforms._instantiate.cache_clear()
    yield
    library_transforms._instantiate.cache_clear()


@pytest.mark.usefixtures("_nothing_built")
@pytest.mark.parametrize("error", [RuntimeError("Detected that PyTorch and\nmore"), OSError("no symbol")])
def test_a_library_that_cannot_be_imported_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(library_transforms, "import_module", fail)
    with pytest.raises(ValidationError) as refusal:
        Spec.model_validate({"stages": [{"kind": "torchaudio", "transform": "Vol", "gain": 2}]})
    (fault,) = refusal.value.errors()
    assert fault["msg"].startswith("torchaudio 2.")
    assert f"cannot be imported beside PyTorch {torch.__version__.partition('+')[0]}" in fault["msg"]
    assert fault["msg"].endswith("install builds of the two for the same CUDA version, or leave the transform out")
    assert "\n" not in fault["msg"]


@pytest.mark.usefixtures("_nothing_built")
def test_a_library_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(library_transforms, "import_module", fail)
    monkeypatch.setattr(library_transforms, "version", missing)
    with pytest.raises(ValidationError, match=r"torchvision is not installed; .*snn-datasets\[torchvision\]"):
        Spec.model_validate({"stages": [{"kind": "torchvision", "transform": "RandomErasing"}]})


# In a manifest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two training samples of each of two classes and a test sample, each with an image and a sound."""
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = ["split,label,photo,sound"]
    for number, split in enumerate(["train"] * 4 + ["val", "test"]):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"{number}.png")
        soundfile.write(tmp_path / f"{number}.wav", tone(300 + 100 * number, rate=8_000, seconds=0.4), 8_000)
        rows.append(f"{split},{'ab'[number % 2]},{number}.png,{number}.wav")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def readme_example(root: Path) -> ManifestSpec:
    text = README.read_text(encoding="utf-8")
    fields = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["data"]
    return ManifestSpec.model_validate({**fields, "root": root})


def test_the_example_of_the_readme_augments_only_training_samples_in_each_epoch(root: Path):
    plain = ManifestSpec(root=root).build()
    spec = readme_example(root)
    assert ManifestSpec.model_validate_json(spec.model_dump_json()) == spec
    splits = spec.build()
    assert splits.info.shapes == plain.info.shapes
    for name in ("photo", "sound"):
        train, test = splits.train, splits.test
        assert torch.equal(train[0, 0].inputs[name], train[0, 0].inputs[name])
        epochs = {tuple(train[epoch, 0].inputs[name].flatten().tolist()) for epoch in range(8)}
        assert len(epochs) > 4
        # Loudness is lost by standardization, so the preparation of sound by Vol shows nowhere else.
        np.testing.assert_allclose(test[0].inputs[name], plain.test[0].inputs[name], atol=1e-4)


def test_a_preparation_is_cached_and_may_take_the_place_of_the_encoder(root: Path):
    mfcc = {"kind": "torchaudio", "transform": "MFCC", "sample_rate": 8_000, "n_mfcc": 20}
    gray = {"kind": "torchvision", "transform": "Grayscale"}
    spec = ManifestSpec.model_validate(
        {"root": root, "columns": {"sound": {"cached": [mfcc]}, "photo": {"cached": [gray], "size": 8}}}
    )
    splits = spec.build()
    assert splits.info.shapes == {"photo": (1, 8, 8), "sound": (1, 20, 17)}
    samples = torch.from_numpy(soundfile.read(root / "5.wav", dtype="float32")[0])[None]
    expected = torchaudio.transforms.MFCC(sample_rate=8_000, n_mfcc=20)(samples)
    assert torch.equal(splits.test[0].inputs["sound"], expected)
    assert isinstance(splits.train, RecordedDataset)
    assert set(splits.train.stores) == {"photo", "sound"}


def test_an_augmentation_that_changes_the_shape_is_refused(root: Path):
    crop = {"kind": "torchvision", "transform": "CenterCrop", "size": 5}
    with pytest.raises(ValueError, match=r"columns\.photo\.augment turns an input of \(3, 32, 32\) into \(3, 5, 5\)"):
        ManifestSpec.model_validate({"root": root, "columns": {"photo": {"augment": [crop]}}}).build()


def test_a_failing_transform_names_row_and_file(root: Path):
    normal = {"kind": "torchvision", "transform": "Normalize", "mean": [0.5], "std": [0.5]}
    with pytest.raises(ValueError, match=r"row 2, photo '.*0\.png': torchvision's Normalize cannot transform Image"):
        ManifestSpec.model_validate({"root": root, "columns": {"photo": {"cached": [normal]}}}).build()


def test_stages_are_given_on_a_command_line_and_in_a_file(tmp_path: Path):
    from scmrl.config.experiment import Experiment
    from scmrl.config.overlay.merge import load

    fields: list[dict[str, Any]] = [
        {"kind": "torchvision", "transform": "RandomErasing", "p": 0.5, "scale": [0.02, 0.1]}
    ]
    options = ["--data.kind", "manifest", "--data.root", str(tmp_path)]
    typed = load(Experiment, [*options, "--data.columns.photo.augment", json.dumps(fields)])
    data = {"kind": "manifest", "root": str(tmp_path), "columns": {"photo": {"augment": fields}}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"data": data}))
    written = load(Experiment, [], files=[tmp_path / "e.yaml"])
    assert isinstance(typed.data, ManifestSpec)
    assert typed.data == written.data
    assert typed.data.columns["photo"].augment == (stage(**fields[0]),)
    fields[0]["scal"] = 1
    with pytest.raises(ValueError, match=r"photo.augment.*no argument 'scal'; did you mean scale\?"):
        load(Experiment, [*options, "--data.columns.photo.augment", json.dumps(fields)])


def test_stages_are_read_from_json_text():
    text = '[{"kind": "torchvision", "transform": "RandomErasing", "p": 0.5, "scale": [0.02, 0.1]}]'
    expected = (stage("torchvision", "RandomErasing", p=0.5, scale=[0.02, 0.1]),)
    assert Spec.model_validate({"stages": text}).stages == expected
    assert Spec.model_validate({"stages": text.split(",")}).stages == expected
    with pytest.raises(ValidationError, match="stages must be JSON, such as"):
        Spec.model_validate({"stages": "RandomErasing"})
