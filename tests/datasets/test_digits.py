import re
import sys
from collections import Counter
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor

from snn_datasets import DatasetSplits, DigitsSpec, InMemoryDataset
from snn_datasets.digits import MODALITIES, SYNTHETIC, Events, Noise, hear, see
from snn_datasets.specs import DIGITS_MODALITIES
from snn_datasets.speech import Speaker

SPLITS = ("train", "val", "test")
SILENT = Noise(image_noise=0.0, image_occlusion=0, audio_snr=100.0)


def split(splits: DatasetSplits, name: str) -> InMemoryDataset:
    dataset = getattr(splits, name)
    assert isinstance(dataset, InMemoryDataset)
    return dataset


def parts(dataset: InMemoryDataset, what: str) -> list[str]:
    pattern = re.compile(rf".*{what}(\d+)")
    return [cast(Any, pattern.match(id_)).group(1) for id_ in dataset.ids]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> DatasetSplits:
    return DigitsSpec().build()


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


def test_a_sample_is_what_the_description_says(digits: DatasetSplits):
    assert digits.info.name == "digits"
    assert digits.info.classes == tuple("0123456789")
    assert digits.info.shapes == {"audio": (1, 16, 16), "visual": (1, 16, 16)}
    assert digits.info.synthetic == ("audio",)
    for name in SPLITS:
        sample = split(digits, name)[3]
        assert sample.id.startswith(f"{name}-0003-image")
        assert {modality: tuple(value.shape) for modality, value in sample.inputs.items()} == digits.info.shapes
        for values in split(digits, name).inputs.values():
            assert values.dtype == torch.float32
            assert values.isfinite().all()


def test_each_clip_is_standardised(digits: DatasetSplits):
    audio = split(digits, "train").inputs["audio"]
    torch.testing.assert_close(audio.mean((1, 2, 3)), torch.zeros(1097), atol=1e-4, rtol=0)
    torch.testing.assert_close(audio.var((1, 2, 3), correction=0), torch.ones(1097), atol=1e-3, rtol=0)


def test_the_same_seed_gives_identical_samples_in_any_order_of_modalities(digits: DatasetSplits):
    again = DigitsSpec(modalities=("visual", "audio")).build()
    assert list(again.train[0].inputs) == ["visual", "audio"]
    for name in SPLITS:
        mine, same = split(digits, name), split(again, name)
        assert mine.ids == same.ids
        for modality, values in mine.inputs.items():
            assert torch.equal(values, same.inputs[modality])


@pytest.mark.parametrize("modality", DIGITS_MODALITIES)
def test_another_seed_changes_everything_but_the_images_of_a_split(digits: DatasetSplits, modality: str):
    other = DigitsSpec(seed=1, modalities=(modality,)).build()
    for name in SPLITS:
        mine, changed = split(digits, name), split(other, name)
        assert parts(mine, "image") == parts(changed, "image")
        assert parts(mine, "speaker") != parts(changed, "speaker")
        assert (mine.inputs[modality] != changed.inputs[modality]).float().mean() > 0.99


def test_a_sense_does_not_depend_on_the_other(digits: DatasetSplits):
    alone = DigitsSpec(modalities=("visual",)).build()
    assert list(alone.info.shapes) == list(alone.train[0].inputs) == ["visual"]
    assert alone.info.synthetic == ()
    assert split(alone, "test").ids == split(digits, "test").ids
    assert torch.equal(split(alone, "test").inputs["visual"], split(digits, "test").inputs["visual"])


def test_preparation_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: list[int] = []
    try:
        DigitsSpec(modalities=("visual",)).build(progress=lambda done, total: seen.append(torch.get_num_threads()))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_progress_counts_every_sample():
    calls: list[tuple[int, int]] = []
    DigitsSpec(modalities=("visual",)).build(progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (1797, 1797)
    assert len(calls) > 10
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_pixel_noise_has_the_standard_deviation_asked_for():
    ink = torch.rand(400, 8, 8, generator=seeded())
    events = Events(ink, [0] * 400, [Speaker()] * 400)
    clean, noisy = see(events, SILENT, seeded()), see(events, Noise(0.6, 0, 0.0), seeded())
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert (noisy - clean).std().item() == pytest.approx(0.6, rel=0.01)


def test_an_occlusion_blanks_one_square_of_each_image():
    events = Events(torch.ones(50, 8, 8), [0] * 50, [Speaker()] * 50)
    covered = see(events, Noise(0.0, 5, 0.0), seeded()) == 0
    assert covered.sum((1, 2, 3)).tolist() == [25] * 50
    assert set(covered.any(2).sum((1, 2)).tolist()) == {5}
    assert set(covered.any(3).sum((1, 2)).tolist()) == {5}
    assert len({tuple(rows) for rows in covered.any(3)[:, 0].tolist()}) > 5
    everything = see(events, Noise(0.0, 16, 0.0), seeded())
    assert everything.count_nonzero() == 0


def spectrograms(digit: int, snr: float) -> Tensor:
    events = Events(torch.zeros(60, 8, 8), [digit] * 60, [Speaker()] * 60)
    return hear(events, Noise(0.0, 0, snr), seeded())[:, 0].mean(0)


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


def test_each_sense_alone_is_moderate_and_both_together_are_better(digits: DatasetSplits):
    train, test = split(digits, "train"), split(digits, "test")

    def accuracy(*modalities: str) -> float:
        """Ridge regression on raw inputs, in percent of the 500 test samples."""
        x, z = (torch.cat([d.inputs[m].flatten(1) for m in modalities], 1).double() for d in (train, test))
        mean, std = x.mean(0), x.std(0)
        x, z = (x - mean) / std, (z - mean) / std
        targets = torch.eye(10, dtype=torch.float64)[list(train.labels)] - 0.1
        weights = torch.linalg.solve(x.mT @ x + 300 * torch.eye(x.shape[1]), x.mT @ targets)
        return 100 * ((z @ weights).argmax(1) == torch.tensor(test.labels)).double().mean().item()

    audio, visual, both = accuracy("audio"), accuracy("visual"), accuracy("audio", "visual")
    assert 60 <= audio <= 88
    assert 60 <= visual <= 88
    assert both >= max(audio, visual) + 6


def test_every_modality_a_spec_knows_can_be_built():
    assert set(MODALITIES) == set(DIGITS_MODALITIES)
    assert set(SYNTHETIC) <= set(MODALITIES)


def test_a_missing_scikit_learn_is_answered_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape('pip install "snn-datasets[digits]"')):
        DigitsSpec().build()
