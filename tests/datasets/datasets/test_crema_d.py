"""CREMA-D: its splits, the published inputs against another implementation, and its notes."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from PIL import Image
from torchvision.transforms import v2

from datasets.ids import ids_of
from datasets.writers.crema_d import STEMS, Written, write_crema_d
from datasets.writers.flv import write_video
from snn_datasets import DATASETS, DatasetSplits, collate
from snn_datasets.check import check
from snn_datasets.datasets.crema_d import (
    BAD_CLIPS,
    CODES,
    CremaDSpec,
    published_split,
    same_sound,
    seconds_of_clip,
)

SPLITS = ("train", "val", "test")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crema-d")


@pytest.fixture(scope="module")
def written(root: Path) -> Written:
    return write_crema_d(root)


def build(root: Path, **fields: object) -> DatasetSplits:
    return CremaDSpec.model_validate({"root": root, "cache": "off", "size": 32, "columns": 8, **fields}).build()


def ids(splits: DatasetSplits) -> dict[str, list[str]]:
    return {split: [sample.id for sample in getattr(splits, split)] for split in SPLITS}


# What is packaged


def test_the_published_split_is_that_of_the_literature():
    split = published_split()
    counts = {name: Counter(stem.split("_")[2] for stem in split if split[stem] == name) for name in ("train", "test")}
    assert counts["train"] == {"ANG": 1166, "DIS": 1142, "FEA": 1138, "HAP": 1148, "NEU": 973, "SAD": 1131}
    assert counts["test"] == {"ANG": 105, "DIS": 129, "FEA": 133, "HAP": 123, "NEU": 114, "SAD": 140}
    actors = {name: {stem[:4] for stem in split if split[stem] == name} for name in ("train", "test")}
    assert len(actors["train"]) == 91
    assert actors["test"] <= actors["train"]


def test_the_same_sound_under_two_labels_is_known():
    assert same_sound() == (
        ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
        ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
        ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    )
    split = published_split()
    assert [[split[stem] for stem in stems] for stems in same_sound()] == [
        ["train", "train"],
        ["train", "test"],
        ["train", "train"],
    ]


def test_lengths_are_known_from_the_published_sizes():
    # 72,862 bytes are 72,818 of samples, 2.28 seconds of 32,000.
    assert seconds_of_clip("1001_DFA_ANG_XX") == 3
    assert {seconds_of_clip(stem) for stem in published_split()} <= set(range(1, 7))


# By actor


def test_no_actor_is_in_two_splits(root: Path, written: Written):
    split_ids = ids(build(root, modalities="audio"))
    actors = {split: {id_[:4] for id_ in split_ids[split]} for split in SPLITS}
    assert actors == {"train": {"1001", "1004", "1013"}, "val": {"1006"}, "test": {"1011", "1016"}}
    assert sorted(id_ for of_split in split_ids.values() for id_ in of_split) == sorted(written.stems)


def test_labels_are_those_of_the_names(root: Path, written: Written):
    splits = build(root, modalities="audio")
    assert splits.info.classes == CODES
    for split in SPLITS:
        for sample in getattr(splits, split):
            assert CODES[sample.label] == sample.id.split("_")[2]


def test_frames_and_columns_belong_to_the_same_steps(root: Path, written: Written):
    splits = build(root, time_steps=2)
    sample = splits.val[0]
    assert sample.timed == {"audio", "visual"}
    assert sample.inputs["audio"].shape == (2, 1, 32, 8)
    assert sample.inputs["visual"].shape == (2, 3, 32, 32)
    # 30 frames, frame k is 8 * k bright: those in the middle of each half.
    brightness = (sample.inputs["visual"] * STD + MEAN)[:, :, -6:, -6:].mean((1, 2, 3)) * 255 / 8
    assert brightness.round().tolist() == [7, 22]
    batch = collate([splits.train[0], splits.train[1]])
    assert batch["inputs"]["visual"].shape == (2, 2, 3, 32, 32)


def test_training_frames_share_a_crop_that_changes_with_the_epoch(root: Path, written: Written):
    splits = build(root, modalities="visual", time_steps=2)
    first, again, other = (splits.train[epoch, 0].inputs["visual"] for epoch in (0, 0, 1))
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(splits.test[0, 0].inputs["visual"], splits.test[1, 0].inputs["visual"])


# As published


def test_the_published_split_is_kept(root: Path, written: Written):
    split_ids = ids(build(root, protocol="published", modalities="audio", val_fraction=0))
    assert split_ids["test"] == [stem for stem in STEMS if published_split()[stem] == "test"]
    assert split_ids["val"] == split_ids["test"]
    assert sorted(split_ids["train"] + split_ids["test"]) == sorted(STEMS)


def test_validation_is_taken_from_training(root: Path, written: Written):
    split_ids = ids(build(root, protocol="published", modalities="audio", val_fraction=0.3))
    assert split_ids["test"] == [stem for stem in STEMS if published_split()[stem] == "test"]
    assert len(split_ids["val"]) == 3
    assert sorted(id_ for of_split in split_ids.values() for id_ in of_split) == sorted(STEMS)


def test_the_published_spectrogram_is_that_of_the_published_code(tmp_path: Path):
    write_crema_d(tmp_path)
    # Noise: where there is silence, the logarithm shows the rounding of float32.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000)
    for path in (tmp_path / "AudioWAV").iterdir():
        soundfile.write(path, noise, 16_000)
    splits = build(tmp_path, protocol="published", modalities="audio", val_fraction=0, size=128)
    sample = splits.test[0]
    samples, rate = soundfile.read(tmp_path / "AudioWAV" / f"{sample.id}.wav", dtype="float32")
    wave = torchaudio.transforms.Resample(rate, 22_050)(torch.from_numpy(samples)).clamp(-1, 1)
    window = torch.hann_window(512)
    stft = torch.stft(wave, 512, 353, window=window, pad_mode="constant", return_complex=True).abs()
    picture = Image.fromarray(torch.log(stft + 1e-7).numpy(), mode=None)
    expected = np.asarray(picture.resize((128, 128), Image.Resampling.BILINEAR))
    assert picture.mode == "F"
    assert sample.inputs["audio"].shape == (1, 128, 128)
    # From 8 kHz on there is nothing: the rate was 16,000.
    np.testing.assert_allclose(sample.inputs["audio"][0, :90].numpy(), expected[:90], atol=1e-3)


def test_the_published_test_image_equals_that_of_the_published_code(root: Path, written: Written):
    splits = build(root, protocol="published", modalities="visual", val_fraction=0, size=128, frames_from="folder")
    sample = splits.test[0]
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(128)])
    candidates = [
        torch.from_numpy(np.array(transform(Image.open(path)))).permute(2, 0, 1) / 255
        for path in sorted((root / "Image-01-FPS" / sample.id).glob("*.jpg"))
    ]
    image = sample.inputs["visual"] * STD + MEAN
    assert image.shape == (3, 128, 128)
    assert min(float((image - candidate).abs().max()) for candidate in candidates) < 1.5 / 255
    assert sample.timed == frozenset()


def frame_numbers(splits: DatasetSplits, *, step: int) -> dict[str, float]:
    samples = [sample for split in SPLITS for sample in getattr(splits, split)]
    return {
        sample.id: float((sample.inputs["visual"] * STD + MEAN)[:, -4:, -4:].mean() * 255 / step) for sample in samples
    }


def test_a_published_frame_is_the_first_of_a_second_drawn_by_the_seed(root: Path, written: Written):
    fields: dict[str, object] = {"protocol": "published", "modalities": "visual", "val_fraction": 0}
    seen: set[int] = set()
    drawn: list[dict[str, float]] = []
    for seed in (0, 1, 2, 0):
        drawn.append(frame_numbers(build(root, seed=seed, **fields), step=8))
        for stem, number in drawn[-1].items():
            # The videos here are shorter than those of the same names, which end in their last frame.
            second = min(round(number / 15), 2)
            assert number == pytest.approx(min(15 * second, 29), abs=0.6), stem
            seen.add(second)
    assert drawn[0] == drawn[3]
    assert drawn[0] != drawn[1]
    assert seen == {0, 1, 2}


def test_training_crops_of_the_published_inputs_change_with_the_epoch(root: Path, written: Written):
    splits = build(root, protocol="published", val_fraction=0)
    first, other = (splits.train[epoch, 0].inputs for epoch in (0, 1))
    assert not torch.equal(first["visual"], other["visual"])
    assert torch.equal(first["audio"], other["audio"])


# What is said


def test_the_notes_name_the_limits_of_the_dataset(root: Path, written: Written):
    by_actor = " ".join(build(root, modalities="audio").info.notes)
    assert "11 of 7,442 clips are available" in by_actor
    assert "1013_WSI_DIS_XX (train) and 1013_WSI_SAD_XX (train)" in by_actor
    assert "1017" not in by_actor
    published = " ".join(build(root, protocol="published", modalities="audio", val_fraction=0).info.notes)
    assert "every actor of the test clips is also in training" in published
    assert "Validation is the test split" in published
    assert "1013_WSI_DIS_XX (train) and 1013_WSI_SAD_XX (test)" in published
    carved = " ".join(build(root, protocol="published", modalities="audio", val_fraction=0.3).info.notes)
    assert "Validation is 30% of the published training clips" in carved


def test_the_card_is_found_by_name():
    card = DATASETS["crema-d"].card
    assert card.classes == CODES
    assert card.files[0].checksums == "crema-d"


# Former names, and clips that are known to be bad


@pytest.mark.parametrize("protocol", ["actors", "published"])
def test_a_clip_under_its_former_name_is_one_sample(tmp_path: Path, protocol: str):
    write_crema_d(tmp_path, (*STEMS, "1040_ITH_SAD_XX"))
    fields: dict[str, object] = {"protocol": protocol, "val_fraction": 0.3}
    before = build(tmp_path, **fields)
    samples = {split: list(getattr(before, split)) for split in SPLITS}
    names = ids(before)
    sound = tmp_path / "AudioWAV" / "1040_ITH_SAD_XX.wav"
    sound.rename(sound.with_name("1040_ITH_SAD_X.wav"))
    after = build(tmp_path, **fields)
    assert ids(after) == names
    for split in SPLITS:
        for ours, theirs in zip(getattr(after, split), samples[split], strict=True):
            assert not ours.absent
            assert all(torch.equal(ours.inputs[name], theirs.inputs[name]) for name in ours.inputs)
    # Where both are there, they are the same clip.
    sound.write_bytes(sound.with_name("1040_ITH_SAD_X.wav").read_bytes())
    assert ids(build(tmp_path, **fields)) == names


def test_a_former_name_is_not_a_surplus_file(tmp_path: Path):
    write_crema_d(tmp_path, ("1040_ITH_SAD_XX",))
    sound = tmp_path / "AudioWAV" / "1040_ITH_SAD_XX.wav"
    sound.rename(sound.with_name("1040_ITH_SAD_X.wav"))
    spec = CremaDSpec(root=tmp_path, cache="off", modalities=("audio",))
    texts = [str(finding) for finding in check(spec, read="none")]
    assert not any("none of the published ones" in text for text in texts)
    assert any("7,441 published files are missing" in text for text in texts)


def test_other_levels_of_one_letter_are_not_clips(tmp_path: Path):
    write_crema_d(tmp_path, (*STEMS, "1041_ITH_SAD_X"))
    with pytest.raises(ValueError, match=r"1041_ITH_SAD_X\.wav is not a clip of CREMA-D"):
        build(tmp_path, modalities="audio")


def test_bad_clips_are_published_ones_and_are_on_the_card():
    assert set(BAD_CLIPS) <= set(published_split())
    notes = " ".join(CremaDSpec.card.notes)
    assert all(stem in notes and why in notes for stem, why in BAD_CLIPS.items())
    assert "1040_ITH_SAD_X.wav" in notes


def test_bad_clips_are_named_and_can_be_left_out(tmp_path: Path):
    write_crema_d(tmp_path, (*STEMS, *BAD_CLIPS))
    # Silent, as that of 1076_MTI_SAD_XX is.
    soundfile.write(tmp_path / "AudioWAV" / "1076_MTI_SAD_XX.wav", np.zeros(41_000, np.float32), 16_000)
    # Three frames and no sound, as 1076_MTI_NEU_XX has.
    write_video(tmp_path / "VideoFlash" / "1076_MTI_NEU_XX.flv", frames=3, rate=15, height=72, width=96, step=8)
    fields: dict[str, object] = {"protocol": "published", "val_fraction": 0}
    complete = build(tmp_path, **fields)
    samples = [sample for split in ("train", "test") for sample in getattr(complete, split)]
    assert {*BAD_CLIPS} <= {sample.id for sample in samples}
    assert all(bool(x.isfinite().all()) for sample in samples for x in sample.inputs.values())
    assert "Clips known to be bad: 1064_IEO_DIS_MD (train), its video lasts 61 s" in " ".join(complete.info.notes)
    left_out = build(tmp_path, bad_clips="leave_out", **fields)
    assert sorted({*ids(complete)["train"], *ids(complete)["test"]} - {*BAD_CLIPS}) == sorted(
        {*ids(left_out)["train"], *ids(left_out)["test"]}
    )
    assert "are left out: 1064_IEO_DIS_MD, 1064_TIE_SAD_XX" in " ".join(left_out.info.notes)
    by_actor = build(tmp_path)
    assert all(bool(x.isfinite().all()) for x in by_actor.train[0].inputs.values())


def test_videos_without_sound_are_read_as_those_with_it(tmp_path: Path):
    write_crema_d(tmp_path)
    before = list(build(tmp_path, modalities="visual").test)
    for path in (tmp_path / "VideoFlash").iterdir():
        write_video(path, frames=30, rate=15, height=72, width=96, step=8)
    after = build(tmp_path, modalities="visual")
    for ours, theirs in zip(after.test, before, strict=True):
        np.testing.assert_allclose(ours.inputs["visual"].numpy(), theirs.inputs["visual"].numpy(), atol=0.15)


# Mistakes


def test_a_missing_dataset_says_what_to_fetch(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"(?s)no AudioWAV/\*\.wav under .*Git-LFS.*VideoFlash/\*\.flv"):
        build(tmp_path)


def test_a_clip_that_lacks_a_file_stops_or_is_absent(tmp_path: Path):
    write_crema_d(tmp_path)
    (tmp_path / "AudioWAV" / "1016_MTI_HAP_XX.wav").unlink()
    splits = build(tmp_path)
    (index,) = [number for number, id_ in enumerate(ids_of(splits.test)) if id_ == "1016_MTI_HAP_XX"]
    with pytest.raises(FileNotFoundError, match=r"1016_MTI_HAP_XX\.wav"):
        splits.test[index]
    sample = build(tmp_path, on_error="missing").test[index]
    assert sample.absent == {"audio"}
    assert sample.inputs["audio"].count_nonzero() == 0
    assert math.isfinite(float(sample.inputs["visual"].sum()))


def test_a_stray_file_is_named_and_a_hidden_one_is_skipped(tmp_path: Path):
    write_crema_d(tmp_path, STEMS)
    (tmp_path / "AudioWAV" / "._1001_DFA_ANG_XX.wav").write_bytes(b"x")
    assert len(build(tmp_path, modalities="audio").train) == 6
    (tmp_path / "AudioWAV" / "notes.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"notes\.wav is not a clip of CREMA-D"):
        build(tmp_path, modalities="audio")


def test_an_empty_split_is_refused(tmp_path: Path):
    write_crema_d(tmp_path, STEMS[:3])
    with pytest.raises(ValueError, match=r"split 'val' has no samples \(3 train, 0 val, 0 test\)"):
        build(tmp_path, modalities="audio")


def test_settings_that_contradict_each_other_are_refused(root: Path):
    with pytest.raises(ValueError, match="frames_from to video, or protocol to published"):
        build(root, frames_from="folder")
    with pytest.raises(ValueError, match="both must be above 0, and their sum below 1"):
        build(root, val_fraction=0)
    with pytest.raises(ValueError, match="both must be above 0, and their sum below 1"):
        build(root, val_fraction=0.5, test_fraction=0.5)


def test_cached_and_uncached_samples_are_equal(root: Path, written: Written, tmp_path: Path):
    fields: dict[str, object] = {"protocol": "published", "val_fraction": 0}
    plain, cached = build(root, **fields), build(root, cache="auto", cache_folder=tmp_path, **fields)
    for split in SPLITS:
        for ours, theirs in zip(getattr(plain, split), getattr(cached, split), strict=True):
            for name in ours.inputs:
                assert torch.equal(ours.inputs[name], theirs.inputs[name])
