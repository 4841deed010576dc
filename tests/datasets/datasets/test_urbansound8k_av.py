"""UrbanSound8K-AV: splits by recording, by fold and as published; sounds of any rate."""

from collections import defaultdict
from pathlib import Path

import pytest
import torch

from datasets.ids import ids_of
from datasets.writers.urbansound8k_av import CLASSES, RECORDINGS, SLICES, write_urbansound8k_av
from datasets.writers.wav import write_wav
from snn_datasets import DATASETS, DatasetSplits
from snn_datasets.datasets.urbansound8k_av import UrbanSound8KAVSpec

SPLITS = ("train", "val", "test")
TOTAL = len(CLASSES) * RECORDINGS * SLICES


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("urbansound8k-av")
    write_urbansound8k_av(root)
    return root


def build(root: Path, **fields: object) -> DatasetSplits:
    return UrbanSound8KAVSpec.model_validate({"root": root, "cache": "off", "size": 32, **fields}).build()


def stems(splits: DatasetSplits) -> dict[str, list[str]]:
    return {split: list(getattr(splits, split).ids) for split in SPLITS}


def recordings(splits: DatasetSplits) -> dict[str, set[str]]:
    return {split: {id_.split("/")[1].split("-")[0] for id_ in ids} for split, ids in stems(splits).items()}


def refuse_common(groups: dict[str, set[str]]) -> None:
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["test"]
    assert not groups["val"] & groups["test"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_recording_is_in_two_splits(root: Path, seed: int):
    splits = build(root, seed=seed, val_fraction=0.2)
    refuse_common(recordings(splits))
    assert sum(map(len, stems(splits).values())) == TOTAL
    assert splits.info.notes == ()


def test_the_folds_protocol_uses_the_official_folds(tmp_path: Path):
    folds = write_urbansound8k_av(tmp_path)
    splits = build(tmp_path, protocol="folds", test_fold=7)
    expected: defaultdict[str, list[str]] = defaultdict(list)
    for (class_, stem), fold in sorted(folds.items()):
        expected[{7: "test", 6: "val"}.get(fold, "train")].append(f"{class_}/{stem}")
    assert stems(splits) == expected
    refuse_common(recordings(splits))
    ten = build(tmp_path, protocol="folds", test_fold=1, modalities="audio")
    assert {folds[class_, stem] for class_, stem in (id_.split("/") for id_ in ids_of(ten.val))} == {10}


def test_the_published_split_cuts_each_class_by_name(root: Path):
    splits = build(root, protocol="published", val_fraction=0)
    by_split = stems(splits)
    for class_ in CLASSES:
        of_class = {split: [id_ for id_ in ids if id_.startswith(f"{class_}/")] for split, ids in by_split.items()}
        assert len(of_class["train"]) == int(0.7 * RECORDINGS * SLICES)
        assert max(of_class["train"]) < min(of_class["test"])
    assert by_split["val"] == by_split["test"]
    # 16 of 24 slices a class: the sixth recording is cut after its first slice.
    assert len(recordings(splits)["train"] & recordings(splits)["test"]) == len(CLASSES)
    assert "6 of 24 test clips are slices of a recording that is also in training" in splits.info.notes[0]
    assert "Validation is the test split" in splits.info.notes[1]


def test_validation_is_taken_from_the_published_training_clips(root: Path):
    whole, carved = (stems(build(root, protocol="published", val_fraction=share)) for share in (0, 0.25))
    assert carved["test"] == whole["test"]
    assert sorted(carved["train"] + carved["val"]) == sorted(whole["train"])
    assert len(carved["val"]) == round(0.25 * len(whole["train"]))


def test_sounds_of_any_rate_and_channels_get_one_format(root: Path):
    splits = build(root)
    for split in SPLITS:
        for sample in getattr(splits, split):
            assert sample.inputs["audio"].shape == (1, 32, 32)
            assert sample.inputs["visual"].shape == (3, 32, 32)
            assert splits.info.classes[sample.label] == sample.id.split("/")[0]
            # A tone of 200 Hz times the class number, of 11,025 Hz in 32 rows.
            hertz = 200 * CLASSES[sample.id.split("/")[0]]
            loudest = float(sample.inputs["audio"][0].mean(1).argmax())
            assert loudest == pytest.approx(hertz / 11_025 * 32 - 0.5, abs=1)


def test_training_images_get_random_crops_and_test_images_do_not(root: Path):
    splits = build(root, modalities="visual")
    assert torch.equal(splits.test[0, 0].inputs["visual"], splits.test[5, 0].inputs["visual"])
    assert splits.info.modalities["visual"].time_steps is None


def test_the_card_is_found_by_name():
    assert len(DATASETS["urbansound8k-av"].card.classes) == 10


def test_a_missing_dataset_says_what_to_fetch(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"no Dataset_v3_sound/\*/\*\.wav under .*Kaggle.*\n.*Dataset_v3_vision"
    ):
        build(tmp_path)
    write_urbansound8k_av(tmp_path, table=False)
    with pytest.raises(FileNotFoundError, match=r"UrbanSound8K\.csv with the official folds.*grouped"):
        build(tmp_path, protocol="folds")


def test_a_malformed_table_is_refused(tmp_path: Path):
    write_urbansound8k_av(tmp_path)
    table = tmp_path / "metadata" / "UrbanSound8K.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no row for 8259-8-0-2\.wav of class siren"):
        build(tmp_path, protocol="folds")
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not UrbanSound8K's table"):
        build(tmp_path, protocol="folds")


def test_unknown_files_are_named(tmp_path: Path):
    write_urbansound8k_av(tmp_path)
    (tmp_path / "Dataset_v3_sound" / "siren" / "mine.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match="'mine' does not contain its source recording"):
        build(tmp_path)
    assert len(build(tmp_path, protocol="published", modalities="audio").train)
    (tmp_path / "Dataset_v3_sound" / "cats").mkdir()
    (tmp_path / "Dataset_v3_sound" / "cats" / "1-1-0-0.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match="is not one of the classes"):
        build(tmp_path, protocol="published", modalities="audio")


def test_fractions_that_leave_no_training_data_are_refused(root: Path):
    with pytest.raises(ValueError, match="both must be above 0, and their sum below 1"):
        build(root, val_fraction=0)
    with pytest.raises(ValueError, match=r"the split '(val|test)' has no samples"):
        build(root, val_fraction=1e-9, test_fraction=1e-9)


@pytest.mark.parametrize("rate", [11_024, 22_051, 44_056])
def test_rates_a_little_off_a_round_one_are_read(tmp_path: Path, rate: int):
    write_urbansound8k_av(tmp_path)
    path = sorted((tmp_path / "Dataset_v3_sound" / "siren").glob("*.wav"))[0]
    write_wav(path, hertz=1_600, rate=rate, seconds=0.6)
    near = round(rate / 11_025) * 11_025
    spectra: list[torch.Tensor] = []
    for written in (rate, near):
        write_wav(path, hertz=1_600, rate=written, seconds=0.6)
        splits = build(tmp_path, modalities="audio")
        (sample,) = [
            sample
            for split in ("train", "val", "test")
            for index, id_ in enumerate(getattr(splits, split).ids)
            if id_ == f"siren/{path.stem}"
            for sample in [getattr(splits, split)[index]]
        ]
        spectra.append(sample.inputs["audio"])
    assert spectra[0].shape == spectra[1].shape
    # The same tone, but for the last of its rate's digits.
    loud = spectra[1] > spectra[1].max() - 4
    torch.testing.assert_close(spectra[0][loud], spectra[1][loud], atol=0.3, rtol=0)
