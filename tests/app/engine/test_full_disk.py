"""A full disk: one line names the file, nothing is lost, and the run resumes when there is space."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.finished import data_and_run
from app.run_folder.test_run_integrity import command
from app.stopping import outcome
from app.studies import run_here, study
from app.tiny import tiny_options
from mounts import filled, small_disk
from scmrl.export.nir import save_nir
from scmrl.run_folder.atomic import atomic_write
from scmrl.study.sensitivity.spec import SensitivitySpec
from snn_fusion import ModelSpec

FULL = "the disk is full: free some space"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", kilobytes=8000) as folder:
        yield folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_and_run(tmp_path_factory.mktemp("trained"), test=4)


def contents(disk: Path) -> dict[Path, bytes]:
    """All files and empty folders."""
    return {
        path: path.read_bytes() if path.is_file() else b""
        for path in disk.rglob("*")
        if path.name != "ballast" and (path.is_file() or not any(path.iterdir()))
    }


def refused(disk: Path, code: int, err: str) -> None:
    """Check that the command ended in one line that names a file on the disk."""
    assert code == 2, err
    messages = [line for line in err.splitlines() if line.startswith("scmrl: ")]
    assert len(messages) == 1, err
    assert str(disk) in messages[0], err
    assert FULL in messages[0] or "No space left on device" in messages[0], err
    assert "Traceback" not in err


COMMANDS = {
    "evaluate": ("evaluate", "RUN", "--bootstrap", "1"),
    "energy": ("energy", "RUN", "--samples", "2"),
    "explain": ("explain", "RUN", "--samples", "1"),
    "report": ("report", "RUN", "--out", "DISK/report.html"),
    "pt2": ("export", "RUN", "--format", "pt2", "--out", "DISK/model.pt2"),
}


@pytest.mark.parametrize(
    "name", ["evaluate", pytest.param("report", marks=pytest.mark.slow), pytest.param("pt2", marks=pytest.mark.slow)]
)
def test_a_command_on_a_full_disk_ends_in_one_line_and_loses_nothing(trained: Path, disk: Path, name: str):
    run_on_a_full_disk(trained, disk, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["energy", "explain"])
def test_other_commands_on_a_full_disk_end_in_one_line_and_lose_nothing(trained: Path, disk: Path, name: str):
    run_on_a_full_disk(trained, disk, name)


def run_on_a_full_disk(trained: Path, disk: Path, name: str) -> None:
    shutil.copytree(trained / "run", disk / "run")
    for earlier in ("evaluation.json", "evaluation.md", "energy.json", "energy.md"):
        if name in ("evaluate", "energy"):
            (disk / "run" / earlier).write_text("of an earlier time")
    arguments = [part.replace("RUN", str(disk / "run")).replace("DISK", str(disk)) for part in COMMANDS[name]]
    before = contents(disk)
    with filled(disk, free=0):
        code, _, err = command(*arguments)
        refused(disk, code, err)
        assert contents(disk) == before
    code, _, err = command(*arguments)
    assert code == 0, err


def test_a_nir_graph_on_a_full_disk_is_reported(disk: Path):
    spec = {"input_shapes": {"gas": (64,)}, "num_classes": 2, "channels": 64}
    model = ModelSpec.model_validate({**spec, "fusion": {"kind": "none"}, "alignment": None}).build().eval()
    out = disk / "gas.nir"
    with filled(disk, free=4096), pytest.raises(OSError, match=FULL), atomic_write(out) as part:
        save_nir(model, "gas", part)
    assert not contents(disk)
    with atomic_write(out) as part:
        save_nir(model, "gas", part)
    assert out.is_file()


def test_a_training_on_a_full_disk_resumes_when_there_is_space(trained: Path, disk: Path):
    """Try with more and more space, so that each time a different file does not fit."""
    options = tiny_options(trained / "data", disk / "run")
    options[options.index("--train.epochs") + 1] = "1"
    reached = set[str]()
    for free in (0, 8192, 20480, 49152, 131072, 262144, 524288):
        with filled(disk, free=free):
            code, _, err = command("train", *options, "--resume")
            if code == 0:
                break
            refused(disk, code, err)
            reached.add(next(line for line in err.splitlines() if line.startswith("scmrl: ")))
            assert not list((disk / "run").rglob("*.part"))
    assert len(reached) >= 3, reached
    code, _, err = command("train", *options, "--resume")
    assert code == 0, err
    assert outcome(disk / "run") == outcome(trained / "run")


def test_tables_and_plots_of_a_study_on_a_full_disk_are_unchanged(trained: Path, disk: Path):
    spec = study(SensitivitySpec, trained / "data", disk / "study", "--vary", "train.weight_decay=0", "--seeds", "0")
    run_here(spec)
    options = tiny_options(trained / "data", disk / "study")
    options[options.index("--train.epochs") + 1] = "1"
    for name in ("results.json", "results.md"):
        (disk / "study" / name).write_text("of an earlier time")
    again = ("study", "sensitivity", *options, "--vary", "train.weight_decay=0", "--seeds", "0", "--jobs", "0")
    for free in (0, 16384):
        with filled(disk, free=free):
            before = contents(disk)
            code, _, err = command(*again)
            refused(disk, code, err)
            now = contents(disk)
            assert now.keys() == before.keys()
            assert all(now[disk / "study" / name] == b"of an earlier time" for name in ("results.json",))
    code, _, err = command(*again)
    assert code == 0, err
