import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from snn_datasets import DatasetSplits, DigitsSpec, InMemoryDataset, collate
from snn_datasets.cache.folder import entries
from snn_datasets.digits.build import AudioSimulator, Digits, ImageSimulator, Simulator
from snn_datasets.digits.speech import Speaker

SPLITS = ("train", "val", "test")
ALL = ("audio", "visual", "touch")


def split(splits: DatasetSplits, name: str) -> InMemoryDataset:
    dataset = getattr(splits, name)
    assert isinstance(dataset, InMemoryDataset)
    return dataset


def parts(dataset: InMemoryDataset, what: str) -> list[str]:
    pattern = re.compile(rf".*{what}(\d+)")
    return [cast(Any, pattern.match(id_)).group(1) for id_ in dataset.ids]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_DATASETS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def digits(cache: Path) -> DatasetSplits:
    return DigitsSpec(modalities=ALL).build()


def same_inputs(one: DatasetSplits, other: DatasetSplits, modality: str) -> bool:
    return all(
        torch.equal(split(one, name).inputs[modality], split(other, name).inputs[modality])
        and split(one, name).ids == split(other, name).ids
        and split(one, name).labels == split(other, name).labels
        for name in SPLITS
    )


def test_splits_have_their_published_sizes_and_are_balanced(digits: DatasetSplits):
    assert [len(split(digits, name)) for name in SPLITS] == [1097, 200, 500]
    assert set(Counter(split(digits, "val").labels).values()) == {20}
    assert set(Counter(split(digits, "test").labels).values()) == {50}
    counts = Counter(split(digits, "train").labels)
    assert sorted(counts) == list(range(10))
    assert max(counts.values()) - min(counts.values()) < 12


def test_no_image_is_in_two_splits(digits: DatasetSplits):
    indices = [index for name in SPLITS for index in parts(split(digits, name), "image")]
    assert sorted(map(int, indices)) == list(range(1797))


def test_no_handwriting_is_repeated_in_another_split():
    clean = DigitsSpec(modalities=("visual",), image_noise=0.0).build()
    pictures = [{picture.numpy().tobytes() for picture in split(clean, name).inputs["visual"]} for name in SPLITS]
    assert len(pictures[0]) > 1000
    assert not pictures[0] & pictures[1] | pictures[0] & pictures[2] | pictures[1] & pictures[2]


def test_no_speaker_is_in_two_splits(digits: DatasetSplits):
    speakers = [set(parts(split(digits, name), "speaker")) for name in SPLITS]
    assert [len(names) for names in speakers] == [60, 12, 24]
    assert len(set.union(*speakers)) == 60 + 12 + 24


def test_labels_are_those_of_the_images_named_in_the_ids(digits: DatasetSplits):
    from sklearn.datasets import load_digits

    target = cast(Any, load_digits()).target
    for name in SPLITS:
        dataset = split(digits, name)
        assert [target[int(index)] for index in parts(dataset, "image")] == list(dataset.labels)


def test_a_sample_matches_the_description(digits: DatasetSplits):
    assert digits.info.name == "digits"
    assert digits.info.classes == DigitsSpec.card.classes == tuple("0123456789")
    assert digits.info.shapes == {"audio": (1, 16, 16), "visual": (1, 16, 16), "touch": (2, 10, 10)}
    assert {name: modality.time_steps for name, modality in digits.info.modalities.items()} == {
        "audio": None,
        "visual": None,
        "touch": 4,
    }
    assert digits.info.synthetic == ("audio", "touch")
    for name in SPLITS:
        sample = split(digits, name)[3]
        assert sample.id.startswith(f"{name}-0003-image")
        assert sample.timed == {"touch"}
        assert {modality: tuple(value.shape) for modality, value in sample.inputs.items()} == {
            "audio": (1, 16, 16),
            "visual": (1, 16, 16),
            "touch": (4, 2, 10, 10),
        }
        for values in split(digits, name).inputs.values():
            assert values.dtype == torch.float32
            assert values.isfinite().all()


def test_the_card_describes_each_modality(digits: DatasetSplits):
    card = DigitsSpec.card
    assert tuple(card.modalities) == ALL
    for name, modality in digits.info.modalities.items():
        described = card.modalities[name]
        assert (described.kind, described.synthetic, described.unit) == (
            modality.kind,
            modality.synthetic,
            modality.unit,
        )
        lead = "T, " if modality.time_steps else ""
        assert described.shape == f"[{lead}{', '.join(map(str, modality.shape))}]"


def test_touch_is_selected_by_name():
    assert DigitsSpec().selected_modalities() == ("audio", "visual")
    assert DigitsSpec(modalities=("touch", "audio")).selected_modalities() == ("touch", "audio")
    with pytest.raises(ValueError, match="digits has no modality 'smell'; choose among audio, visual, touch"):
        DigitsSpec(modalities=("smell",)).selected_modalities()


def test_modalities_with_time_have_it_as_first_axis(digits: DatasetSplits):
    batch = collate([digits.train[index] for index in range(6)])
    assert {name: tuple(values.shape) for name, values in batch["inputs"].items()} == {
        "audio": (6, 1, 16, 16),
        "visual": (6, 1, 16, 16),
        "touch": (4, 6, 2, 10, 10),
    }


def test_each_clip_is_standardized(digits: DatasetSplits):
    audio = split(digits, "train").inputs["audio"]
    np.testing.assert_allclose(audio.mean((1, 2, 3)), np.zeros(1097), atol=1e-4)
    np.testing.assert_allclose(audio.var((1, 2, 3), correction=0), np.ones(1097), atol=1e-3)


def test_the_same_seed_gives_identical_samples_in_any_order_of_modalities(digits: DatasetSplits):
    again = DigitsSpec(modalities=("touch", "visual"), cache="off").build()
    assert list(again.train[0].inputs) == ["touch", "visual"]
    assert same_inputs(again, digits, "touch")
    assert same_inputs(again, digits, "visual")
    assert DigitsSpec(modalities=("visual", "audio")).build().info.synthetic == ("audio",)


@pytest.mark.parametrize(
    "simulator", [AudioSimulator(snr=3), ImageSimulator(noise=0.3, occlusion=2)], ids=["audio", "visual"]
)
def test_a_generator_decides_what_is_simulated(simulator: Simulator):
    digits = Digits(torch.rand(9, 8, 8, generator=seeded()), list(range(9)), [Speaker()] * 9)
    assert torch.equal(simulator(digits, seeded(1)), simulator(digits, seeded(1)))
    assert not torch.equal(simulator(digits, seeded(1)), simulator(digits, seeded(2)))


@pytest.mark.slow
@pytest.mark.parametrize("modality", ALL)
def test_another_seed_changes_everything_but_the_images_of_a_split(digits: DatasetSplits, modality: str):
    other = DigitsSpec(seed=1, modalities=(modality,)).build()
    for name in SPLITS:
        mine, changed = split(digits, name), split(other, name)
        assert parts(mine, "image") == parts(changed, "image")
        assert parts(mine, "speaker") != parts(changed, "speaker")
        differing = (mine.inputs[modality] != changed.inputs[modality]).flatten(1)
        # Most taxels are never pressed, so their frames are zeros in both.
        assert differing.any(1).all() if modality == "touch" else differing.float().mean() > 0.99


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ("audio", {"audio_snr": 3.0}),
        ("visual", {"image_noise": 0.1, "image_occlusion": 3}),
        ("touch", {"touch_noise": 0.0, "touch_missed": 0.1, "time_steps": 7}),
    ],
)
def test_a_modality_does_not_depend_on_the_noise_of_others(digits: DatasetSplits, changed: str, fields: dict[str, Any]):
    # Audio is slowest to simulate; the fixture cached it under its own noise level.
    harder = DigitsSpec(modalities=("visual", "touch"), cache="off", **fields).build()
    for modality in ("visual", "touch"):
        assert same_inputs(harder, digits, modality) == (modality != changed)
    if changed != "audio":
        assert same_inputs(DigitsSpec(modalities=("audio",), **fields).build(), digits, "audio")


def test_a_modality_alone_is_as_among_others(digits: DatasetSplits):
    alone = DigitsSpec(modalities=("visual",), cache="off").build()
    assert list(alone.info.shapes) == list(alone.train[0].inputs) == ["visual"]
    assert alone.info.synthetic == ()
    assert same_inputs(alone, digits, "visual")


def test_samples_are_made_once_and_then_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = DigitsSpec(modalities=("visual", "touch"), cache_folder=tmp_path)
    built = spec.build()
    assert sorted(entry.modality for entry in entries(tmp_path)) == ["labels", "touch", "visual"]
    # The simulation code is disabled, so the samples come from the cache.
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    cached = spec.build()
    for modality in ("visual", "touch"):
        assert same_inputs(cached, built, modality)
    assert cached.info == built.info
    # Another noise level of one modality recomputes that modality only.
    with pytest.raises(ImportError):
        DigitsSpec(modalities=("visual",), image_noise=0.4, cache_folder=tmp_path).build()
    DigitsSpec(modalities=("touch",), image_noise=0.4, cache_folder=tmp_path).build()
    others: list[dict[str, Any]] = [{"seed": 1}, {"time_steps": 3}, {"touch_noise": 0.1}, {"touch_missed": 0.1}]
    for other in others:
        with pytest.raises(ImportError):
            DigitsSpec(modalities=("touch",), cache_folder=tmp_path, **other).build()


def test_without_a_cache_nothing_is_written(tmp_path: Path):
    DigitsSpec(modalities=("visual",), cache="off", cache_folder=tmp_path).build()
    assert not list(tmp_path.iterdir())


def test_an_unwritable_cache_says_what_to_do(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="choose another cache_folder, or set cache to off"):
        DigitsSpec(modalities=("visual",), cache_folder=tmp_path / "file").build()


def test_preparation_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    threads: list[int] = []
    try:
        spec = DigitsSpec(modalities=("visual",), cache="off")
        spec.build(progress=lambda done, total: threads.append(torch.get_num_threads()))
        assert set(threads) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_progress_counts_every_sample_of_every_modality():
    calls: list[tuple[int, int]] = []
    spec = DigitsSpec(modalities=("visual", "touch"), cache="off")
    spec.build(progress=lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {2 * 1797}
    assert calls[-1][0] == 2 * 1797
    assert len(calls) > 20
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def see(digits: Digits, *, noise: float = 0.0, occlusion: int = 0) -> Tensor:
    return ImageSimulator(noise=noise, occlusion=occlusion)(digits, seeded())


def test_pixel_noise_has_the_standard_deviation_requested():
    ink = torch.rand(400, 8, 8, generator=seeded())
    written = Digits(ink, [0] * 400, [Speaker()] * 400)
    clean, noisy = see(written), see(written, noise=0.6)
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert (noisy - clean).std().item() == pytest.approx(0.6, rel=0.01)


def test_an_occlusion_blanks_one_square_of_each_image():
    written = Digits(torch.ones(50, 8, 8), [0] * 50, [Speaker()] * 50)
    covered = see(written, occlusion=5) == 0
    assert covered.sum((1, 2, 3)).tolist() == [25] * 50
    assert set(covered.any(2).sum((1, 2)).tolist()) == {5}
    assert set(covered.any(3).sum((1, 2)).tolist()) == {5}
    assert len({tuple(rows) for rows in covered.any(3)[:, 0].tolist()}) > 5
    assert see(written, occlusion=16).count_nonzero() == 0


def spectrograms(digit: int, snr: float) -> Tensor:
    spoken = Digits(torch.zeros(60, 8, 8), [digit] * 60, [Speaker()] * 60)
    return AudioSimulator(snr=snr)(spoken, seeded())[:, 0].mean(0)


def test_low_bands_and_early_frames_come_first():
    six, four = spectrograms(6, 100), spectrograms(4, 100)
    # "six" starts with a hiss, "four" ends in a vowel without one; both are over before the window is.
    assert six[12:, 1:3].mean() > six[:4, 1:3].mean()
    assert four[:4, 5:7].mean() > four[12:, 5:7].mean() + 1
    assert six[:, :8].mean() > six[:, 14:].mean() + 1


def test_noise_hides_speech_by_degrees():
    clean = spectrograms(1, 100).flatten()
    likeness = [
        torch.corrcoef(torch.stack([clean, spectrograms(1, snr).flatten()]))[0, 1].item() for snr in (10, 0, -20)
    ]
    assert likeness[0] > likeness[1] > likeness[2]


@pytest.mark.parametrize("seed", [0, 1])
def test_each_modality_alone_is_moderate_and_more_together_are_better(seed: int):
    digits = DigitsSpec(modalities=ALL, seed=seed).build()
    train, test = split(digits, "train"), split(digits, "test")

    def accuracy(*modalities: str) -> float:
        """Ridge regression on raw inputs, in percent of the 500 test samples."""
        x, z = (torch.cat([d.inputs[m].flatten(1) for m in modalities], 1).double() for d in (train, test))
        mean, std = x.mean(0), x.std(0).clamp(min=1e-6)  # of a corner that nobody ever touches, it is 0
        x, z = (x - mean) / std, (z - mean) / std
        targets = torch.eye(10, dtype=torch.float64)[list(train.labels)] - 0.1
        weights = torch.linalg.solve(x.mT @ x + 300 * torch.eye(x.shape[1]), x.mT @ targets)
        return 100 * ((z @ weights).argmax(1) == torch.tensor(test.labels)).double().mean().item()

    alone = {modality: accuracy(modality) for modality in ALL}
    pairs = {pair: accuracy(*pair) for pair in combinations(ALL, 2)}
    assert all(60 <= percent <= 88 for percent in alone.values())
    assert all(percent >= max(alone[name] for name in pair) + 6 for pair, percent in pairs.items())
    assert max(pairs.values()) >= max(alone.values()) + 8
    assert accuracy(*ALL) >= max(pairs.values())


def test_a_missing_scikit_learn_names_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape('pip install "snn-datasets[digits]"')):
        DigitsSpec(cache="off").build()
