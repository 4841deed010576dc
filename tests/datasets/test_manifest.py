from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from snn_datasets import DatasetSplits, ManifestSpec, SampleDataset

SIZE = 12
RATE = 8000
HEADER = "sample_id,split,label,photo,sound"


def write_sound(path: Path, *, hertz: float = 500.0, rate: int = RATE, seconds: float = 0.3, channels: int = 1) -> None:
    time = np.arange(round(rate * seconds)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with four grey pictures, brighter with their number, and four tones, higher with their number."""
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
    return ManifestSpec(root=root, image_size=SIZE, mel_bands=20, **fields).build()


def ids(dataset: SampleDataset) -> list[str]:
    return [sample.id for sample in dataset]


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
    spec = ManifestSpec(root=root, image_size=SIZE)
    splits = spec.build(progress=lambda done, total: calls.append((done, total)))
    assert [ids(splits.train), ids(splits.val), ids(splits.test)] == [["a", "b"], ["c"], ["d"]]
    assert [sample.label for sample in splits.train] == [0, 1]
    assert splits.info.classes == ("cat", "dog")
    assert splits.info.shapes == {"photo": (1, SIZE, SIZE), "sound": (1, SIZE, SIZE)}
    assert splits.info.synthetic == ()
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
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


def test_a_byte_order_mark_and_blank_lines_do_no_harm(root: Path):
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
        ("d,test,dog,p3.png,", r"row 5, column 'sound', value ''.*empty"),
        ("d,test,,p3.png,s3.wav", r"row 5, column 'label', value ''.*empty"),
        (",test,dog,p3.png,s3.wav", r"row 5, column 'sample_id', value ''.*empty"),
        ("d,exam,dog,p3.png,s3.wav", r"row 5, column 'split', value 'exam'.*train, val"),
        ("b,test,dog,p3.png,s3.wav", r"row 5, column 'sample_id', value 'b'.*row 3"),
        ("d,test,dog,p3.gif,s3.wav", r"row 5, column 'photo', value 'p3.gif'.*'\.gif'.*\.png"),
        ("d,test,dog,p3,s3.wav", r"row 5, column 'photo', value 'p3'.*unknown ending ''"),
        ("d,test,dog,s3.wav,s3.wav", r"row 5, column 'photo', value 's3.wav'.*audio file.*image files"),
        ("d,test,dog,../p3.png,s3.wav", r"row 5, column 'photo', value '\.\./p3.png'.*leads out"),
        ("d,test,dog,x/../../p3.png,s3.wav", r"row 5, column 'photo'.*leads out"),
        ("d,test,dog,p3.png", r"row 5: 4 cells where the header has 5"),
        ("d,test,dog,p3.png,s3.wav,s4.wav", r"row 5: 6 cells.*'s4.wav'.*double quotes"),
        ('d,test,dog,"p3.png,s3.wav', r"row 5: .*double quotes"),
        ("d,test,cow,p3.png,s3.wav", r"row 5, column 'label', value 'cow'.*test.*no training row"),
    ],
)
def test_a_faulty_row_is_refused_by_place_and_value(root: Path, row: str, message: str):
    write(root, [*ROWS[:3], row])
    with pytest.raises(ValueError, match=rf"(?s)manifest\.csv, {message}"):
        build(root)


def test_a_missing_file_is_refused_by_place_and_value(root: Path):
    write(root, [*ROWS[:3], "d,test,dog,p9.png,s3.wav"])
    with pytest.raises(FileNotFoundError, match=r"row 5, column 'photo', value 'p9.png'.*no file at .*p9.png"):
        build(root)


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


def test_semicolons_are_recognised(root: Path):
    write(root, [row.replace(",", ";") for row in ROWS], header=HEADER.replace(",", ";"))
    with pytest.raises(ValueError, match="separate columns by commas"):
        build(root)


def test_an_unknown_modality_is_answered_with_the_known_ones(root: Path):
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


def test_the_same_files_twice_without_ids_are_refused(root: Path):
    write(root, ["train,cat,p0.png", "train,dog,p0.png", "test,cat,p1.png"], header="split,label,photo")
    with pytest.raises(ValueError, match="row 3: the same files as row 2"):
        build(root)


def test_another_encoding_is_refused_by_row(root: Path):
    text = "\n".join([HEADER, ROWS[0], ROWS[1].replace("dog", "hündin"), *ROWS[2:]])
    (root / "manifest.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"row 3: .*xfc.*UTF-8"):
        build(root)
    (root / "manifest.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-16"):
        build(root)


@pytest.mark.parametrize(("column", "name"), [("photo", "p3.png"), ("sound", "s3.wav")])
@pytest.mark.parametrize("row", [0, 3])
def test_a_broken_file_is_refused_by_place(root: Path, column: str, name: str, row: int):
    rows = list(ROWS)
    rows[row], rows[3 - row] = rows[row].replace(f"{column[0]}{row}.", f"{column[0]}3."), rows[3 - row]
    write(root, rows)
    (root / name).write_bytes((root / name).read_bytes()[:20])
    with pytest.raises(ValueError, match=rf"row {row + 2}, column '{column}', value '{name}': cannot read .*replace"):
        build(root)


def test_too_much_memory_is_refused_before_reading(root: Path):
    write(root, ROWS)
    (root / "p3.png").write_bytes(b"never opened")
    # 4 samples of 2 x 12 x 12 floats of 4 bytes are 4608 bytes.
    with pytest.raises(ValueError, match=r"4\.61e-06 GB.*memory_limit_gb=4\.6e-06.*image_size"):
        build(root, memory_limit_gb=4.6e-6)
    with pytest.raises(ValueError, match=r"p3\.png"):
        build(root, memory_limit_gb=4.7e-6)


def test_corruption_reaches_the_senses_that_it_names(root: Path):
    write(root, ROWS)
    clean, noisy = build(root), build(root, image_noise=0.5, image_occlusion=2)
    assert not torch.equal(noisy.test.inputs["photo"], clean.test.inputs["photo"])
    assert torch.equal(noisy.test.inputs["sound"], clean.test.inputs["sound"])
    loud = build(root, audio_snr=-5.0)
    assert not torch.equal(loud.test.inputs["sound"], clean.test.inputs["sound"])
    assert torch.equal(loud.test.inputs["photo"], clean.test.inputs["photo"])
