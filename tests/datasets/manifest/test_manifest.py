import random
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import soundfile
import torch
from PIL import Image
from pyarrow import parquet
from torch import Tensor

from snn_datasets import DatasetSplits, ManifestSpec, ReadError, SampleDataset
from snn_datasets.check import check
from snn_datasets.manifest.near_names import similar_labels
from snn_datasets.manifest.table import MODALITY_NAME, NAMES_OF_MODULES, read_table

SIZE = 12
RATE = 8000
HEADER = "sample_id,split,label,photo,sound"


def write_sound(path: Path, *, hertz: float = 500.0, rate: int = RATE, seconds: float = 0.3, channels: int = 1) -> None:
    time = np.arange(round(rate * seconds)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with four gray images of rising brightness and four tones of rising pitch."""
    for number in range(4):
        Image.new("L", (20, 10), 60 * number).save(tmp_path / f"p{number}.png")
        write_sound(tmp_path / f"s{number}.wav", hertz=400 + 700 * number)
    return tmp_path


ROWS = [
    "a,train,cat,p0.png,s0.wav",
    "b,train,dog,p1.png,s1.wav",
    "c,val,cat,p2.png,s2.wav",
    "d,test,dog,p3.png,s3.wav",
]


def write(root: Path, rows: list[str], *, header: str = HEADER) -> Path:
    manifest = root / "manifest.csv"
    manifest.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return manifest


def build(root: Path, **fields: Any) -> DatasetSplits:
    return ManifestSpec(root=root, size=SIZE, mel_bands=20, **fields).build()


def ids(dataset: SampleDataset) -> list[str]:
    return [sample.id for sample in dataset]


def inputs(dataset: SampleDataset, modality: str) -> Tensor:
    return torch.stack([sample.inputs[modality] for sample in dataset])


def many(root: Path, count: int, **columns: Callable[[int], str]) -> tuple[str, list[str]]:
    """Rows of `count` training samples of two classes and two of test, with further columns."""
    header = ",".join(["sample_id,split,label,photo", *columns])
    rows = [f"n{i},train,{'xy'[i % 2]},p{i % 4}.png" for i in range(count)]
    rows += [f"t{i},test,{'xy'[i]},p{i}.png" for i in range(2)]
    return header, [",".join([row, *(cell(i) for cell in columns.values())]) for i, row in enumerate(rows)]


# What comes out


def test_rows_become_samples_of_their_split(root: Path):
    write(root, ROWS)
    calls: list[tuple[int, int]] = []
    spec = ManifestSpec(root=root, size=SIZE)
    splits = spec.build(progress=lambda done, total: calls.append((done, total)))
    assert [ids(splits.train), ids(splits.val), ids(splits.test)] == [["a", "b"], ["c"], ["d"]]
    assert [sample.label for sample in splits.train] == [0, 1]
    assert splits.info.classes == ("cat", "dog")
    assert splits.info.shapes == {"photo": (1, SIZE, SIZE), "sound": (1, SIZE, SIZE)}
    assert splits.info.synthetic == ()
    assert calls == [*((done, 8) for done in range(1, 9)), (8, 8)]  # two modalities of four samples, and the end
    torch.testing.assert_close(splits.val[0].inputs["photo"], torch.full((1, SIZE, SIZE), 120 / 255))


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "dev"])
def test_validation_goes_by_several_names(root: Path, name: str):
    write(root, [row.replace(",val,", f",{name},") for row in ROWS])
    assert ids(build(root).val) == ["c"]


def test_modalities_choose_columns_and_their_order(root: Path):
    write(root, [f"{row},whatever.xyz" for row in ROWS], header=f"{HEADER},notes")
    assert list(build(root, modalities=("sound", "photo")).train[0].inputs) == ["sound", "photo"]
    assert list(build(root, modalities="photo").train[0].inputs) == ["photo"]


def test_integer_classes_are_sorted_as_numbers(root: Path):
    rows = [f"{i},train,{label},p{i}.png,s{i}.wav" for i, label in enumerate(("10", "9", "-1"))]
    write(root, [*rows, "v,val,9,p3.png,s3.wav", "t,test,10,p3.png,s3.wav"])
    assert build(root).info.classes == ("-1", "9", "10")


def test_without_ids_a_sample_is_named_after_its_files(root: Path):
    write(root, [row.partition(",")[2] for row in ROWS], header="split,label,photo,sound")
    assert ids(build(root, modalities="photo").train) == ["p0.png+s0.wav", "p1.png+s1.wav"]


def test_manifest_may_lie_elsewhere_and_name_files_absolutely(root: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("elsewhere")
    manifest = write(other, [*ROWS[:3], f"d,test,dog,{root / 'p3.png'},s3.wav"])
    assert ids(build(root, manifest=manifest).test) == ["d"]


def test_a_byte_order_mark_and_blank_lines_are_ignored(root: Path):
    text = "\r\n".join([HEADER, ROWS[0], "", *ROWS[1:], ",,,,"])
    (root / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert ids(build(root).train) == ["a", "b"]


# Carving validation out of training


def test_carving_takes_the_fraction_of_every_class(root: Path):
    header, rows = many(root, 40)
    write(root, rows, header=header)
    splits = build(root, val_fraction=0.2)
    assert len(splits.train) == 32
    assert [sample.label for sample in splits.val].count(0) == 4
    assert [sample.label for sample in splits.val].count(1) == 4
    assert not set(ids(splits.train)) & set(ids(splits.val))


def test_carving_depends_on_the_seed_and_not_on_the_order_of_rows(root: Path):
    header, rows = many(root, 40)
    write(root, rows, header=header)
    first, other = set(ids(build(root).val)), set(ids(build(root, seed=1).val))
    write(root, rows[::-1], header=header)
    assert set(ids(build(root).val)) == first
    assert first != other


def test_carving_keeps_groups_whole(root: Path):
    header, rows = many(root, 60, group=lambda i: f"g{i // 6}")
    write(root, rows, header=header)
    splits = build(root, val_fraction=0.2)
    groups = [{int(id_[1:]) // 6 for id_ in ids(part)} for part in (splits.train, splits.val)]
    assert len(groups[0]) == 8
    assert len(groups[1]) == 2
    assert not groups[0] & groups[1]
    write(root, rows[::-1], header=header)
    assert set(ids(build(root, val_fraction=0.2).val)) == set(ids(splits.val))
    assert any(set(ids(build(root, val_fraction=0.2, seed=s).val)) != set(ids(splits.val)) for s in (1, 2, 3))


def test_at_least_one_group_is_carved_even_when_all_are_large(root: Path):
    header, rows = many(root, 12, group=lambda i: "large" if i < 8 else "small")
    write(root, rows, header=header)
    assert ids(build(root, val_fraction=0.05).val) == ["n8", "n9", "n10", "n11"]


def test_one_training_group_is_refused_with_the_remedy(root: Path):
    header, rows = many(root, 6, group=lambda i: "ann" if i < 6 else "bob")
    write(root, rows, header=header)
    with pytest.raises(ValueError, match=r"one group, 'ann'.*mark some rows with split 'val'"):
        build(root)


def test_groups_that_each_hold_a_class_alone_are_refused(root: Path):
    header, rows = many(root, 6, group=lambda i: f"g{i % 2}")
    write(root, rows, header=header)
    with pytest.raises(ValueError, match=r"only one with some class.*split 'val'"):
        build(root)


def test_one_row_a_class_cannot_be_carved(root: Path):
    header, rows = many(root, 2)
    write(root, rows, header=header)
    with pytest.raises(ValueError, match=r"every class has only one; add rows"):
        build(root)


# What is refused


def test_a_missing_manifest_is_named(root: Path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv; write a CSV"):
        build(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("d,test,,p3.png,s3.wav", r"row 5, column 'label', value ''.*empty"),
        (",test,dog,p3.png,s3.wav", r"row 5, column 'sample_id', value ''.*empty"),
        ("d,test,dog,,", r"row 5: every cell of 'photo', 'sound' is empty.*at least one file"),
        ("d,exam,dog,p3.png,s3.wav", r"row 5, column 'split', value 'exam'.*train, val"),
        ("b,test,dog,p3.png,s3.wav", r"row 5, column 'sample_id', value 'b'.*row 3"),
        ("d,test,dog,p3.gif,s3.wav", r"row 5, column 'photo', value 'p3.gif'.*'\.gif'.*\.png.*columns\.photo\.reader"),
        ("d,test,dog,p3,s3.wav", r"row 5, column 'photo', value 'p3'.*unknown extension ''"),
        ("d,test,dog,s3.wav,s3.wav", r"row 5, column 'photo', value 's3.wav'.*waveform file.*image files"),
        ("d,test,dog,../p3.png,s3.wav", r"row 5, column 'photo', value '\.\./p3.png'.*leads out"),
        ("d,test,dog,x/../../p3.png,s3.wav", r"row 5, column 'photo'.*leads out"),
        ("d,test,dog,p3.\0.png,s3.wav", r"row 5, column 'photo'.*zero byte"),
        ("d,test,dog,p3.png", r"row 5: 4 cells, but the header has 5"),
        ("d,test,dog,p3.png,s3.wav,s4.wav", r"row 5: 6 cells.*'s4.wav'.*double quotes"),
        ('d,test,dog,"p3.png,s3.wav', r"row 5: .*double quotes"),
        ("d,test,cow,p3.png,s3.wav", r"row 5, column 'label', value 'cow'.*test.*without training rows"),
    ],
)
def test_a_faulty_row_is_refused_by_position_and_value(root: Path, row: str, message: str):
    write(root, [*ROWS[:3], row])
    with pytest.raises(ValueError, match=rf"(?s)manifest\.csv, {message}"):
        build(root)


def test_a_missing_file_is_refused_by_position_and_value(root: Path):
    write(root, [*ROWS[:3], "d,test,dog,p9.png,s3.wav"])
    with pytest.raises(FileNotFoundError, match=r"row 5, column 'photo', value 'p9.png'.*no file at .*p9.png.*missing"):
        build(root)


def test_a_link_may_not_lead_out_of_the_root(root: Path, tmp_path_factory: pytest.TempPathFactory):
    outside = tmp_path_factory.mktemp("outside")
    Image.new("L", (20, 10)).save(outside / "p.png")
    (root / "file.png").symlink_to(outside / "p.png")
    (root / "folder").symlink_to(outside)
    (root / "inside.png").symlink_to(root / "p3.png")
    for name in ("file.png", "folder/p.png"):
        write(root, [*ROWS[:3], f"d,test,dog,{name},s3.wav"])
        with pytest.raises(ValueError, match=rf"row 5, column 'photo', value '{name}'.*leads out"):
            build(root)
    for name in ("inside.png", str(root / "file.png")):  # an absolute name is meant as it is
        write(root, [*ROWS[:3], f"d,test,dog,{name},s3.wav"])
        assert ids(build(root).test) == ["d"]


def test_the_root_itself_may_be_a_link(root: Path, tmp_path_factory: pytest.TempPathFactory):
    write(root, ROWS)
    link = tmp_path_factory.mktemp("links") / "here"
    link.symlink_to(root)
    assert ids(build(link).test) == ["d"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("sample_id,split,class,photo,sound", "no column 'label'"),
        ("sample_id,split,label,photo,photo", "'photo' occurs 2 times"),
        ("sample_id,split,label,photo,", "column 5 has no name"),
    ],
)
def test_a_faulty_header_is_refused(root: Path, header: str, message: str):
    write(root, ROWS, header=header)
    with pytest.raises(ValueError, match=f"row 1: .*{message}"):
        build(root)


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_other_separators_are_recognized(root: Path, separator: str):
    write(root, ROWS)
    expected = build(root)
    write(root, [row.replace(",", separator) for row in ROWS], header=HEADER.replace(",", separator))
    assert ids(build(root).train) == ids(expected.train)
    assert torch.equal(inputs(build(root).train, "photo"), inputs(expected.train, "photo"))


def test_what_spreadsheets_put_before_the_header_is_ignored(root: Path):
    rows = [row.replace(",", ";") for row in (HEADER, *ROWS)]
    for first in ("sep=;", '"sep=;"', "# written by hand, 2026", "#\n\n# by hand"):
        (root / "manifest.csv").write_text("\n".join([first, *rows]), encoding="utf-16")
        assert ids(build(root).train) == ["a", "b"]
    (root / "manifest.csv").write_text("\n".join(["# by hand", HEADER, *ROWS[:3], "d,exam,dog,p3.png,s3.wav"]))
    with pytest.raises(ValueError, match=r"row 6, column 'split', value 'exam'"):
        build(root)


def test_a_header_in_another_case_is_understood_and_another_name_answered(root: Path):
    write(root, ROWS, header="Sample ID,Split,LABEL,photo,sound")
    assert ids(build(root).train) == ["a", "b"]
    write(root, ROWS, header=HEADER.replace("label", "Class"))
    with pytest.raises(ValueError, match=r"no column 'label' among .*; did you mean 'Class'\? Rename it to 'label'"):
        build(root)
    write(root, [row.replace("train", "Training").replace("test", "testing") for row in ROWS])
    assert ids(build(root).test) == ["d"]
    write(root, [ROWS[0].replace("train", "trian"), *ROWS[1:]])
    with pytest.raises(ValueError, match=r"unknown split, did you mean train\?"):
        build(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git-LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "is a web page.*fetch it again"),
        (b'{"split": "train"}', "is a JSON file, not a table"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel.*save the sheet as CSV"),
    ],
)
def test_a_manifest_that_is_something_else_is_named(root: Path, content: bytes, message: str):
    (root / "manifest.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build(root)


def test_an_excel_workbook_is_named(root: Path):
    with zipfile.ZipFile(root / "manifest.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(
        ValueError, match=r"manifest\.xlsx is an Excel workbook \(\.xlsx\), not a table.*save the sheet"
    ):
        build(root, manifest=Path("manifest.xlsx"))


def test_composed_and_decomposed_labels_are_one_class(root: Path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = [row.replace("cat", composed if number else decomposed) for number, row in enumerate(ROWS)]
    write(root, rows)
    assert build(root).info.classes == (composed, "dog")


def test_classes_that_may_be_one_are_noted(root: Path):
    rows = ["a,train,Cat,p0.png,s0.wav", "b,train,cat,p1.png,s1.wav", "c,val,cat,p2.png,s2.wav",
            "d,test,Cat,p3.png,s3.wav"]  # fmt: skip
    write(root, rows)
    splits = build(root)
    assert splits.info.classes == ("Cat", "cat")
    assert any("'Cat', 'cat' are separate" in note for note in splits.info.notes)
    assert similar_labels(["1", "01", "1.0", "2"])[0].startswith("the classes '01', '1', '1.0' are separate")
    assert similar_labels(["air con", "air_con"])
    assert similar_labels(["1", "-1", "10", "cat", "cats", "ca t2"]) == []


def test_a_file_in_two_splits_is_reported_under_every_spelling(root: Path):
    (root / "sub").mkdir()
    (root / "link.png").symlink_to("p0.png")
    (root / "hard.png").hardlink_to(root / "p0.png")
    for name in ("./sub/../p0.png", "link.png", "hard.png", str(root / "p0.png")):
        write(root, [*ROWS[:3], f"d,test,dog,{name},s3.wav"])
        assert "1 file is in both train and test" in " ".join(build(root).info.notes)
    write(root, ROWS)
    assert build(root).info.notes == ()


def test_rows_without_the_modalities_requested_are_skipped(root: Path):
    write(root, [*ROWS, "e,train,cat,,s0.wav", "f,test,cat,,s1.wav", "g,train,dog,p1.png,"])
    splits = build(root, modalities="photo")
    assert ids(splits.train) == ["a", "b", "g"]
    assert ids(splits.test) == ["d"]
    assert splits.info.notes[0] == "2 of 7 rows have no photo and are skipped"
    assert all(not sample.absent for sample in (*splits.train, *splits.val, *splits.test))
    assert len(build(root).train) == 4


def test_a_table_of_many_columns_is_read_quickly(root: Path):
    names = ",".join(f"c{number}" for number in range(20_000))
    write(root, [row + "," * 20_000 for row in ROWS], header=f"{HEADER},{names}")
    assert len(build(root, modalities="photo").train) == 2
    write(root, [row + "," * 20_000 for row in ROWS], header=f"{HEADER},{names}".replace("label", "labl"))
    with pytest.raises(ValueError, match=r"did you mean 'labl'") as caught:
        build(root)
    assert len(str(caught.value)) < 1000


def test_an_unknown_modality_lists_the_known_ones(root: Path):
    write(root, ROWS)
    with pytest.raises(ValueError, match=r"'smell'.*'photo', 'sound'"):
        build(root, modalities="smell")


def test_a_manifest_without_modality_is_refused(root: Path):
    write(root, ["a,train,cat"], header="sample_id,split,label")
    with pytest.raises(ValueError, match="no modality column"):
        build(root)


def test_a_manifest_without_rows_is_refused(root: Path):
    write(root, [])
    with pytest.raises(ValueError, match="no rows"):
        build(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_refused(root: Path, split: str):
    write(root, [row for row in ROWS if f",{split}," not in row])
    with pytest.raises(ValueError, match=rf"no row is marked '{split}'.*mark some rows '{split}'"):
        build(root)


def test_a_single_class_is_refused(root: Path):
    write(root, [row.replace("dog", "cat") for row in ROWS])
    with pytest.raises(
        ValueError, match=r"manifest\.csv, column 'label': all rows have 'cat'; at least two classes are needed"
    ):
        build(root)


def test_the_same_files_twice_without_ids_are_refused(root: Path):
    write(root, ["train,cat,p0.png", "train,dog,p0.png", "test,cat,p1.png"], header="split,label,photo")
    with pytest.raises(ValueError, match="row 3: the same files as row 2"):
        build(root)


def test_another_encoding_is_refused_by_row(root: Path):
    text = "\n".join([HEADER, ROWS[0], ROWS[1].replace("dog", "hündin"), *ROWS[2:]])
    (root / "manifest.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"row 3: .*xfc.*UTF-8"):
        build(root)
    (root / "manifest.csv").write_bytes(text.replace("ü", "u").encode("utf-16-le"))
    with pytest.raises(ValueError, match="UTF-16"):
        build(root)


@pytest.mark.parametrize("name", ["training", "items", "keys", "train", "type"])
def test_a_column_with_a_name_that_modules_use_is_refused_at_once(root: Path, name: str):
    write(root, ROWS, header=f"sample_id,split,label,photo,{name}")
    with pytest.raises(ValueError, match=rf"column '{name}' cannot name a modality, because PyTorch's modules"):
        build(root)
    assert list(build(root, modalities="photo").info.modalities) == ["photo"]


def test_every_name_that_modules_use_is_known():
    names = {name for name in dir(torch.nn.ModuleDict()) if MODALITY_NAME.fullmatch(name)}
    assert names <= NAMES_OF_MODULES


@pytest.mark.parametrize("name", ["so/und", ".sound", 'so"und', "my mic", "2nd", "_x", "klänge", "a.b"])
def test_a_column_that_cannot_name_a_modality_is_refused(root: Path, name: str):
    quoted = name.replace('"', '""')
    write(root, ROWS, header=f'sample_id,split,label,photo,"{quoted}"')
    with pytest.raises(
        ValueError, match=rf"manifest\.csv, row 1: column '{name}' is not a valid modality name.*rename the col"
    ):
        build(root)
    assert ids(build(root, modalities="photo").test) == ["d"]


@pytest.mark.parametrize(("column", "name"), [("photo", "p3.png"), ("sound", "s3.wav")])
@pytest.mark.parametrize("row", [0, 3])
def test_a_broken_file_is_refused_by_position(root: Path, column: str, name: str, row: int):
    rows = list(ROWS)
    rows[row], rows[3 - row] = rows[row].replace(f"{column[0]}{row}.", f"{column[0]}3."), rows[3 - row]
    write(root, rows)
    (root / name).write_bytes((root / name).read_bytes()[:20])
    with pytest.raises(ReadError, match=rf"manifest\.csv, row {row + 2}, {column} '.*{name}': .*; .*on_error"):
        build(root)


def test_the_table_is_checked_before_any_file_is_read(root: Path):
    write(root, [*ROWS[:3], "d,test,cow,p3.png,s3.wav"])
    (root / "p0.png").write_bytes(b"never opened")
    with pytest.raises(ValueError, match="'cow'"):
        build(root)


def test_a_cache_that_is_too_large_is_refused(root: Path):
    write(root, ROWS)
    # 4 samples of 1 x 12 x 12 bytes are 576 bytes.
    with pytest.raises(ValueError, match=r"5\.76e-07 GB for 4 samples.*cache_limit_gb = 5e-07"):
        build(root, modalities="photo", cache_limit_gb=5e-7)
    assert ids(build(root, modalities="photo", cache_limit_gb=6e-7).test) == ["d"]


# Missing files and cells


def test_an_empty_cell_is_an_absent_modality(root: Path):
    write(root, [*ROWS[:3], "d,test,dog,,s3.wav"])
    (sample,) = build(root).test
    assert sample.absent == {"photo"}
    assert sample.inputs["photo"].shape == (1, SIZE, SIZE)
    assert not sample.inputs["photo"].any()
    assert sample.inputs["sound"].any()


def test_a_column_without_any_file_is_refused(root: Path):
    write(root, [row.rpartition(",")[0] + "," for row in ROWS])
    with pytest.raises(ValueError, match="column 'sound': every cell is empty"):
        build(root)


def test_a_column_without_files_to_learn_from_is_refused(root: Path):
    write(root, [*(row.rpartition(",")[0] + "," for row in ROWS[:3]), ROWS[3]])
    with pytest.raises(ValueError, match=r"column 'sound': no training row has a readable file.*the cell is empty"):
        build(root)


def test_missing_and_broken_files_can_count_as_absent(root: Path):
    write(root, ["a,train,cat,gone.png,s0.wav", *ROWS[1:]])
    (root / "s3.wav").write_bytes(b"RIFF no sound")
    splits = build(root, on_error="missing")
    assert [sample.absent for sample in (*splits.train, *splits.val, *splits.test)] == [
        {"photo"},
        set(),
        set(),
        {"sound"},
    ]
    photo, sound = splits.info.notes
    assert photo.startswith("1 of 4 files of photo count as absent; the first: no file at ")
    assert re.match(r"1 of 4 files of sound count as absent; the first: .*s3\.wav cannot be read", sound)
    with pytest.raises(ReadError, match=r"row 5, sound"):  # what was filled with absences serves nobody else
        build(root, modalities="sound")


def test_without_a_cache_missing_files_are_counted(root: Path):
    write(root, ["a,train,cat,gone.png,s0.wav", *ROWS[1:3], "d,test,dog,lost.png,s3.wav"])
    (root / "s3.wav").write_bytes(b"RIFF no sound")
    (note,) = build(root, on_error="missing", cache="off").info.notes
    assert note.startswith("2 of 4 files of photo count as absent; the first: no file at ")
    assert "gone.png; damaged files are not counted" in note


# The cache


def test_a_second_build_reads_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch):
    from snn_datasets.modalities.images import ImageReader

    write(root, ROWS)
    read, original = list[str](), ImageReader.read
    monkeypatch.setattr(
        ImageReader, "read", lambda self, source: (read.append(source.path.name), original(self, source))[1]
    )
    first = build(root, modalities="photo")
    assert set(read) == {"p0.png", "p1.png", "p2.png", "p3.png"}
    read.clear()
    second = build(root, modalities="photo")
    assert read == ["p0.png"]  # which decides between gray and color
    assert torch.equal(inputs(second.train, "photo"), inputs(first.train, "photo"))
    Image.new("L", (20, 10), 255).save(root / "p3.png")
    assert inputs(build(root, modalities="photo").test, "photo").min() == 1


def test_nothing_depends_on_the_cache(root: Path):
    write(root, ROWS)
    cached, read = (build(root, cache=cache, image_noise=0.5, audio_snr=3.0) for cache in ("auto", "off"))
    for modality in ("photo", "sound"):
        assert torch.equal(inputs(cached.train, modality), inputs(read.train, modality))


# Corruption


def test_corruption_reaches_the_modalities_that_it_names(root: Path):
    write(root, ROWS)
    clean, noisy = build(root), build(root, image_noise=0.5, image_occlusion=2)
    assert not torch.equal(inputs(noisy.test, "photo"), inputs(clean.test, "photo"))
    assert torch.equal(inputs(noisy.test, "sound"), inputs(clean.test, "sound"))
    loud = build(root, audio_snr=-5.0)
    assert not torch.equal(inputs(loud.test, "sound"), inputs(clean.test, "sound"))
    assert torch.equal(inputs(loud.test, "photo"), inputs(clean.test, "photo"))


def test_corruption_is_drawn_once_a_sample_and_anew_for_a_seed(root: Path):
    write(root, ["a,train,cat,p2.png,s2.wav", "b,train,dog,p2.png,s2.wav", *ROWS[2:]])
    noisy = build(root, image_noise=0.3).train
    assert torch.equal(noisy[0, 0].inputs["photo"], noisy[1, 0].inputs["photo"])  # in another epoch
    assert not torch.equal(noisy[0].inputs["photo"], noisy[1].inputs["photo"])
    again, other = build(root, image_noise=0.3, seed=0).train, build(root, image_noise=0.3, seed=1).train
    assert torch.equal(noisy[0].inputs["photo"], again[0].inputs["photo"])
    assert not torch.equal(noisy[0].inputs["photo"], other[0].inputs["photo"])


def test_occlusion_is_a_black_square_of_its_side(root: Path):
    Image.new("L", (SIZE, SIZE), 255).save(root / "p3.png")
    write(root, ROWS)
    pixels = build(root, modalities="photo", image_occlusion=5).test[0].inputs["photo"]
    assert (pixels == 0).sum() == 25
    rows, columns = (pixels[0] == 0).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 4


# Leaks


def test_groups_and_files_in_two_splits_are_noted(root: Path):
    header, other = "sample_id,split,label,group,photo", "o,train,y,eve,p3.png"
    write(root, [other, "a,train,x,ann,p0.png", "b,val,x,bob,p1.png", "c,test,x,cat,p2.png"], header=header)
    assert build(root).info.notes == ()
    write(root, [other, "a,train,x,ann,p0.png", "b,val,x,bob,p1.png", "c,test,x,ann,p0.png"], header=header)
    group, file = build(root).info.notes
    assert group == "1 group is in both train and test, such as ann"
    assert re.fullmatch(r"1 file is in both train and test, such as .*p0\.png", file)


# Parquet tables


def as_parquet(root: Path, **columns: Any) -> None:
    parquet.write_table(pyarrow.table(columns), root / "manifest.parquet")


TABLE: dict[str, Any] = {
    "split": ["train", "train", "val", "test"],
    "label": [10, 9, 9, 10],
    "sample_id": ["a", "b", "c", "d"],
    "photo": ["p0.png", "p1.png", "p2.png", "p3.png"],
    "sound": ["s0.wav", None, "s2.wav", "s3.wav"],
}


def test_a_parquet_table_equals_a_csv_file(root: Path):
    as_parquet(root, **TABLE)
    write(root, ["a,train,10,p0.png,s0.wav", "b,train,9,p1.png,", "c,val,9,p2.png,s2.wav", "d,test,10,p3.png,s3.wav"])
    first, second = build(root, manifest="manifest.parquet"), build(root)
    assert first.info == second.info
    assert first.info.classes == ("9", "10")
    assert [sample.absent for sample in first.train] == [set(), {"sound"}]
    assert [ids(part) for part in (first.train, first.val, first.test)] == [["a", "b"], ["c"], ["d"]]
    assert [sample.label for sample in first.train] == [1, 0]
    assert torch.equal(inputs(first.train, "sound"), inputs(second.train, "sound"))


def test_categories_of_a_parquet_table_are_text(root: Path):
    as_parquet(root, **TABLE | {"label": pyarrow.array(["x", "y", "y", "x"]).dictionary_encode()})
    assert build(root, manifest="manifest.parquet").info.classes == ("x", "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": [b"png", b"png", b"png", b"png"]}, "column 'photo' holds binary, not file names"),
        ({"label": [0.5, 1.5, 0.5, 1.5]}, "column 'label' holds double.*text or integers"),
        ({"photo": ["p0.png", "p1.png", "p2.png", "../p3.png"]}, "row 4, column 'photo', value '../p3.png'"),
        ({"split": ["train", "train", "val", None]}, "row 4, column 'split', value ''"),
    ],
)
def test_a_faulty_parquet_table_is_refused_by_position(root: Path, change: dict[str, Any], message: str):
    as_parquet(root, **TABLE | change)
    with pytest.raises(ValueError, match=rf"manifest\.parquet, .*{message}"):
        build(root, manifest="manifest.parquet")


def test_columns_of_other_types_are_allowed(root: Path):
    as_parquet(root, **TABLE, score=[0.5, 1.0, 1.5, 2.0])
    assert ids(build(root, manifest="manifest.parquet", modalities="photo,sound").test) == ["d"]
    with pytest.raises(ValueError, match="column 'score' holds double"):
        build(root, manifest="manifest.parquet")


def test_a_damaged_parquet_table_is_refused(root: Path):
    as_parquet(root, **TABLE)
    file = root / "manifest.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cannot read .*manifest\.parquet as a Parquet table"):
        build(root, manifest="manifest.parquet")


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_errors_in_damaged_tables_name_the_table(root: Path, name: str):
    as_parquet(root, **TABLE)
    write(root, ROWS)
    whole, draw = (root / name).read_bytes(), random.Random(0)
    messages: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            offset = draw.randrange(len(damaged))
            damaged[offset : offset + draw.randint(0, 3)] = bytes(draw.choices(b'\0\xff,"/.\n x', k=draw.randint(0, 3)))
        (root / name).write_bytes(damaged)
        try:
            read_table(root / name, root=root)
        except (ValueError, FileNotFoundError) as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(name in message for message in messages)


def test_a_parquet_table_without_pyarrow_names_the_extra(root: Path, monkeypatch: pytest.MonkeyPatch):
    as_parquet(root, **TABLE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install \"snn-datasets\[parquet\]\""):
        build(root, manifest="manifest.parquet")


def findings(root: Path, **options: Any) -> list[str]:
    return [str(finding) for finding in check(ManifestSpec(root=root, size=SIZE, mel_bands=20), **options)]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("sample_id,split,photo", "a,train,p0.png", "no column 'label'"),
        ("sample_id,split,label,photo", "a,exam,cat,p0.png", "value 'exam': unknown split"),
        ("sample_id,split,label,photo", "a,train,cat,p9.png", "no file at"),
    ],
)
def test_a_check_without_reading_checks_the_table(root: Path, header: str, row: str, message: str):
    write(root, [row], header=header)
    (finding,) = findings(root, read="none")
    assert finding.startswith("error: ")
    assert message in finding
    write(root, ROWS)
    assert findings(root, read="none") == []


def test_a_check_reports_the_notes_of_the_dataset(root: Path):
    write(root, [*ROWS[:3], "d,test,dog,./p0.png,s3.wav"])
    for read in ("none", "some"):
        assert any("1 file is in both train and test" in finding for finding in findings(root, read=read))


def test_copies_in_two_splits_are_reported(root: Path):
    (root / "copy.png").write_bytes((root / "p0.png").read_bytes())
    write(root, [*ROWS[:3], "d,test,dog,copy.png,s3.wav"])
    (finding,) = (finding for finding in findings(root) if finding.startswith("warning"))
    assert (
        f"{root / 'copy.png'}: 1 file of photo is a copy of a file of another split, the first of {root / 'p0.png'}"
        in finding
    )
    write(root, [*ROWS[:3], "d,train,dog,copy.png,s3.wav", "e,test,dog,p3.png,s3.wav"])
    assert not any("copy" in finding for finding in findings(root))


def test_a_recording_without_signal_is_reported(root: Path):
    wave = np.sin(np.arange(4000) / 9)
    soundfile.write(root / "s1.wav", np.stack([wave, -wave], axis=1), RATE)
    soundfile.write(root / "s2.wav", np.zeros(4000), RATE)
    write(root, ROWS)
    warnings = [finding for finding in findings(root) if finding.startswith("warning")]
    assert len(warnings) == 2
    assert "s1.wav: sound of sample 'b' has channels that cancel when mixed to mono" in warnings[0]
    assert "s2.wav: sound of sample 'c' is silent" in warnings[1]


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_samples_whose_files_are_all_missing_are_skipped(root: Path, cache: str):
    write(root, [*ROWS, "e,train,cat,p9.png,s9.wav", "f,test,dog,p9.png,s3.wav"])
    splits = build(root, on_error="missing", cache=cache)
    assert ids(splits.train) == ["a", "b"]
    assert ids(splits.test) == ["d", "f"]
    assert "1 of 6 samples have no photo or sound and are skipped" in splits.info.notes
