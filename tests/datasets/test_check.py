"""What `check` finds on disk, told of a made-up dataset whose every file is known."""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from datasets.writers.made_up import CARD, MadeUpSpec, write_made_up
from snn_datasets.base.card import DatasetCard, FileSet
from snn_datasets.base.dataset import DatasetSplits
from snn_datasets.check import SAMPLE_SIZE, Finding, check, summary
from snn_datasets.loading.packaged import PublishedFile, published_table


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
        card: ClassVar[DatasetCard] = CARD.model_copy(update={"files": files})

    return OfThatCard


def with_published(monkeypatch: pytest.MonkeyPatch, table: Mapping[str, PublishedFile]) -> type[MadeUpSpec]:
    """The dataset with a packaged table of its images."""
    monkeypatch.setattr("snn_datasets.check.published_table", lambda name: {"weather": table}[name])
    return with_card((FileSet(pattern="images/*.raw", what="gray images", checksums="weather"),))


def published(root: Path) -> dict[str, PublishedFile]:
    return {
        f"images/{path.name}": PublishedFile(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (root / "images").iterdir()
    }


def test_a_sound_copy_reports_what_was_checked(root: Path):
    assert [str(finding) for finding in check(MadeUpSpec(root=root), hashes=True, read="all")] == [
        "note: 12 files images/*.raw (gray images)",
        "note: no checksums are published for images/*.raw",
        "note: 12 files traces/*.txt (pressure and wind)",
        "note: no checksums are published for traces/*.txt",
        "note: no files diary.md (what was seen); they are optional",
        "note: samples: 6 train, 2 val, 4 test",
        "note: 12 of 12 recordings of image were read",
        "note: 12 of 12 recordings of trace were read",
    ]


def test_nothing_is_read_or_cached_unless_requested(root: Path, tmp_path: Path):
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


@pytest.mark.parametrize("root_is", ["nothing", "a file"])
def test_a_root_that_is_no_folder_is_reported_with_the_layout(tmp_path: Path, root_is: str):
    root = tmp_path / "nowhere"
    if root_is == "a file":
        root.touch()
    finding = only(check(MadeUpSpec(root=root)))
    assert (finding.severity, finding.path) == ("error", root)
    assert finding.problem == {"nothing": "does not exist", "a file": "is a file, not a folder"}[root_is]
    assert finding.advice.startswith("fetch the files\n  from a drawer\n")
    assert "images/*.raw  (gray images)" in finding.advice


def test_a_missing_folder_is_named(root: Path):
    (root / "traces").rename(root / "attic")
    (finding,) = (finding for finding in check(MadeUpSpec(root=root), read="none") if finding.severity == "error")
    assert finding.path == root / "traces"
    assert finding.problem == "does not exist; traces/*.txt (pressure and wind) belong there"
    assert finding.advice.startswith("fetch the files\n  from a drawer\ninto this layout\n  images/*.raw")


def test_an_error_that_prevents_opening_is_reported_once_with_the_layout(root: Path):
    class NeedsAll(MadeUpSpec):
        def build(self, progress: object = None) -> DatasetSplits:
            raise FileNotFoundError(f"no traces under {self.root}")

    for folder in ("images", "traces"):
        (root / folder).rename(root / f"old {folder}")
    findings = check(NeedsAll(root=root))
    wrong = [finding for finding in findings if finding.severity == "error"]
    assert [finding.path for finding in wrong] == [root / "images", root / "traces"]
    assert [len(finding.advice.splitlines()) for finding in wrong] == [6, 1]
    assert "note: no recording was read, because the dataset cannot be opened" in map(str, findings)
    (root / "old images").rename(root / "images")
    (root / "old traces").rename(root / "traces")
    assert str(only(check(NeedsAll(root=root)))) == f"error: no traces under {root}; fetch it again"


def test_files_of_an_unselected_modality_are_not_needed(root: Path):
    (root / "traces").rename(root / "attic")
    assert complaints(check(MadeUpSpec(root=root, modalities=("image",)), read="all")) == []


def test_an_unknown_modality_is_the_users_mistake(root: Path):
    with pytest.raises(ValueError, match=r"'smell'.*image, trace"):
        check(MadeUpSpec(root=root, modalities=("smell",)))


def test_a_folder_in_other_case_is_recognized(root: Path):
    (root / "traces").rename(root / "Traces")
    finding = next(finding for finding in check(MadeUpSpec(root=root)) if finding.severity == "error")
    assert (finding.problem, finding.advice) == (
        "does not exist, but Traces does",
        "rename it: names are case sensitive",
    )


@pytest.mark.parametrize("off", [".", "images"])
def test_a_root_one_folder_off_suggests_the_right_one(root: Path, off: str):
    wrong = root.parent if off == "." else root / off
    findings = check(MadeUpSpec(root=wrong), read="none")
    assert [finding.advice for finding in findings if finding.severity == "error"] == [f"use {root} as the root"] * 2


def test_an_incomplete_copy_is_a_warning(root: Path):
    for modality, ending in (("images", "raw"), ("traces", "txt")):
        (root / modality / f"test_calm_0.{ending}").unlink()
    findings = check(MadeUpSpec(root=root))
    assert complaints(findings) == [
        f"warning: {root}: 11 files images/*.raw, but the complete dataset has 12; fetch the rest",
        f"warning: {root}: 11 files traces/*.txt, but the complete dataset has 12; fetch the rest",
    ]
    assert summary(findings) == "2 warnings"


def test_extra_files_are_a_warning(root: Path):
    (root / "images" / "test_calm_2.raw").rename(root / "images" / "test_calm_20.raw")
    (root / "images" / "test_calm_2.raw").write_bytes(bytes(12))
    assert only(check(MadeUpSpec(root=root), read="none")).advice == "remove files that do not belong there"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "is a Git-LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    ],
)
def test_a_failed_download_is_reported_once(root: Path, content: bytes, problem: str):
    path = root / "images" / "val_calm_0.raw"
    path.write_bytes(content)
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert (finding.severity, finding.path) == ("error", path)
    assert finding.problem.startswith(problem)
    assert finding.advice


def test_a_file_that_the_reader_refuses_is_reported_with_its_message(root: Path):
    path = root / "images" / "val_calm_0.raw"
    path.write_bytes(bytes(7))
    assert str(only(check(MadeUpSpec(root=root), read="all"))) == (
        f"error: {path}: has 7 bytes instead of 12; draw it again"
    )


def test_a_missing_partner_is_reported(root: Path):
    spec = with_card(CARD.files[:1])(root=root)
    path = root / "traces" / "val_calm_0.txt"
    path.unlink()
    assert str(only(check(spec, read="all"))) == f"error: {path}: does not exist; fetch it again"


def test_a_recording_that_comes_out_in_another_shape_is_reported(root: Path):
    path = root / "traces" / "val_calm_0.txt"
    path.write_text("1000 1\n" * 3, encoding="utf-8")  # three seconds, where five are promised
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert finding.path == path
    assert "(3, 2)" in finding.problem
    assert "(5, 2)" in finding.problem


def test_sizes_are_compared_with_the_published_ones(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    assert complaints(check(spec)) == []
    path = root / "images" / "val_storm_1.raw"
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    assert str(only(check(spec, read="all"))) == (
        f"error: {path}: has 5 of 12 bytes: the download was cut off; fetch it again"
    )
    path.write_bytes(whole + b"!")
    assert only(check(spec)).problem == "has 13 bytes, not 12: it is another version or was changed"


def test_hashes_are_compared_on_request(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    findings = check(spec, hashes=True)
    assert complaints(findings) == []
    assert "note: verified 12 checksums of images/*.raw" in map(str, findings)
    path = root / "images" / "train_calm_4.raw"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(bytes(12))
    assert complaints(check(spec)) == []
    assert str(only(check(spec, hashes=True))) == (
        f"error: {path}: its SHA256 is not the published {right[:12]}...: it is damaged or changed; fetch it again"
    )


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_the_few_hashes_of_a_card_are_compared_too(root: Path, algorithm: str):
    path = root / "images" / "train_calm_4.raw"
    digest = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    checksums: dict[str, Any] = {algorithm: {"images/train_calm_4.raw": digest.upper()}}
    spec = with_card((FileSet(pattern="images/*.raw", what="images", **checksums),))(root=root)
    assert complaints(check(spec, hashes=True)) == []
    path.write_bytes(bytes(12))
    assert algorithm.upper() in only(check(spec, hashes=True)).problem


def test_missing_and_unknown_files_are_reported_by_name(root: Path, monkeypatch: pytest.MonkeyPatch):
    spec = with_published(monkeypatch, published(root))(root=root)
    (root / "images" / "test_calm_0.raw").rename(root / "images" / "test_calm_90.raw")
    (root / "traces" / "test_calm_0.txt").rename(root / "traces" / "test_calm_90.txt")
    texts = [str(finding) for finding in check(spec)]
    assert f"warning: {root}: 1 published files are missing: images/test_calm_0.raw; fetch the rest" in texts
    assert f"note: {root}: 1 files are not among the published: images/test_calm_90.raw" in texts


def test_a_packaged_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "checksums").mkdir()
    rows = "file,bytes,sha256\nAudioWAV/a.wav,7,00ff\n"
    (tmp_path / "checksums" / "tones.csv.gz").write_bytes(gzip.compress(rows.encode()))
    monkeypatch.setattr("snn_datasets.loading.packaged.resources", lambda package: {"snn_datasets": tmp_path}[package])
    assert published_table("tones") == {"AudioWAV/a.wav": PublishedFile(7, "00ff")}


def test_reading_some_takes_the_first_and_the_last_of_many(root: Path):
    for number in range(10, 100):
        for folder, ending in (("images", "raw"), ("traces", "txt")):
            data = (root / folder / f"train_calm_0.{ending}").read_bytes()
            (root / folder / f"train_calm_{number}.{ending}").write_bytes(data)
    broken = sorted((root / "traces").iterdir())
    ordered = [*(p for p in broken if "train" in p.name), *(p for p in broken if "val" in p.name)]
    ordered += [path for path in broken if "test" in path.name]
    ordered[0].write_text("wind", encoding="utf-8")
    ordered[-1].write_text("wind", encoding="utf-8")
    findings = check(MadeUpSpec(root=root), read="some")
    assert [finding.path for finding in findings if finding.severity == "error"] == [ordered[0], ordered[-1]]
    assert f"note: {SAMPLE_SIZE} of 102 recordings of trace were read" in map(str, findings)


def test_an_empty_split_is_an_error(root: Path):
    for path in root.glob("*/val_*"):
        path.unlink()
    assert "error: the split val has no samples; fetch the rest of the dataset" in complaints(
        check(MadeUpSpec(root=root))
    )


def test_a_bug_in_the_code_is_reported_without_a_traceback(root: Path):
    class Broken(MadeUpSpec):
        def build(self, progress: object = None) -> DatasetSplits:
            raise KeyError("storm")

    finding = only(check(Broken(root=root)))
    assert finding.problem == "the dataset cannot be opened: KeyError: 'storm'"
    assert finding.advice == "this is a bug in the dataset's code: please report it"


def test_a_missing_package_is_reported_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    def read(reader: object, source: object) -> None:
        raise ImportError('reading traces needs barometer; pip install "weather[all]"')

    monkeypatch.setattr("datasets.writers.made_up.TraceReader.read", read)
    finding = only(check(MadeUpSpec(root=root), read="all"))
    assert 'pip install "weather[all]"' in finding.problem


def test_a_file_without_read_permission_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = root / "images" / "val_calm_0.raw"

    def locked(other: Path) -> None:
        if other == path:
            raise PermissionError(13, "Permission denied", str(other))

    monkeypatch.setattr("snn_datasets.check.placeholder", locked)
    assert str(only(check(MadeUpSpec(root=root)))) == (
        f"error: {path}: cannot be opened: Permission denied; grant read access"
    )


def test_the_summary_counts():
    error, warning = Finding("error", None, "bad"), Finding("warning", None, "odd")
    assert summary([Finding("note", None, "fine")]) == "no problems"
    assert summary([error]) == "1 error"
    assert summary([error, error, warning]) == "2 errors and 1 warning"


def test_files_with_the_same_fault_are_alike_whatever_their_names_and_sizes():
    cut = [
        Finding("error", Path(f"{number}.wav"), f"has {number:,} of {2 * number:,} bytes: the download was cut off", "")
        for number in (7, 1_000, 25_300)
    ]
    assert len({finding.fault for finding in cut}) == 1
    hashes = [
        Finding("error", Path("a"), f"its SHA256 is not the published {digest}...: it is damaged or changed", "")
        for digest in ("00aabbccddee", "c6f94b259248")
    ]
    assert len({finding.fault for finding in hashes}) == 1
    samples = [Finding("error", Path("a"), f"audio of sample {name!r} cannot be read: no", "") for name in ("a", "b/c")]
    assert len({finding.fault for finding in samples}) == 1
    assert cut[0].fault != hashes[0].fault != samples[0].fault
