"""`scmrl data` from the command line."""

import io
import os
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image

from datasets.writers.made_up import MadeUpSpec, write_made_up
from scmrl import cli
from scmrl.commands import data as data_commands
from scmrl.commands.data import size_text
from snn_datasets import DATASETS
from snn_datasets.cache.folder import cache_folder, entries
from snn_datasets.check import Finding

DAY = 86400


@pytest.fixture(autouse=True)
def _made_up_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DATASETS._models, "made-up", MadeUpSpec)
    monkeypatch.setenv("SNN_DATASETS_CACHE", str(tmp_path / "caches"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_made_up(tmp_path / "weather")
    return tmp_path / "weather"


def data(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `scmrl data` in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["scmrl", "data", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code is None or isinstance(end.value.code, int)
    return end.value.code or 0


def test_the_list_names_what_there_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert data(monkeypatch, "list") == 0
    printed = capsys.readouterr()
    line = next(line for line in printed.out.splitlines() if line.startswith("made-up"))
    assert " ".join(line.split()) == "made-up Images and traces of weather image (image) CC0-1.0 on disk"
    assert next(line for line in printed.out.splitlines() if line.startswith("digits")).split()[-1] == "embedded"


def test_a_broken_package_is_named_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    broken = EntryPoint("smell", "no_such_package.nose:NoseSpec", "snn_datasets.datasets")
    monkeypatch.setitem(DATASETS._offered, "smell", broken)
    assert data(monkeypatch, "list") == 0
    printed = capsys.readouterr()
    assert "made-up" in printed.out
    assert "smell" not in printed.out
    assert "'smell'" in printed.err
    assert "no_such_package" in printed.err


def test_show_prints_the_card_and_the_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert data(monkeypatch, "show", "made-up") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("made-up: Images and traces of weather, version 2\n")
    assert "images/*.raw: gray images; 12 files; for image" in printed
    assert "--root" in printed
    assert "--time_steps" in printed


@pytest.mark.parametrize("command", [("show",), ("check",), ("prepare",)])
def test_an_unknown_dataset_lists_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
):
    assert data(monkeypatch, *command, "maid-up") == 2
    message = capsys.readouterr().err
    assert "'maid-up'" in message
    assert "did you mean made-up?" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "command", [(), ("check",), ("prepare",), ("cache",), ("cache", "prune"), ("check", "made-up")]
)
def test_every_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
):
    assert data(monkeypatch, *command, "--help") == 0
    assert f"Usage: scmrl data {' '.join(command)}".rstrip() in capsys.readouterr().out


def test_help_of_a_dataset_shows_the_options_of_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert data(monkeypatch, "prepare", "made-up", "--help") == 0
    prepare = capsys.readouterr().out
    assert data(monkeypatch, "check", "--help", "made-up") == 0
    check = capsys.readouterr().out
    assert "--workers" in prepare
    assert "--[no-]hashes" in check
    assert "--hashes" not in prepare
    assert "--time_steps" in prepare
    data(monkeypatch, "check", "--help")
    assert "one of ave, crema-d" in capsys.readouterr().out


def test_a_missing_dataset_name_is_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert data(monkeypatch, "show") == 2
    assert "KIND" in capsys.readouterr().err


def test_a_sound_copy_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path):
    assert data(monkeypatch, "check", "made-up", "--root", str(root), "--read", "all") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "made-up: no problems"
    assert "note: 12 of 12 recordings of trace were read" in printed.out


def test_problems_are_reported_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
):
    for path in (root / "images").glob("t*.raw"):
        path.write_bytes(b"")
    (root / "traces" / "val_calm_0.txt").unlink()
    assert data(monkeypatch, "check", "made-up", "--root", str(root), "--read", "all") == 1
    lines = capsys.readouterr().out.splitlines()
    # Ten files are empty: five are named, the others counted; errors come last.
    assert [line for line in lines if line.startswith("error")] == lines[-8:-1]
    assert lines[-2] == "error: 5 more: is empty; fetch it again"
    assert len([line for line in lines if line.endswith(".raw: is empty; fetch it again")]) == 5
    assert lines[-1] == "made-up: 11 errors and 1 warning"


def test_hashes_are_compared_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
):
    assert data(monkeypatch, "check", "made-up", "--root", str(root), "--hashes", "--read", "none") == 0
    printed = capsys.readouterr().out
    assert "no checksums are published for images/*.raw" in printed
    assert "were read" not in printed


def test_a_misspelled_option_is_a_mistake_reported_as_in_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
):
    assert data(monkeypatch, "check", "made-up", "--rot", str(root), "--time-steps", "9") == 2
    assert capsys.readouterr().err.splitlines() == [
        "scmrl: --rot: no such option (did you mean --root?); there are: modalities, seed, root, on_error, cache, "
        "cache_folder, cache_limit_gb, prepare_workers, kind, time_steps, hashes, read",
        "scmrl: --root is required",
        "scmrl: --time_steps = 9: must be a whole number ≥ 1 and ≤ 7",
    ]


def test_an_unknown_modality_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
):
    assert data(monkeypatch, "check", "made-up", "--root", str(root), "--modalities", "smell") == 2
    assert "'smell'" in capsys.readouterr().err


def test_prepare_fills_the_cache(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path):
    assert data(monkeypatch, "prepare", "made-up", "--root", str(root), "--modalities", "trace") == 0
    printed = capsys.readouterr().out
    assert printed == f"made-up: 6 train, 2 val, 4 test samples are ready, in {cache_folder() / 'made-up'}\n"
    (entry,) = entries(cache_folder())
    assert (entry.dataset, entry.modality, entry.samples, entry.bytes) == ("made-up", "trace", 12, 12 * 5 * 2 * 4)


def test_prepare_passes_its_workers_on(monkeypatch: pytest.MonkeyPatch, root: Path):
    counts: list[int] = []
    build = MadeUpSpec.build

    def watched(spec: MadeUpSpec, progress: object = None) -> object:
        counts.append(spec.prepare_workers)
        return build(spec)

    monkeypatch.setattr(MadeUpSpec, "build", watched)
    assert data(monkeypatch, "prepare", "made-up", "--root", str(root)) == 0
    monkeypatch.setattr(MadeUpSpec, "model_copy", lambda spec, update: counts.append(update["prepare_workers"]) or spec)
    assert data(monkeypatch, "prepare", "made-up", "--root", str(root), "--workers", "3") == 0
    assert counts == [0, 3, 0]


def test_prepare_refuses_a_dataset_without_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
):
    assert data(monkeypatch, "prepare", "digits") == 2
    assert "needs no preparation" in capsys.readouterr().err
    assert data(monkeypatch, "prepare", "made-up", "--root", str(root), "--cache", "off") == 2
    assert "--cache off" in capsys.readouterr().err


def test_init_writes_a_manifest_and_prints_the_next_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for name in ("cat_1", "cat_2", "dog_1", "dog_2"):
        Image.new("L", (4, 3), 90).save(tmp_path / f"{name}.png")
    assert data(monkeypatch, "init", str(tmp_path), "--output", "my pets.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'my pets.csv'}: 4 samples of 2 classes"
    assert lines[-2] == f"scmrl data check manifest --root {tmp_path} --manifest 'my pets.csv'"
    assert lines[-1] == (
        f"scmrl train --data.kind manifest --data.root {tmp_path} --data.manifest 'my pets.csv' --data.modalities image"
    )
    written = (tmp_path / "my pets.csv").read_text()
    assert len(written.splitlines()) == 5
    assert data(monkeypatch, "init", str(tmp_path), "--output", "my pets.csv") == 2
    assert "my pets.csv" in capsys.readouterr().err
    assert (tmp_path / "my pets.csv").read_text() == written


def test_a_manifest_from_init_passes_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for index, split in enumerate(("train", "val", "test")):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(2):
                brightness = 50 + 90 * number + 10 * index + 5 * (label == "dog")
                Image.new("L", (16, 16), brightness).save(tmp_path / split / label / f"{label}{number}.png")
    assert data(monkeypatch, "init", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"scmrl data check manifest --root {tmp_path}"
    assert data(monkeypatch, "check", "manifest", "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "manifest: no problems"


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """Two caches: of traces, just used, and of images, used 40 days ago."""
    assert data(monkeypatch, "prepare", "made-up", "--root", str(root)) == 0
    capsys.readouterr()
    by_modality = {entry.modality: entry.folder for entry in entries(cache_folder())}
    then = time.time() - 40 * DAY
    os.utime(by_modality["image"], (then, then))
    return [by_modality["trace"], by_modality["image"]]


def test_the_caches_are_listed_with_the_last_used_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: list[Path]
):
    assert data(monkeypatch, "cache", "list") == 0
    header, first, second, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["dataset", "modality", "samples", "size", "last", "used", "folder"]
    assert first.split()[:5] == ["made-up", "trace", "12", "480", "B"]
    assert second.split()[:5] == ["made-up", "image", "12", "144", "B"]
    assert first.split()[-1] == f"made-up/{caches[0].name}"
    assert total == f"2 caches, 624 B in {cache_folder()}"


def test_no_cache_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert data(monkeypatch, "cache", "list", "--folder", str(tmp_path / "other")) == 0
    assert capsys.readouterr().out == f"no caches in {tmp_path / 'other'}\n"


def test_prune_removes_long_unused_caches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: list[Path]
):
    assert data(monkeypatch, "cache", "prune", "--yes") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("removed 1 of 2 caches, which frees 144 B")
    assert [path.is_dir() for path in caches] == [True, False]
    assert data(monkeypatch, "cache", "prune", "--unused-days", "0", "--dataset", "made-up", "--yes") == 0
    assert entries(cache_folder()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("", 2), ("y", 1)])
def test_prune_asks_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: list[Path], answer: str, left: int
):
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    assert data(monkeypatch, "cache", "prune") == 0
    printed = capsys.readouterr().out
    assert "made-up image: " in printed
    assert "made-up trace" not in printed
    assert "[y/N]" in printed
    assert len(entries(cache_folder())) == left


def test_prune_removes_nothing_without_consent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: list[Path]
):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert data(monkeypatch, "cache", "prune") == 2
    assert "--yes" in capsys.readouterr().err
    assert len(entries(cache_folder())) == 2


def test_prune_refuses_invalid_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: list[Path]
):
    assert data(monkeypatch, "cache", "prune", "--unused-days", "-1", "--yes") == 2
    assert data(monkeypatch, "cache", "prune", "--dataset", "weather", "--yes") == 2
    assert "there are: made-up" in capsys.readouterr().err
    assert len(entries(cache_folder())) == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (812, "812 B"), (999, "999 B"), (1000, "1 kB"), (3_240_000, "3.24 MB"), (999_600, "1 MB")],
)
def test_sizes_are_readable(size: int, text: str):
    assert size_text(size) == text


@pytest.mark.parametrize("arguments", [["data", "--help"], ["data", "list"], ["data", "check", "digits", "--help"]])
def test_help_and_list_load_no_torch(arguments: list[str]):
    code = f"""
import sys
from scmrl.cli import app

app({arguments!r}, result_action="return_value")
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_many_files_with_the_same_fault_are_a_few_lines(root: Path, capsys: pytest.CaptureFixture[str]):
    findings = [
        Finding("error", root / f"{number}.wav", f"has {number:,} of 90,000 bytes: the download was cut off", "again")
        for number in range(7_442)
    ]
    data_commands._print_findings(findings)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == data_commands.MAX_EQUAL_FINDINGS + 1
    assert lines[-1].endswith("more like these: has # of # bytes: the download was cut off; again")
