"""Every command that opens a run detects data that have changed or moved."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from app.finished import data_and_run, finished_run, scmrl
from app.rewriting import rewrite
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.config.experiment import Experiment
from scmrl.console.printable import printable
from scmrl.console.progress import Progress
from scmrl.run_folder.files import with_absolute_paths
from scmrl.run_folder.open import open_data
from snn_datasets import DigitsSpec, ManifestSpec
from snn_datasets.base.dataset import SPLITS
from snn_datasets.loading.in_memory import InMemoryDataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_and_run(tmp_path_factory.mktemp("trained"), test=6)


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run and its data, in which the data may be changed."""
    for name in ("data", "run"):
        shutil.copytree(trained / name, tmp_path / name)
    rewrite(tmp_path / "run" / "experiment.json", lambda e: e["data"].update(root=str(tmp_path / "data")))
    return tmp_path


Rows = list[dict[str, str]]


def edit_table(data: Path, change: Callable[[Rows], Rows | None]) -> None:
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows) or rows
    with (data / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rename_class(data: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["label"] = {"left": "west"}.get(row["label"], row["label"])

    edit_table(data, change)


def drop_row(data: Path) -> None:
    edit_table(data, lambda rows: rows[:-1])


def swap_labels(data: Path) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]

    edit_table(data, change)


def other_sound(data: Path) -> None:
    samples, rate = soundfile.read(data / "test0.wav")
    soundfile.write(data / "test0.wav", samples[::-1], rate)


CHANGES: dict[Callable[[Path], None], str] = {
    rename_class: "classes were left, right and are right, west (west instead of left)",
    drop_row: "the test split had 6 samples and has 5",
    swap_labels: "the train split has different samples or labels",
    other_sound: "audio has files with different content in the test split",
}


def evaluate(monkeypatch: pytest.MonkeyPatch, run: Path, *options: str | Path) -> int:
    return scmrl(monkeypatch, "evaluate", run, "--bootstrap", "1", *options)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_data_are_named_and_the_earlier_evaluation_stays(
    here: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert evaluate(monkeypatch, here / "run") == 0
    before = (here / "run" / "evaluation.json").read_bytes()
    change(here / "data")
    assert evaluate(monkeypatch, here / "run") == 2
    message = capsys.readouterr().err
    assert CHANGES[change] in message
    assert ("--accept-changed-data" in message) == (change is not rename_class)
    assert (here / "run" / "evaluation.json").read_bytes() == before
    assert evaluate(monkeypatch, here / "run", "--accept-changed-data") == (2 if change is rename_class else 0)
    if change is not rename_class:
        (note,) = json.loads((here / "run" / "evaluation.json").read_text())["notes"]
        assert CHANGES[change] in note


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "RUN"),
        ("energy", "RUN", "--samples", "2"),
        ("explain", "RUN", "--samples", "1"),
        ("export", "RUN", "--format", "pt2", "--out", "model.pt2"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_reads_the_data_verifies_them(
    here: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(here)
    swap_labels(here / "data")
    before = sorted(path.relative_to(here) for path in here.rglob("*"))
    assert scmrl(monkeypatch, *(str(here / "run") if part == "RUN" else part for part in command)) == 2
    assert "the train split has different samples or labels" in capsys.readouterr().err
    assert sorted(path.relative_to(here) for path in here.rglob("*")) == before


def test_report_and_demo_say_why_they_lack_the_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from scmrl.demo.session import open_demo

    swap_labels(here / "data")
    assert scmrl(monkeypatch, "report", here / "run", "--out", here / "report.html") == 0
    assert capsys.readouterr().err.count("the train split has different samples or labels") >= 2
    with Progress.create() as progress:
        opened = open_demo(here / "run", progress)
    assert opened.samples is None
    assert "the train split has different samples or labels" in opened.no_samples


def test_a_run_is_not_resumed_on_changed_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = [*tiny_options(here / "data", here / "run"), "--resume"]
    options[options.index("--train.epochs") + 1] = "1"
    assert scmrl(monkeypatch, "train", *options) == 0
    rename_class(here / "data")
    assert scmrl(monkeypatch, "train", *options) == 2
    assert "have changed since its training began: classes were left, right" in capsys.readouterr().err


def test_a_resumed_run_needs_its_samples_in_the_same_order(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = [*tiny_options(here / "data", here / "run"), "--resume"]
    options[options.index("--train.epochs") + 1] = "1"
    edit_table(here / "data", lambda rows: rows[2:4] + rows[:2] + rows[4:])
    assert evaluate(monkeypatch, here / "run") == 0
    assert scmrl(monkeypatch, "train", *options) == 2
    assert "the training samples are in another order" in capsys.readouterr().err


def test_files_are_prepared_as_in_training_whichever_file_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The first training file decides rate and color; a different first row must not."""
    data = tmp_path / "data"
    data.mkdir()
    write_tiny_dataset(data, train=24, test=6)
    for i in range(1, 24, 2):  # half of the files have another rate and color than the first
        samples, rate = soundfile.read(data / f"train{i}.wav")
        soundfile.write(data / f"train{i}.wav", np.repeat(samples, 2), 2 * rate)
    for name in ("test1", "test3"):
        with Image.open(data / f"{name}.png") as picture:
            picture.convert("L").save(data / f"{name}.png")
    run = finished_run(data, tmp_path / "run")
    assert evaluate(monkeypatch, run) == 0
    before = json.loads((run / "evaluation.json").read_text())
    edit_table(data, lambda rows: [rows[1], rows[0], *rows[2:]])
    capsys.readouterr()
    assert evaluate(monkeypatch, run) == 0
    assert "audio is prepared as in training, not as its files suggest now" in capsys.readouterr().err
    assert json.loads((run / "evaluation.json").read_text()) == before


def test_moved_data_are_located_by_an_option_and_from_every_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "data", tmp_path / "here")
    options = tiny_options(Path("here"), Path("run"))
    options[options.index("--train.epochs") + 1] = "1"
    assert scmrl(monkeypatch, "train", *options) == 0
    assert evaluate(monkeypatch, Path("run")) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluate(monkeypatch, tmp_path / "run") == 0
    options[options.index("here")] = "../here"
    options[options.index("run")] = "../run"
    assert scmrl(monkeypatch, "train", *options, "--resume") == 0
    (tmp_path / "here").rename(tmp_path / "there")
    capsys.readouterr()
    assert evaluate(monkeypatch, tmp_path / "run") == 2
    assert f"are no longer at {tmp_path / 'here'}; give their folder with --data.root DIR" in capsys.readouterr().err
    assert evaluate(monkeypatch, tmp_path / "run", "--data.root", "../there") == 0


def test_a_manifest_within_the_root_moves_with_it(tmp_path: Path):
    def stored(manifest: Path) -> str:
        data = {"kind": "manifest", "root": str(tmp_path), "manifest": str(manifest)}
        spec = with_absolute_paths(Experiment.model_validate({"data": data})).data
        assert isinstance(spec, ManifestSpec)
        return str(spec.manifest)

    assert stored(tmp_path / "sub" / "m.csv") == "sub/m.csv"
    assert stored(Path("/elsewhere/m.csv")) == "/elsewhere/m.csv"


def test_a_root_is_refused_for_data_that_are_not_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from scmrl.run_folder.checksummed import write_checksummed

    write_checksummed(tmp_path / "experiment.json", Experiment().model_dump(mode="json"))
    assert evaluate(monkeypatch, tmp_path, "--data.root", "x") == 2
    assert "(digits) are not read from a folder" in capsys.readouterr().err


def test_the_embedded_digits_have_a_fingerprint_that_rounding_does_not_change():
    from scmrl.run_folder.fingerprint import fingerprint, fingerprint_changes

    plain = DigitsSpec(modalities=("visual",)).build()
    known = fingerprint(plain)
    assert json.loads(json.dumps(known)) == known
    noisier = fingerprint(DigitsSpec(modalities=("visual",), image_noise=0.6).build())
    assert fingerprint_changes(known, noisier) == [
        f"visual has different values in the {split} split" for split in SPLITS
    ]
    other = fingerprint(DigitsSpec(modalities=("visual",), seed=1).build())
    assert "the train split has different samples or labels" in fingerprint_changes(known, other)
    for dataset in (plain.train, plain.val, plain.test):
        assert isinstance(dataset, InMemoryDataset)
        for values in dataset.inputs.values():
            values *= 1 + 1e-6
    assert fingerprint_changes(known, fingerprint(plain)) == []


def test_the_run_folder_does_not_choose_the_cache_folder(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "planted"
    rewrite(here / "run" / "experiment.json", lambda e: e["data"].update(cache_folder=str(target)))
    assert evaluate(monkeypatch, here / "run") == 0
    assert not target.exists()
    assert evaluate(monkeypatch, here / "run", "--data.cache_folder", tmp_path / "mine") == 0
    assert (tmp_path / "mine").is_dir()


def test_printed_names_do_not_move_the_cursor():
    assert printable("cat\x1b[2J\r\n\u202ecod\x9b1m") == "cat\\x1b[2J\\r\\n\\u202ecod\\x9b1m"
    assert printable("café 猫") == "café 猫"


def test_a_run_without_readers_or_fingerprint_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (here / "run" / "inputs.json").unlink()
    assert evaluate(monkeypatch, here / "run") == 2
    assert "has no inputs.json, which describes its training data" in capsys.readouterr().err


def test_data_of_a_run_are_those_of_the_training(here: Path):
    with Progress.create() as progress:
        splits = open_data(here / "run", progress)
    assert splits.info.classes == ("left", "right")
