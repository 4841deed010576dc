"""Gas sensors in their published layout."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from datasets.writers.gas import write_gas_drift, write_gas_mixtures
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.sample import collate
from snn_datasets.datasets.gas import GasDriftSpec, GasMixturesSpec
from snn_datasets.formats import gas_text
from snn_datasets.formats.gas_text import GasDriftReader, GasMixturesReader
from snn_datasets.loading.order import EpochOrder
from snn_datasets.loading.recorded import RecordedDataset, Row

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    root = tmp_path_factory.mktemp("mixtures")
    return root, write_gas_mixtures(root)


def opened(root: Path, **fields: object) -> DatasetSplits:
    known = {"root": root, "cache": "off", "response_s": 6, "baseline_s": 2, "guard_s": 10, "time_steps": 4}
    return GasMixturesSpec.model_validate(known | fields).build()


def rows(splits: DatasetSplits) -> dict[str, tuple[Row, ...]]:
    rows_of = {}
    for name in SPLITS:
        dataset = getattr(splits, name)
        assert isinstance(dataset, RecordedDataset)
        rows_of[name] = dataset.rows
    return rows_of


def bounds(row: Row) -> tuple[float, float]:
    source = row.sources["gas"]
    assert source is not None
    return float(source.part[0]), float(source.part[1])


def averages(table: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, set points and sensors by hand."""
    spans = np.floor(table[:, 0] * rate + 1e-6).astype(int)
    present = np.unique(spans)
    sensors = np.stack([table[spans == span, 3:].mean(0) for span in present])
    return (present + 0.5) / rate, np.stack([table[spans == span, 1:3][-1] for span in present]), sensors


@pytest.mark.parametrize("lines", [100_000, 7])
def test_a_recording_is_averaged_over_equal_spans(
    mixtures: tuple[Path, dict[str, np.ndarray]], lines: int, monkeypatch: pytest.MonkeyPatch
):
    root, written = mixtures
    monkeypatch.setattr(gas_text, "LINES", lines)
    gas_text._mixtures.cache_clear()
    read = GasMixturesReader(rate=5).read(Source(root / "ethylene_CO.txt"))
    times, set_points, sensors = averages(written["ethylene_CO"], 5)
    np.testing.assert_allclose(read.times, times)
    np.testing.assert_array_equal(read.values[:, :2], set_points)
    np.testing.assert_allclose(read.values[:, 2:], sensors, rtol=1e-5)


def test_samples_start_at_a_change_of_set_points_and_end_before_the_next(
    mixtures: tuple[Path, dict[str, np.ndarray]],
):
    root, written = mixtures
    table = written["ethylene_methane"]
    # About half of the steps hold that long.
    rows_of = rows(opened(root, mixture="ethylene_methane", response_s=9.9))
    assert 8 < sum(map(len, rows_of.values())) < 30
    for row in (row for of_split in rows_of.values() for row in of_split):
        start, stop = bounds(row)
        assert stop - start == pytest.approx(11.9)
        # The span that holds the change counts as after it.
        after = table[(table[:, 0] >= start + 2 + 0.1) & (table[:, 0] < stop)]
        assert len(np.unique(after[:, 1:3], axis=0)) == 1
        second, ethylene = after[0, 1:3] > 0
        assert ("air", "ethylene", "second gas", "both")[row.label] == {
            (False, False): "air",
            (False, True): "ethylene",
            (True, False): "second gas",
            (True, True): "both",
        }[(bool(second), bool(ethylene))]
        just_before = table[(table[:, 0] >= start) & (table[:, 0] < start + 2)]
        assert (just_before[-1, 1:3] != after[0, 1:3]).any()


def test_splits_follow_each_other_in_time_with_gaps(mixtures: tuple[Path, dict[str, np.ndarray]]):
    rows_of = rows(opened(mixtures[0], guard_s=15))
    spans = {split: [bounds(row) for row in of_split] for split, of_split in rows_of.items()}
    for earlier, later in (("train", "val"), ("val", "test")):
        assert min(start for start, _ in spans[later]) - max(stop for _, stop in spans[earlier]) >= 15


def test_inputs_are_responses_above_the_baseline_on_the_scale_of_training(
    mixtures: tuple[Path, dict[str, np.ndarray]],
):
    root, written = mixtures
    times, _, sensors = averages(written["ethylene_CO"], 10)

    def response(row: Row) -> np.ndarray:
        start, stop = bounds(row)
        before = sensors[(times > start) & (times < start + 2)].mean(0)
        return sensors[(times > start + 2) & (times < stop)] - before

    splits = opened(root)
    training = np.concatenate([response(row) for row in rows(splits)["train"]])
    row = rows(splits)["test"][1]
    expected = ((response(row) - training.mean(0)) / training.std(0)).reshape(4, 15, 16).mean(1)
    np.testing.assert_allclose(splits.test[1].inputs["gas"].numpy(), expected, rtol=1e-3, atol=1e-3)
    assert splits.info.shapes == {"gas": (16,)}
    assert any("drift" in note for note in splits.info.notes)


def test_later_values_do_not_change_earlier_samples(tmp_path: Path, mixtures: tuple[Path, dict[str, np.ndarray]]):
    """Not even through the scale, which is that of training alone."""
    lines = (mixtures[0] / "ethylene_CO.txt").read_text(encoding="utf-8").splitlines()
    before = opened(mixtures[0])
    latest = max(stop for _, stop in map(bounds, rows(before)["val"]))
    changed = [
        line if number == 0 or float(line.split()[0]) <= latest + 0.1 else " ".join([*line.split()[:3], *["7.0"] * 16])
        for number, line in enumerate(lines)
    ]
    assert changed != lines
    (tmp_path / "ethylene_CO.txt").write_text("\n".join(changed) + "\n", encoding="utf-8")
    after = opened(tmp_path)
    for one, other in ((before.train, after.train), (before.val, after.val)):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first.inputs["gas"].numpy(), second.inputs["gas"].numpy())


def test_the_text_is_read_once_then_never_again(
    mixtures: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chunks, parsed = gas_text._chunks, []

    def counted(path: Path):
        parsed.append(path)
        return chunks(path)

    monkeypatch.setattr(gas_text, "_chunks", counted)
    gas_text._mixtures.cache_clear()
    first = opened(mixtures[0], cache="auto", cache_folder=tmp_path)
    assert len(parsed) == 1
    gas_text._mixtures.cache_clear()
    again = opened(mixtures[0], cache="auto", cache_folder=tmp_path)
    assert len(parsed) == 1
    for one, other in zip(first.train, again.train, strict=True):
        np.testing.assert_array_equal(one.inputs["gas"].numpy(), other.inputs["gas"].numpy())


def test_batches_of_responses_have_time_first(mixtures: tuple[Path, dict[str, np.ndarray]]):
    splits = opened(mixtures[0])
    order = EpochOrder(len(splits.train), epoch=1)
    batch = next(iter(DataLoader(splits.train, batch_size=5, sampler=order, collate_fn=collate)))
    assert batch["inputs"]["gas"].shape == (4, 5, 16)
    assert batch["labels"].shape == (5,)


def test_empty_splits_are_refused(mixtures: tuple[Path, dict[str, np.ndarray]]):
    with pytest.raises(ValueError, match="the split 'train' has no samples"):
        opened(mixtures[0], response_s=60)
    with pytest.raises(ValueError, match="their sum must be below 1"):
        opened(mixtures[0], val_fraction=0.5, test_fraction=0.6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.1 0 0 " + "1 " * 15, "a line has 18 numbers"),
        ("0.1 0 0 " + "1 " * 15 + "x", "not a recording of gas mixtures"),
        ("0.1 0 0 " + "1 " * 15 + "nan", "a value is NaN or out of range"),
        ("-0.1 0 0 " + "1 " * 16, "time decreases"),
        ("9e9 0 0 " + "1 " * 16, "must be in seconds"),
        ("", "no numeric line"),
    ],
)
def test_a_damaged_recording_is_refused(tmp_path: Path, line: str, message: str):
    path = tmp_path / "ethylene_CO.txt"
    path.write_text(f"Time (seconds), CO conc (ppm)\n{line}\n", encoding="utf-8")
    with pytest.raises(ReadError) as caught:
        GasMixturesReader().read(Source(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


# Drift


@pytest.mark.parametrize("concentrations", [False, True])
def test_features_are_read_back_on_the_scale_of_training(tmp_path: Path, concentrations: bool):
    written = write_gas_drift(tmp_path, concentrations=concentrations)
    splits = GasDriftSpec(root=tmp_path, cache="off").build()
    training = np.concatenate([written[batch][1] for batch in range(1, 7)])
    seen = []
    for dataset in (splits.train, splits.val, splits.test):
        for sample in dataset:
            batch, line = int(sample.id.split("/")[0].removeprefix("batch")), int(sample.id.split("/")[1])
            gases, features = written[batch]
            expected = (features[line] - training.mean(0)) / training.std(0)
            np.testing.assert_allclose(sample.inputs["gas"].numpy(), expected, rtol=1e-4, atol=1e-4)
            assert sample.label == gases[line] - 1
            seen.append((batch, line))
    assert sorted(seen) == [(batch, line) for batch in range(1, 11) for line in range(9)]


def test_no_batch_is_in_two_splits(tmp_path: Path):
    write_gas_drift(tmp_path)
    splits = GasDriftSpec(root=tmp_path, cache="off", train_groups=(1, 2), val_groups=(5,), test_groups=(3, 10)).build()
    of_split = {split: {row.id.split("/")[0] for row in rows_of} for split, rows_of in rows(splits).items()}
    assert of_split == {"train": {"batch1", "batch2"}, "val": {"batch5"}, "test": {"batch3", "batch10"}}
    with pytest.raises(ValueError, match="batch 2 is listed twice"):
        GasDriftSpec(root=tmp_path, cache="off", train_groups=(1, 2), val_groups=(2,)).build()
    with pytest.raises(ValueError, match="the split 'val' has no samples"):
        GasDriftSpec(root=tmp_path, cache="off", val_groups=()).build()


def test_batches_of_features_are_static(tmp_path: Path):
    write_gas_drift(tmp_path / "drift")
    splits = GasDriftSpec(root=tmp_path / "drift", cache_folder=tmp_path / "cache").build()
    order = EpochOrder(len(splits.train), epoch=1)
    batch = next(iter(DataLoader(splits.train, batch_size=5, sampler=order, collate_fn=collate)))
    assert batch["inputs"]["gas"].shape == (5, 128)
    assert splits.info.modalities["gas"].time_steps is None


@pytest.mark.parametrize("spec", [GasMixturesSpec, GasDriftSpec])
def test_a_missing_folder_says_what_to_fetch_and_its_layout(
    tmp_path: Path, spec: type[GasMixturesSpec] | type[GasDriftSpec]
):
    with pytest.raises(FileNotFoundError) as caught:
        spec(root=tmp_path / "nowhere").build()
    assert "UCI machine learning repository" in str(caught.value)
    assert spec.card.layout() in str(caught.value)


def test_damaged_files_raise_only_read_errors(tmp_path: Path):
    write_gas_mixtures(tmp_path, steps=3)
    write_gas_drift(tmp_path, per_batch=3)
    draw, refused = random.Random(0), 0
    for reader, name, part in (
        (GasMixturesReader(), "ethylene_CO.txt", ()),
        (GasDriftReader(), "batch1.dat", (1,)),
    ):
        good = (tmp_path / name).read_bytes()
        for _ in range(150):
            data = bytearray(good[: draw.choice([len(good), draw.randrange(1, len(good))])])
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            (tmp_path / "bad").write_bytes(data)
            try:
                read = reader.read(Source(tmp_path / "bad", part))
            except ReadError:
                refused += 1
            else:
                assert np.isfinite(read.values).all()
    assert refused > 150


def test_a_recording_without_the_names_of_its_columns_keeps_its_first_row(
    mixtures: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
):
    root, _ = mixtures
    text = (root / "ethylene_CO.txt").read_text(encoding="utf-8").partition("\n")[2]
    # The first row alone says what is in the first span.
    (tmp_path / "named.txt").write_text(f"Time (seconds), CO conc (ppm), ...\n{text}", encoding="utf-8")
    (tmp_path / "bare.txt").write_text(text, encoding="utf-8")
    named, bare = (GasMixturesReader(rate=20).read(Source(tmp_path / f"{name}.txt")) for name in ("named", "bare"))
    np.testing.assert_array_equal(named.values, bare.values)
    np.testing.assert_array_equal(named.times, bare.times)
