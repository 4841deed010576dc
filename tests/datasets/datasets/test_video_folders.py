"""AVE and Kinetics-Sounds: one video in one split, events cut out, lists as they are published."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.writers.video_folders import AVE_LISTS, KINETICS_ROWS, write_ave, write_kinetics_sounds
from snn_datasets import DATASETS, DatasetSplits, ReadError
from snn_datasets.datasets.video_folders import AveSpec, KineticsSoundsSpec

SPLITS = ("train", "val", "test")
SMALL = {"cache": "off", "size": 16, "mel_bands": 8, "columns": 4}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope="module")
def ave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ave")
    write_ave(root)
    return root


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinetics")
    write_kinetics_sounds(root)
    return root


def build_ave(root: Path, **fields: object) -> DatasetSplits:
    return AveSpec.model_validate({"root": root, **SMALL, **fields}).build()


def build_kinetics(root: Path, **fields: object) -> DatasetSplits:
    return KineticsSoundsSpec.model_validate({"root": root, **SMALL, **fields}).build()


def ids(splits: DatasetSplits) -> dict[str, list[str]]:
    return {split: list(getattr(splits, split).ids) for split in SPLITS}


def frame_numbers(visual: torch.Tensor) -> list[float]:
    """Frame k of the file is 8 * k bright."""
    return ((visual * STD + MEAN)[:, :, -3:, -3:].mean((1, 2, 3)) * 255 / 8).tolist()


def test_a_video_with_several_events_is_in_one_split(ave: Path):
    splits = build_ave(ave)
    assert ids(splits) == {
        "train": ["aaaaaaaaa-1 0-3 s Church bell"],
        "val": ["dddddddddd4 0-2 s Church bell", "eeeeeeeeee5 1-3 s Violin, fiddle"],
        "test": ["ffffffffff6 0-3 s Violin, fiddle", "bbbb_bbbb02 2-3 s Church bell"],
    }
    assert any(note.startswith("1 clips are left out") for note in splits.info.notes)
    videos = {split: {id_.split()[0] for id_ in of_split} for split, of_split in ids(splits).items()}
    assert sum(map(len, videos.values())) == len(set[str]().union(*videos.values()))


def test_classes_are_in_the_order_of_the_alphabet(ave: Path):
    splits = build_ave(ave)
    assert splits.info.classes == ("Church bell", "Violin, fiddle")
    assert [sample.label for sample in splits.val] == [0, 1]


def test_an_event_is_cut_out_of_its_video(ave: Path):
    splits = build_ave(ave, time_steps=4)
    sample = splits.val[1]  # seconds 1 to 3 of 3, at 10 frames a second
    assert sample.inputs["visual"].shape == (4, 3, 16, 16)
    np.testing.assert_allclose(frame_numbers(sample.inputs["visual"]), [12, 17, 22, 27], atol=0.4)
    assert sample.inputs["audio"].shape == (4, 1, 8, 4)
    whole = build_ave(ave, time_steps=2, whole_video=True)
    np.testing.assert_allclose(frame_numbers(whole.val[1].inputs["visual"]), [7, 22], atol=0.4)


def test_events_of_no_length_are_left_out_unless_whole_videos_are_used(ave: Path):
    assert not any("cccccccccc3" in id_ for of_split in ids(build_ave(ave)).values() for id_ in of_split)
    whole = build_ave(ave, whole_video=True)
    assert "cccccccccc3 Male speech" in ids(whole)["train"]
    assert whole.info.classes == ("Church bell", "Male speech", "Violin, fiddle")


def test_videos_that_are_gone_are_counted(tmp_path: Path):
    write_ave(tmp_path)
    (tmp_path / "AVE" / "dddddddddd4.mp4").unlink()
    splits = build_ave(tmp_path)
    assert len(splits.val) == 1
    assert splits.info.classes == ("Church bell", "Violin, fiddle")
    assert "1 of 6 clips of the list have no video." in splits.info.notes


def test_a_malformed_list_is_refused_with_its_line(tmp_path: Path):
    write_ave(tmp_path, AVE_LISTS | {"val": (*AVE_LISTS["val"], "Church bell&dddddddddd4&good&9")})
    with pytest.raises(ValueError, match=r"valSet\.txt, line 3: 'Church bell&dddddddddd4&good&9' is not Category&"):
        build_ave(tmp_path)
    (tmp_path / "valSet.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no valSet\.txt under .*AVE-ECCV18.*\n.*AVE/\*\.mp4"):
        build_ave(tmp_path)


def test_labels_and_splits_are_those_of_the_table(kinetics: Path):
    splits = build_kinetics(kinetics)
    assert ids(splits) == {
        "train": ["aaaaaaaaaa1 bowling", "bbbbbbbb_02 tickling"],
        "val": ["dddddddddd4 bowling"],
        "test": ["eeeeeeeeee5 tickling"],
    }
    assert splits.info.classes == DATASETS["kinetics-sounds"].card.classes
    assert len(splits.info.classes) == 31
    assert [splits.info.classes[sample.label] for sample in splits.train] == ["bowling", "tickling"]
    assert "1 of 5 clips of the list have no video." in splits.info.notes
    assert splits.train[0].inputs["audio"].shape == (4, 1, 8, 4)


def test_a_video_listed_in_two_splits_is_tested(tmp_path: Path):
    write_kinetics_sounds(tmp_path, (*KINETICS_ROWS, "tickling,eeeeeeeeee5,7,17,train", "bowling,aaaaaaaaaa1,0,9,val"))
    split_ids = ids(build_kinetics(tmp_path))
    assert split_ids["train"] == ["bbbbbbbb_02 tickling"]
    assert split_ids["val"] == ["dddddddddd4 bowling", "aaaaaaaaaa1 bowling"]
    assert split_ids["test"] == ["eeeeeeeeee5 tickling"]


def test_a_malformed_table_is_refused(tmp_path: Path):
    write_kinetics_sounds(tmp_path)
    table = tmp_path / "annotations.csv"
    table.write_text("label,youtube_id\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has columns 'label', 'youtube_id'; it needs label, youtube_id and split"):
        build_kinetics(tmp_path)
    table.write_text("label,youtube_id,split\nbowling,aaaaaaaaaa1,trial\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: split 'trial' is not one of"):
        build_kinetics(tmp_path)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotations\.csv under"):
        build_kinetics(tmp_path)


def test_a_damaged_video_stops_or_is_absent(tmp_path: Path):
    write_kinetics_sounds(tmp_path)
    path = next((tmp_path / "videos").rglob("aaaaaaaaaa1.mp4"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"aaaaaaaaaa1\.mp4 cannot be read as a video"):
        build_kinetics(tmp_path).train[0]
    sample = build_kinetics(tmp_path, on_error="missing").train[0]
    assert sample.absent == {"audio", "visual"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe\x00\x01", "is not UTF-8 text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git-LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_lists_that_are_not_text_are_refused_by_name(tmp_path: Path, content: bytes, why: str):
    for write, name, spec in (
        (write_ave, "valSet.txt", AveSpec),
        (write_kinetics_sounds, "annotations.csv", KineticsSoundsSpec),
    ):
        root = tmp_path / name
        write(root)
        (root / name).write_bytes(content)
        with pytest.raises(ReadError, match=rf"{name} {why}"):
            spec(root=root, cache="off").build()


def test_a_table_with_many_columns_gives_a_short_message(tmp_path: Path):
    write_kinetics_sounds(tmp_path)
    (tmp_path / "annotations.csv").write_text(",".join(f"c{n}" for n in range(20_000)) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'c7' and 19,992 more; it needs label") as error:
        KineticsSoundsSpec(root=tmp_path, cache="off").build()
    assert len(str(error.value)) < 1_000
