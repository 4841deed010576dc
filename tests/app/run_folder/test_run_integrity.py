"""A damaged or hostile run folder: nothing is executed, no traceback, no silently changed prediction."""

import contextlib
import io
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.finished import data_and_run, scmrl
from app.rewriting import rewrite
from app.tiny import tiny_options
from damage import mutated, planted_pickle
from scmrl.config.experiment import Experiment
from scmrl.console.progress import Progress
from scmrl.run_folder.files import read_experiment

READ = ("experiment.json", "inputs.json", "spec.json", "model.safetensors")
"""Files that affect predictions."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_and_run(tmp_path_factory.mktemp("trained"), test=4)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = scmrl(patch, *arguments)
    return code, out.getvalue(), err.getvalue()


def resumed(trained: Path, run: Path) -> list[str]:
    options = [*tiny_options(trained / "data", run), "--resume"]
    options[options.index("--train.epochs") + 1] = "1"
    return options


def evaluate(trained: Path, run: Path) -> tuple[int, str, str]:
    return command("evaluate", run, "--bootstrap", "1")


def predict(trained: Path, run: Path) -> tuple[int, str, str]:
    return command("predict", run, f"image={trained / 'data' / 'test1.png'}", "--json")


def resume(trained: Path, run: Path) -> tuple[int, str, str]:
    code, _, err = command("train", *resumed(trained, run))
    test = json.loads((run / "summary.json").read_text())["test"] if code == 0 else {}
    return code, json.dumps(test), err


Use = Callable[[Path, Path], tuple[int, str, str]]
USES: list[Use] = [evaluate, predict, resume]


def refuse_or_answer_the_same(trained: Path, run: Path, use: Use, name: str, n: int):
    code, expected, _ = use(trained, run)
    assert code == 0
    whole, rng, refused = (run / name).read_bytes(), random.Random(f"{name} {n}"), 0
    for number in range(n):
        (run / name).write_bytes(mutated(whole, rng))
        code, printed, err = use(trained, run)
        assert "Traceback" not in err, (name, number)
        if code == 0:
            assert printed == expected, (name, number)
        else:
            refused += 1
            assert code == 2, (name, number, err)
            assert str(run / name) in err, (name, number, err)
            assert len([line for line in err.splitlines() if line.startswith("scmrl: ")]) == 1, (name, number, err)
        (run / name).write_bytes(whole)
    assert refused > n // 2


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_damaged_file_is_named_or_changes_nothing(trained: Path, run: Path, use: Use, name: str):
    refuse_or_answer_the_same(trained, run, use, name, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_300_mutations_of_each_file(trained: Path, run: Path, use: Use, name: str):
    refuse_or_answer_the_same(trained, run, use, name, 300)


def every_command(trained: Path, run: Path, out: Path) -> None:
    from scmrl.demo.session import open_demo

    out.mkdir()
    for arguments in (
        ("evaluate", run, "--bootstrap", "1"),
        ("predict", run, f"image={trained / 'data' / 'test1.png'}"),
        ("energy", run, "--samples", "2"),
        ("explain", run, "--samples", "1", "--out", out / "explained"),
        ("export", run, "--format", "nir", "--out", out / "x.nir"),
        ("report", run, "--out", out / "report.html"),
        ("train", *resumed(trained, run)),
    ):
        code, _, err = command(*arguments)
        assert code in (0, 2), (arguments, err)
        assert "Traceback" not in err, (arguments, err)
    with contextlib.suppress(ValueError, OSError), Progress.create() as progress:
        open_demo(run, progress)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["replaced", "appended"])
def test_a_pickle_in_any_file_of_a_run_folder_is_never_loaded(trained: Path, run: Path, tmp_path: Path, field: str):
    """Replace files that may end a command separately, so that none hides another; the rest together."""
    marker = tmp_path / "executed"
    planted = planted_pickle(marker)
    every_command(trained, run, tmp_path / "first")  # also writes evaluation.json, energy.json and figures
    every = sorted(path for path in run.rglob("*") if path.is_file())
    alone = [path for path in every if path.parent == run and path.suffix in (".json", ".jsonl", ".safetensors")]
    assert {path.name for path in alone} > {*READ, "evaluation.json", "energy.json", "summary.json"}
    for number, paths in enumerate([*([path] for path in alone), [path for path in every if path not in alone]]):
        whole = {path: path.read_bytes() for path in paths}
        for path in paths:
            path.write_bytes(planted if field == "replaced" else whole[path] + planted)
        every_command(trained, run, tmp_path / f"{number}")
        assert not marker.exists(), paths
        for path in paths:
            path.write_bytes(whole[path])


@pytest.mark.parametrize("name", [*READ, "checkpoints"])
def test_a_pickle_in_place_of_a_file_is_not_loaded(trained: Path, run: Path, tmp_path: Path, name: str):
    marker = tmp_path / "executed"
    planted = planted_pickle(marker)
    paths = [path for path in (run / name).rglob("*") if path.is_file()] if name == "checkpoints" else [run / name]
    for path in paths:
        path.write_bytes(planted)
    uses = [resume] if name == "checkpoints" else USES
    for use in uses:
        code, _, err = use(trained, run)
        assert "Traceback" not in err
        assert code in (0, 2)
    assert not marker.exists()


@pytest.mark.slow
def test_a_pickle_in_a_cache_is_not_loaded(trained: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    marker, cache = tmp_path / "executed", tmp_path / "cache"
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(cache))
    assert evaluate(trained, run)[0] == 0
    planted = planted_pickle(marker)
    for path in sorted(path for path in cache.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for content in (planted, whole + planted):
            path.write_bytes(content)
            code, _, err = evaluate(trained, run)
            assert code in (0, 2)
            assert "Traceback" not in err
            assert command("data", "cache", "list")[0] in (0, 2)
    assert not marker.exists()


def test_settings_of_another_version_are_reported_in_one_line(run: Path):
    rewrite(run / "experiment.json", lambda e: e["train"].update(epochs=-1))
    with pytest.raises(ValueError, match=r"experiment\.json cannot be read by this version of scmrl: train\.epochs"):
        read_experiment(run)


def test_a_file_that_is_nested_too_deeply_is_damaged(run: Path):
    (run / "experiment.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"experiment\.json is damaged: it is nested too deep"):
        read_experiment(run)


def test_a_hand_edited_file_is_refused(run: Path):
    text = (run / "experiment.json").read_text()
    (run / "experiment.json").write_text(text.replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ValueError, match="its checksum does not match"):
        read_experiment(run)


@pytest.mark.parametrize("edited", [False, True])
def test_the_experiment_of_a_run_is_a_configuration_file(run: Path, edited: bool):
    from scmrl.commands.spec import read_experiment as read_settings

    path = run / "experiment.json"
    expected = read_experiment(run, keep_cache_folder=True)
    if edited:
        path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 4', 1))
        expected = expected.model_copy(update={"train": expected.train.model_copy(update={"batch_size": 4})})
    assert read_settings(("--config", str(path)), Experiment) == expected
    code, _, err = command("spec", "check", path)
    assert (code, err) == (0, "")
    rewritten = path.read_text().replace('"seed": 0,', '"seed": 0, "sha257": "x",', 1)
    path.write_text(rewritten)
    code, _, err = command("spec", "check", path)
    assert code != 0
    assert "sha257" in err


@pytest.mark.skipif(sys.platform == "win32", reason="paths are written in another way there")
def test_a_failed_write_names_the_path_and_keeps_the_old_file(run: Path, monkeypatch: pytest.MonkeyPatch):
    from scmrl.run_folder.atomic import write_text

    (run / "evaluation.json").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"evaluation\.json cannot be written: the disk is full: free some space"):
        write_text(run / "evaluation.json", "new")
    assert (run / "evaluation.json").read_text() == "old"
    assert not list(run.glob("*.part"))
