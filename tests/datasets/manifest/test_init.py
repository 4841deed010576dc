import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from snn_datasets import ManifestSpec
from snn_datasets.manifest.init import Guess, init_manifest


def put(root: Path, *names: str) -> None:
    """Files that can be read, by their names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".png" | ".jpg":
                Image.new("L", (6, 5), len(name)).save(path)
            case ".wav":
                soundfile.write(path, np.sin(np.arange(400) / 3), 8000)
            case _:
                path.write_text("time,a\n0,1\n1,2\n")


def rows(guess: Guess) -> list[dict[str, str]]:
    with guess.manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def build(root: Path) -> Any:
    return ManifestSpec(root=root, size=8, mel_bands=8, cache="off").build()


def test_folders_of_splits_and_labels(tmp_path: Path):
    put(
        tmp_path,
        *(f"{split}/{label}/{n}.jpg" for split in ("train", "test") for label in ("cat", "dog") for n in "123"),
    )
    guess = init_manifest(tmp_path)
    assert guess.layout == "split / label / file"
    assert guess.splits == {"train": 6, "test": 6}
    assert guess.labels == {"cat": 6, "dog": 6}
    assert guess.columns == {"image": "image"}
    assert guess.skipped == {}
    assert rows(guess)[0] == {"sample_id": "test/cat/1", "split": "test", "label": "cat", "image": "test/cat/1.jpg"}
    splits = build(tmp_path)
    assert len(splits.test) == 6
    assert len(splits.train) + len(splits.val) == 6


@pytest.mark.parametrize(
    ("name", "split"), [("Training", "train"), ("valid", "val"), ("testing", "test"), ("dev", "val")]
)
def test_folders_of_splits_go_by_several_names(tmp_path: Path, name: str, split: str):
    other = "test" if split == "train" else "train"
    put(tmp_path, f"{name}/a/1.png", f"{name}/b/1.png", f"{other}/a/1.png", f"{other}/b/1.png")
    assert {row["image"].partition("/")[0]: row["split"] for row in rows(init_manifest(tmp_path))}[name] == split


def test_folders_of_labels_alone_get_a_test_split_of_every_class(tmp_path: Path):
    put(tmp_path, *(f"{label}/{label}{n}.jpg" for label in ("cat", "dog") for n in range(10)))
    guess = init_manifest(tmp_path)
    assert guess.layout == "label / file"
    assert guess.splits == {"train": 16, "test": 4}
    test = [row["label"] for row in rows(guess) if row["split"] == "test"]
    assert sorted(test) == ["cat", "cat", "dog", "dog"]
    assert "20%" in guess.notes[0]
    assert len(build(tmp_path).test) == 4


def test_the_test_split_depends_on_names_only(tmp_path: Path):
    names = [f"{label}/{label}{n}.jpg" for label in ("cat", "dog") for n in range(10)]
    put(tmp_path / "one", *names)
    put(tmp_path / "other", *names[::-1])
    one, other = (init_manifest(tmp_path / folder) for folder in ("one", "other"))
    assert one.manifest.read_text() == other.manifest.read_text()


@pytest.mark.parametrize("order", ["{modality}/{label}/{n}", "{label}/{modality}/{n}"])
def test_folders_of_modalities_are_matched_by_file_name(tmp_path: Path, order: str):
    for label in ("cat", "dog"):
        for n in range(5):
            put(tmp_path, order.format(modality="images", label=label, n=f"{n}.jpg"))
            if (label, n) != ("dog", 4):
                put(tmp_path, order.format(modality="sounds", label=label, n=f"{n}.wav"))
    guess = init_manifest(tmp_path)
    assert guess.columns == {"images": "image", "sounds": "waveform"}
    assert guess.files == {"images": 10, "sounds": 9}
    assert guess.samples == 10
    written = {row["sample_id"]: row for row in rows(guess)}
    assert written["dog/4"]["sounds"] == ""
    assert written["cat/2"]["label"] == "cat"
    assert written["cat/2"]["sounds"] == order.format(modality="sounds", label="cat", n="2.wav")
    assert "sounds   9 waveform files, missing in 1 sample" in str(guess)
    assert sum(len(part) for part in (build(tmp_path).train, build(tmp_path).val, build(tmp_path).test)) == 10


def test_modalities_are_recognized_by_kind_without_telling_names(tmp_path: Path):
    put(tmp_path, *(f"left/{label}/{n}.png" for label in "ab" for n in range(3)))
    put(tmp_path, *(f"right/{label}/{n}.wav" for label in "ab" for n in range(3)))
    guess = init_manifest(tmp_path)
    assert guess.columns == {"left": "image", "right": "waveform"}
    assert guess.labels == {"a": 3, "b": 3}


def test_two_modalities_of_one_kind_are_recognized_by_name(tmp_path: Path):
    put(
        tmp_path,
        *(f"train/{modality}/{label}/{n}.png" for modality in ("rgb", "depth") for label in "ab" for n in range(3)),
    )
    put(
        tmp_path,
        *(f"test/{modality}/{label}/{n}.png" for modality in ("rgb", "depth") for label in "ab" for n in range(3)),
    )
    guess = init_manifest(tmp_path)
    assert guess.layout == "split / modality / label / file"
    assert guess.columns == {"depth": "image", "rgb": "image"}
    assert guess.samples == 12


def test_classes_with_the_same_file_numbers_are_not_modalities(tmp_path: Path):
    put(tmp_path, *(f"{label}/{n}.jpg" for label in ("cat", "dog", "cow") for n in range(4)))
    guess = init_manifest(tmp_path)
    assert guess.labels == {"cat": 4, "cow": 4, "dog": 4}
    assert guess.samples == 12


def test_flat_files_are_matched_by_stem_and_labeled_by_name(tmp_path: Path):
    put(
        tmp_path,
        *(f"{label}_{n:02}{end}" for label in ("air horn", "bell") for n in range(5) for end in (".png", ".wav")),
    )
    put(tmp_path, "list.csv", "readme.txt")
    guess = init_manifest(tmp_path)
    assert guess.layout == "label and number"
    assert guess.labels == {"air horn": 5, "bell": 5}
    assert guess.columns == {"audio": "waveform", "image": "image"}
    assert guess.skipped == {
        ".txt files are of no known kind": ("readme.txt",),
        "no image file shares a name with a file of their kind": ("list.csv",),
    }
    assert {"split", "label", "sample_id", "audio", "image"} == rows(guess)[0].keys()
    assert build(tmp_path).info.classes == ("air horn", "bell")


@pytest.mark.parametrize("people", ["subject{}", "S{}", "speaker_{}"])
def test_people_are_groups_and_stay_in_one_split(tmp_path: Path, people: str):
    put(tmp_path, *(f"{people.format(p)}/{label}/{n}.wav" for p in range(5) for label in "abcdefg" for n in "12"))
    guess = init_manifest(tmp_path)
    assert guess.layout == "group / label / file"
    assert len(guess.labels) == 7
    of_group = {(row["group"], row["split"]) for row in rows(guess)}
    assert len(of_group) == 5
    assert guess.splits == {"train": 56, "test": 14}
    assert build(tmp_path).info.notes == ()


def test_people_may_name_their_files_after_classes(tmp_path: Path):
    put(tmp_path, *(f"actor{p:02}/{label}_{n}.wav" for p in range(5) for label in ("happy", "sad") for n in range(2)))
    guess = init_manifest(tmp_path)
    assert guess.layout == "group / label and number"
    assert guess.labels == {"happy": 10, "sad": 10}
    assert len({row["group"] for row in rows(guess)}) == 5
    assert len({row["group"] for row in rows(guess) if row["split"] == "test"}) == 1


def test_the_level_with_fewer_names_is_the_label_with_a_note(tmp_path: Path):
    put(
        tmp_path, *(f"{day}/{label}/{n}.wav" for day in ("mon", "tue", "wed") for label in ("on", "off") for n in "123")
    )
    guess = init_manifest(tmp_path)
    assert guess.labels == {"off": 9, "on": 9}
    assert "'off' (2 names) are used as labels" in guess.notes[0]
    assert "swap" in guess.notes[0]


def test_a_constant_folder_level_is_ignored(tmp_path: Path):
    put(tmp_path, *(f"data/{label}/{n}.png" for label in "ab" for n in range(3)))
    assert init_manifest(tmp_path).layout == "folder / label / file"


def test_what_is_skipped_is_reported_with_the_reason(tmp_path: Path):
    put(tmp_path, *(f"train/{label}/{n}.png" for label in "ab" for n in range(3)))
    put(tmp_path, *(f"test/{label}/{n}.png" for label in "ab" for n in range(3)))
    put(tmp_path, "extra/a/9.png", "train/9.png", "train/a/.hidden.png", "train/a/0.jpg", "train/a/notes.doc")
    (tmp_path / "train" / "a" / "empty.png").touch()
    (tmp_path / "train" / "a" / "lfs.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "test" / "link").symlink_to(tmp_path / "train" / "a")
    (tmp_path / ".git").mkdir()
    guess = init_manifest(tmp_path)
    assert guess.samples == 12
    assert {name: reason for reason, names in guess.skipped.items() for name in names} == {
        "extra/a/9.png": "they are outside the folders of the splits",
        "train/9.png": "their folder depth differs from most",
        "train/a/.hidden.png": "they are hidden",
        ".git/": "they are hidden",
        "test/link/": "they are links to folders",
        "train/a/notes.doc": ".doc files are of no known kind",
        "train/a/empty.png": "each is empty; fetch it again",
        "train/a/lfs.png": "each is a Git-LFS pointer, not the file itself; run `git lfs pull` where it was cloned",
        "train/a/0.png": "another file differs only in its extension",
    }
    assert "skipped  1 because .doc files are of no known kind: train/a/notes.doc" in str(guess)
    assert len(build(tmp_path).test) == 6


def test_links_to_files_elsewhere_are_named_absolutely(tmp_path: Path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    put(root, *(f"{label}/{n}.png" for label in "ab" for n in range(4)))
    put(elsewhere, "x.png")
    (root / "a" / "0.png").unlink()
    (root / "a" / "0.png").symlink_to(elsewhere / "x.png")
    names = [row["image"] for row in rows(init_manifest(root))]
    assert names[:2] == [os.path.abspath(root / "a" / "0.png"), "a/1.png"]
    assert len(build(root).test) == 2


def test_nothing_is_overwritten(tmp_path: Path):
    put(tmp_path, *(f"{label}/{n}.png" for label in "ab" for n in range(3)))
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"manifest\.csv exists and is not overwritten.*another output"):
        init_manifest(tmp_path)
    assert (tmp_path / "manifest.csv").read_text() == "mine"
    with pytest.raises(ValueError, match=r"ends in \.csv"):
        init_manifest(tmp_path, output="second.parquet")
    assert init_manifest(tmp_path, output="lists/second.csv").manifest == tmp_path / "lists" / "second.csv"


def test_names_with_commas_quotes_and_signs_survive(tmp_path: Path):
    put(tmp_path, *(f'{label}/{n}, "ü".png' for label in ("a,b", "c") for n in range(3)))
    guess = init_manifest(tmp_path)
    assert guess.labels == {"a,b": 3, "c": 3}
    assert build(tmp_path).info.classes == ("a,b", "c")


def test_too_few_samples_to_spare_are_all_for_training(tmp_path: Path):
    put(tmp_path, "a/1.png", "b/2.png")
    guess = init_manifest(tmp_path)
    assert guess.splits == {"train": 2}
    assert "mark some rows test" in guess.notes[0]


def test_a_class_that_is_never_trained_is_noted(tmp_path: Path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png")
    (note,) = init_manifest(tmp_path).notes
    assert note.startswith("the label 'c' has no training sample")


def test_splits_without_test_are_noted(tmp_path: Path):
    put(tmp_path, *(f"{split}/{label}/1.png" for split in ("train", "val") for label in "ab"))
    assert "there is no test folder" in init_manifest(tmp_path).notes[0]


@pytest.mark.parametrize(
    "names",
    [
        [f"{digit}_{speaker}_{n}.wav" for digit in range(3) for speaker in ("ann", "bob") for n in range(3)],
        [f"IMG{n}.png" for n in range(5)],
        ["only/1.png", "only/2.png"],
        [f"{split}/{split[:2]}{n}.png" for split in ("train", "test") for n in range(3)],
        ["cat1.png", "cat2.png", "dog1.png"],
    ],
)
def test_labels_that_cannot_be_inferred_are_an_error(tmp_path: Path, names: list[str]):
    put(tmp_path, *names)
    with pytest.raises(ValueError, match=r"cannot infer labels.*one folder per class"):
        init_manifest(tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_a_folder_without_known_files_is_an_error(tmp_path: Path):
    (tmp_path / "a.xyz").touch()
    with pytest.raises(ValueError, match=r"no file of a known kind in .*\.png"):
        init_manifest(tmp_path)
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        init_manifest(tmp_path / "nowhere")


def test_the_summary_lists_the_guesses(tmp_path: Path):
    put(tmp_path, *(f"{split}/{label}/{n}.png" for split in ("train", "test") for label in "ab" for n in range(3)))
    assert str(init_manifest(tmp_path)).splitlines() == [
        f"{tmp_path / 'manifest.csv'}: 12 samples of 2 classes",
        "  layout   split / label / file",
        "  split    train 6, test 6",
        "  label    a 6, b 6",
        "  image    12 image files",
    ]


@pytest.mark.parametrize(
    ("modalities", "columns"),
    [
        (("my images", "my sounds"), {"my_images", "my_sounds"}),
        (("2 images", "3 sounds"), {"image_2_images", "audio_3_sounds"}),
        (("фото", "звук"), {"image", "audio"}),
    ],
)
def test_columns_have_names_that_a_modality_may_have(tmp_path: Path, modalities: tuple[str, str], columns: set[str]):
    for label in ("cat", "dog"):
        for n in range(5):
            put(tmp_path, f"{modalities[0]}/{label}/{n}.jpg", f"{modalities[1]}/{label}/{n}.wav")
    guess = init_manifest(tmp_path)
    assert set(guess.columns) == columns
    assert guess.samples == 10
    assert set(build(tmp_path).info.modalities) == columns
