"""What `check` finds on disk, told of a made-up dataset whose every file is known."""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datasets.formats.made_up import CARD, MadeUpSpec, write_made_up
from snn_datasets.card import DatasetCard, FileSet
from snn_datasets.check import SOME, Finding, PublishedFile, check, published_table, summary
from snn_datasets.dataset import DatasetSplits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_made_up(tmp_path / "weather")
    return tmp_path / "weather"


def complaints(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.severity != "note"]


def only(findings: list[Finding]) -> Finding:
    (finding,) = (finding for finding in findings if finding.severity != "note")
    return finding


def with_card(files: tuple[FileSet, ...]) -> type[MadeUpSpec]:
    class OfThatCard(MadeUpSpec):
        @classmethod
        def card(cls) -> DatasetCard:
            return CARD.model_copy(update={"files": files})

    return OfThatCard


def with_published(monkeypatch: pytest.MonkeyPatch, table: Mapping[str, PublishedFile]) -> type[MadeUpSpec]:
    """The dataset with a packaged table of its pictures."""
    monkeypatch.setattr("snn_datasets.check.published_table", lambda name: {"weather": table}[name])
    return with_card((FileSet(pattern="pictures/*.raw", what="gray pictures", checksums="weather"),))


def published(root: Path) -> dict[str, PublishedFile]:
    return {
        f"pictures/{path.name}": PublishedFile(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (root / "pictures").iterdir()
    }


def test_of_a_sound_copy_it_tells_what_was_looked_at(root: Path):
    assert [str(finding) for finding in check(MadeUpSpec(root=root), hashes=True, read="all")] == [
        "note: 12 files pictures/*.raw (gray pictures)",
        "note: no hashes are published for the files pictures/*.raw",
        "note: 12 files traces/*.txt (pressure and wind)",
        "note: no hashes are published for the files traces/*.txt",
        "note: no files diary.md (what was seen); they are not required",
        "note: samples: 6 train, 2 val, 4 test",
        "note: 12 of 12 recordings of picture were read",
        "note: 12 of 12 recordings of trace were read",
    ]


def test_nothing_is_read_or_kept_unless_asked_for(root: Path, tmp_path: Path):
    (root / "traces" / "test_calm_0.txt").write_text("wind", encoding="utf-8")
    spec = MadeUpSpec(root=root, cache_folder=tmp_path / "cache")
    assert complaints(check(spec, read="none")) == []
    assert len(complaints(check(spec, read="all"))) == 1
    assert not (tmp_path / "cache").exists()


def test_progress_ends_at_its_total_and_never_goes_back(root: Path):
    calls: list[tuple[int, int]] = []
    check(MadeUpSpec(root=root), read="all", progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == list(range(1, 49))
    assert calls[-1] == (48, 48)
    assert [total for _, total in calls] == sorted(total for _, total in calls)


@pytest.mark.parametrize("made", ["nothing", "a file"])
def test_a_root_that_is_no_folder_is_told_with_the_layout(tmp_path: Path, made: str):
    root = tmp_path / "nowhere"
    if made == "a file":
        root.touch()
    finding = only(check(MadeUpSpec(root=root)))
    assert (finding.severity, finding.path) == ("error", root)
    assert finding.problem == {"nothing": "is not there", "a file": "is a file, not a folder"}[made]
    assert finding.advice.startswith("get them\n  from a drawer\n")
    assert "pictures/*.raw  (gray pictures)" in finding.advice


def test_a_missing_folder_is_named(root: Path):
    (root / "traces").rename(root / "attic")
    (finding,) = (finding for finding in check(MadeUpSpec(root=root), read="none") if finding.severity == "error")
    assert finding.path == root / "traces"
    assert finding.problem == "is not there; traces/*.txt (pressure and wind) belong there"
    assert finding.advice.startswith("get them\n  from a drawer\nwhich have to lie there as\n  pictures/*.raw")


def test_what_keeps_a_dataset_from_opening_is_told_once_and_the_layout_too(root: Path):
    class NeedsAll(MadeUpSpec):
        def build(self, progress: object = None) -> DatasetSplits:
            raise FileNotFoundError(f"no traces under {self.root}")

    for folder in ("pictures", "traces"):
        (root / folder).rename(root / f"old {folder}")
    findings = check(NeedsAll(root=root))
    wrong = [finding for finding in findings if finding.severity == "error"]
    assert [finding.path for finding in wrong] == [root / "pictures", root / "traces"]
    assert [len(finding.advice.splitlines()) for finding in wrong] == [6, 1]
    assert "note: no recording was read, since the dataset cannot be opened like this" in map(str, findings)
    (root / "old pictures").rename(root / "pictures")
    (root / "old traces").rename(root / "traces")
    assert str(only(check(NeedsAll(root=root)))) == f"error: no traces under {root}; fetch it again"


def test_a_sense_that_is_not_read_need_not_lie_there(root: Path):
    (root / "traces").rename(root / "attic")
    assert complaints(check(MadeUpSpec(root=root, modalities=("picture",)), read="all")) == []


def test_an_unknown_sense_is_the_users_mistake(root: Path):
    with pytest.raises(ValueError, match=r"'smell'.*picture, trace"):
        check(MadeUpSpec(root=root, modalities=("smell",)))


def test_a_folder_in_other_letters_is_recognized(root: Path):
    (root / "traces").rename(root / "Traces")
    finding = next(finding for finding in check(MadeUpSpec(root=root)) if finding.severity == "error")
    assert (finding.problem, finding.advice) == (
        "is not there, but Traces is",
        "rename it: upper and lower case count",
    )


@pytest.mark.parametrize("off", [".", "pictures"])
def test_a_root_one_folder_off_is_answered_with_the_right_one(root: Path, off: str):
    wrong = root.parent if off == "." else root / off
    found = check(MadeUpSpec(root=wrong), read="none")
    assert [finding.advice for finding in found if finding.severity == "error"] == [f"give {root} as the root"] * 2


def test_an_incomplete_copy_is_a_warning(root: Path):
    for sense, ending in (("pictures", "raw"), ("traces", "txt")):
        (root / sense / f"test_calm_0.{ending}").unlink()
    findings = check(MadeUpSpec(root=root))
    assert complaints(findings) == [
        f"warning: {root}: 11 files pictures/*.raw, where the complete dataset has 12; fetch the rest",
        f"warning: {root}: 11 files traces/*.txt, where the complete dataset has 12; fetch the rest",
    ]
    assert summary(findings) == "2 warnings were found"


def test_surplus_files_are_a_warning(root: Path):
    (root / "pictures" / "test_calm_2.raw").rename(root / "pictures" / "test_calm_20.raw")
    (root / "pictures" / "test_calm_2.raw").write_bytes(bytes(12))
    assert only(check(MadeUpSpec(root=root), read="none")).advice == "remove what does not belong there"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "is a Git-LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    ],
)
def test_what_a_failed_download_leaves_is_told_once(root: Path, content: bytes, problem: str):
    path = root / "pictures" / "val_calm_0.raw"
    path.write_bytes(content)
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert (finding.severity, finding.path) == ("error", path)
    assert finding.problem.startswith(problem)
    assert finding.advice


def test_a_file_that_the_reader_refuses_is_told_in_its_words(root: Path):
    path = root / "pictures" / "val_calm_0.raw"
    path.write_bytes(bytes(7))
    assert str(only(check(MadeUpSpec(root=root), read="all"))) == (
        f"error: {path}: has 7 bytes instead of 12; draw it again"
    )


def test_a_missing_partner_is_told(root: Path):
    spec = with_card(CARD.files[:1])(root=root)
    path = root / "traces" / "val_calm_0.txt"
    path.unlink()
    assert str(only(check(spec, read="all"))) == f"error: {path}: is not there; fetch it again"


def test_a_recording_that_comes_out_in_another_shape_is_told(root: Path):
    path = root / "traces" / "val_calm_0.txt"
    path.write_text("1000 1\n" * 3, encoding="utf-8")  # three seconds, where five are promised
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert finding.path == path
    assert "(3, 2)" in finding.problem
    assert "(5, 2)" in finding.problem


def test_sizes_are_compared_with_the_published_ones(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    assert complaints(check(spec)) == []
    path = root / "pictures" / "val_storm_1.raw"
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    assert str(only(check(spec, read="all"))) == (
        f"error: {path}: has 5 of 12 bytes: the download was cut off; fetch it again"
    )
    path.write_bytes(whole + b"!")
    assert only(check(spec)).problem == "has 13 bytes, not 12: it is another version or was changed"


def test_hashes_are_compared_when_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    findings = check(spec, hashes=True)
    assert complaints(findings) == []
    assert "note: 12 files pictures/*.raw were compared with published hashes" in map(str, findings)
    path = root / "pictures" / "train_calm_4.raw"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(bytes(12))
    assert complaints(check(spec)) == []
    assert str(only(check(spec, hashes=True))) == (
        f"error: {path}: its SHA256 is not the published {right[:12]}...: it is damaged or was changed; fetch it again"
    )


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_the_few_hashes_of_a_card_are_compared_too(root: Path, algorithm: str):
    path = root / "pictures" / "train_calm_4.raw"
    digest = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    said: dict[str, Any] = {algorithm: {"pictures/train_calm_4.raw": digest.upper()}}
    spec = with_card((FileSet(pattern="pictures/*.raw", what="pictures", **said),))(root=root)
    assert complaints(check(spec, hashes=True)) == []
    path.write_bytes(bytes(12))
    assert algorithm.upper() in only(check(spec, hashes=True)).problem


def test_missing_and_foreign_files_are_told_by_name(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    (root / "pictures" / "test_calm_0.raw").rename(root / "pictures" / "test_calm_90.raw")
    (root / "traces" / "test_calm_0.txt").rename(root / "traces" / "test_calm_90.txt")
    said = [str(finding) for finding in check(spec)]
    assert f"warning: {root}: 1 published files are missing: pictures/test_calm_0.raw; fetch the rest" in said
    assert f"note: {root}: 1 files are none of the published ones: pictures/test_calm_90.raw" in said


def test_a_packaged_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "checksums").mkdir()
    rows = "file,bytes,sha256\nAudioWAV/a.wav,7,00ff\n"
    (tmp_path / "checksums" / "tones.csv.gz").write_bytes(gzip.compress(rows.encode()))
    monkeypatch.setattr("snn_datasets.check.resources", lambda package: {"snn_datasets": tmp_path}[package])
    assert published_table("tones") == {"AudioWAV/a.wav": PublishedFile(7, "00ff")}


def test_reading_some_takes_the_first_and_the_last_of_many(root: Path):
    for number in range(10, 100):
        for folder, ending in (("pictures", "raw"), ("traces", "txt")):
            data = (root / folder / f"train_calm_0.{ending}").read_bytes()
            (root / folder / f"train_calm_{number}.{ending}").write_bytes(data)
    broken = sorted((root / "traces").iterdir())
    ordered = [*(p for p in broken if "train" in p.name), *(p for p in broken if "val" in p.name)]
    ordered += [path for path in broken if "test" in path.name]
    ordered[0].write_text("wind", encoding="utf-8")
    ordered[-1].write_text("wind", encoding="utf-8")
    findings = check(MadeUpSpec(root=root), read="some")
    assert [finding.path for finding in findings if finding.severity == "error"] == [ordered[0], ordered[-1]]
    assert f"note: {SOME} of 102 recordings of trace were read" in map(str, findings)


def test_an_empty_split_is_an_error(root: Path):
    for path in root.glob("*/val_*"):
        path.unlink()
    assert "error: no sample belongs to the split val; fetch the rest of the dataset" in complaints(
        check(MadeUpSpec(root=root))
    )


def test_a_defect_of_the_code_is_told_without_a_traceback(root: Path):
    class Broken(MadeUpSpec):
        def build(self, progress: object = None) -> DatasetSplits:
            raise KeyError("storm")

    finding = only(check(Broken(root=root)))
    assert finding.problem == "the dataset cannot be opened: KeyError: 'storm'"
    assert finding.advice == "this is a defect of the dataset's code: please report it"


def test_a_missing_package_is_told_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    def read(reader: object, source: object) -> None:
        raise ImportError('reading traces needs barometer; pip install "weather[all]"')

    monkeypatch.setattr("datasets.formats.made_up.TraceReader.read", read)
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert 'pip install "weather[all]"' in finding.problem


def test_a_file_that_may_not_be_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = root / "pictures" / "val_calm_0.raw"

    def locked(other: Path) -> None:
        if other == path:
            raise PermissionError(13, "Permission denied", str(other))

    monkeypatch.setattr("snn_datasets.check.placeholder", locked)
    assert str(only(check(MadeUpSpec(root=root)))) == (
        f"error: {path}: cannot be opened: Permission denied; allow reading it"
    )


def test_the_summary_counts():
    error, warning = Finding("error", None, "bad"), Finding("warning", None, "odd")
    assert summary([Finding("note", None, "fine")]) == "nothing wrong was found"
    assert summary([error]) == "1 error was found"
    assert summary([error, error, warning]) == "2 errors and 1 warning were found"


def test_files_with_the_same_fault_are_alike_whatever_their_names_and_sizes():
    cut = [
        Finding("error", Path(f"{number}.wav"), f"has {number:,} of {2 * number:,} bytes: the download was cut off", "")
        for number in (7, 1_000, 25_300)
    ]
    assert len({finding.fault for finding in cut}) == 1
    hashes = [
        Finding("error", Path("a"), f"its SHA256 is not the published {digest}...: it is damaged or was changed", "")
        for digest in ("00aabbccddee", "c6f94b259248")
    ]
    assert len({finding.fault for finding in hashes}) == 1
    samples = [Finding("error", Path("a"), f"audio of sample {name!r} cannot be read: no", "") for name in ("a", "b/c")]
    assert len({finding.fault for finding in samples}) == 1
    assert cut[0].fault != hashes[0].fault != samples[0].fault
