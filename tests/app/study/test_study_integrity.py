"""Damaged or malicious study folders: nothing in them is executed, and the error is one line."""

import shutil
from pathlib import Path

import pytest

from app.run_folder.test_run_integrity import command
from app.studies import run_here, study
from app.tiny import tiny_options, write_tiny_dataset
from damage import planted_pickle
from scmrl.study.queue.worker import run_worker
from scmrl.study.sensitivity.spec import SensitivitySpec

VARY = ("--vary", "train.weight_decay=0")
POINT = "weight-decay=0-seed0"
GARBAGE = {
    "binary, not text": b"\x80\x04\x95\xff\xfe\n",
    "not JSON": b"{\n",
    "JSON of another kind": b"7\n",
    "an unknown operation": b'{"op_code": 99, "worker_id": "x"}\n',
    "an operation without its fields": b'{"op_code": 4, "worker_id": "x"}\n',
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data and a study of one training."""
    folder = tmp_path_factory.mktemp("studied")
    (folder / "data").mkdir()
    data = write_tiny_dataset(folder / "data", train=24, test=4)
    _, findings, failures = run_here(study(SensitivitySpec, data, folder / "study", *VARY, "--seeds", "0"))
    assert findings is not None
    assert not failures
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "study", tmp_path / "study"))


def again(finished: Path, folder: Path) -> tuple[int, str, str]:
    """Run the same command without worker processes."""
    options = tiny_options(finished / "data", folder)
    options[options.index("--train.epochs") + 1] = "1"
    return command("study", "sensitivity", *options, *VARY, "--seeds", "0", "--jobs", "0")


def every_command(finished: Path, folder: Path) -> None:
    results = [again(finished, folder)]
    if results[0][0] == 0 or "no training has finished yet" in results[0][2]:
        run_worker(folder)  # as a worker process does
        results.append(again(finished, folder))
    results.append(command("report", folder, "--out", folder.parent / "report.html"))
    results.append(command("evaluate", folder / "points" / POINT, "--bootstrap", "1"))
    for code, _, err in results:
        assert "Traceback" not in err
        assert "bug in scmrl" not in err
        assert code in (0, 1, 2), err
        assert code == 0 or err.startswith("scmrl: "), err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replaced", "appended"])
def test_a_pickle_in_any_file_of_a_study_folder_is_never_loaded(
    finished: Path, folder: Path, tmp_path: Path, mode: str
):
    """Files that may end a command are replaced one at a time; the others together."""
    marker = tmp_path / "executed"
    planted = planted_pickle(marker)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    fatal = [path for path in files if path.suffix in (".json", ".jsonl", ".log", ".safetensors")]
    names = {path.name for path in fatal}
    assert names > {"study.json", "results.json", "journal.log", f"{POINT}.log", "experiment.json", "model.safetensors"}
    for paths in [*([path] for path in fatal), [path for path in files if path not in fatal]]:
        copy = shutil.copytree(folder, tmp_path / "copy")
        for path in paths:
            target = copy / path.relative_to(folder)
            target.write_bytes(planted if mode == "replaced" else target.read_bytes() + planted)
        every_command(finished, copy)
        assert not marker.exists(), paths
        shutil.rmtree(copy)


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("mode", ["replaced", "appended"])
def test_a_damaged_journal_is_reported_in_one_line(finished: Path, folder: Path, mode: str, content: bytes):
    journal = folder / "journal.log"
    before = (folder / "results.json").read_bytes()
    journal.write_bytes(content if mode == "replaced" else journal.read_bytes() + content)
    damaged = journal.read_bytes()
    code, _, err = again(finished, folder)
    assert code == 2
    assert err.startswith(f"scmrl: {journal} is damaged (")
    assert len(err.splitlines()) == 1
    assert journal.read_bytes() == damaged
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize("name", ["study.json", "results.json"])
@pytest.mark.parametrize("content", [b"\x80\x04\xff", b"[" * 200_000, b"7", b"{}"], ids=["bytes", "deep", "7", "{}"])
def test_a_damaged_json_file_of_a_study_is_reported_in_one_line(
    finished: Path, folder: Path, name: str, content: bytes
):
    (folder / name).write_bytes(content)
    if name == "study.json":
        code, _, err = again(finished, folder)
    else:
        code, _, err = command("report", folder, "--out", folder.parent / "report.html")
    assert code == 2
    assert err.startswith("scmrl: ")
    assert str(folder) in err
    assert len(err.splitlines()) == 1
