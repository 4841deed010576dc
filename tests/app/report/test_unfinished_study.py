"""The report on an unfinished study, and the location of the run folders of shared studies."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from app.studies import study
from app.study.test_study_ablation import result
from app.tiny import write_tiny_dataset
from scmrl.commands.report import report
from scmrl.console.progress import Progress
from scmrl.report.folders import StudyFiles, read_folder
from scmrl.study.ablation.spec import AblationSpec
from scmrl.study.points import describe_run_folders
from scmrl.study.queue.storage import open_storage
from scmrl.study.queue.work import WorkQueue
from scmrl.study.run import run_study


@pytest.fixture
def queued(tmp_path: Path) -> tuple[Path, WorkQueue, list[str]]:
    """A study whose points are queued and not trained."""
    (tmp_path / "data").mkdir()
    data = write_tiny_dataset(tmp_path / "data", train=4, test=2)
    spec = study(
        AblationSpec, data, tmp_path / "study", "--data.modalities", "image,audio", "--seeds", "1", "--jobs", "0"
    )
    folder, findings, _ = run_study(spec, Progress(Console(quiet=True), None, lambda: 0.0))
    assert findings is None
    name = json.loads((folder / "study.json").read_text())["name"]
    return folder, WorkQueue(open_storage(folder / "journal.log"), name), [point.key for point in spec.points()]


def finish(queue: WorkQueue, key: str, share: float) -> None:
    claim = queue.claim([key])
    assert claim is not None
    with claim:
        assert claim.finish(result(share), share)


def rows_and_notes(folder: Path) -> tuple[list[str], list[str]]:
    """Return the first column of the first table, and the notes."""
    (study_files,) = read_folder(folder)
    assert isinstance(study_files, StudyFiles)
    results = study_files.results
    return [row[0] for table in results.tables[:1] for row in table.rows], list(results.notes)


def test_the_page_of_an_unfinished_study_shows_finished_points(
    queued: tuple[Path, WorkQueue, list[str]], tmp_path: Path
):
    folder, queue, keys = queued
    rows, notes = rows_and_notes(folder)
    assert rows == []
    assert notes == [f"This study is not finished: 0 of {len(keys)} trainings are done."]

    finish(queue, keys[0], 0.5)
    finish(queue, keys[1], 0.75)
    rows, notes = rows_and_notes(folder)
    assert len(rows) == 2
    assert notes[0] == f"This study is not finished: 2 of {len(keys)} trainings are done."

    before = (folder / "journal.log").read_bytes()
    assert report(folder, out=tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert f"2 of {len(keys)} trainings are done" in page
    assert re.search(r">75\.0<", page)
    assert (folder / "journal.log").read_bytes() == before
    assert not (folder / "results.json").exists()


def test_points_that_failed_are_named(queued: tuple[Path, WorkQueue, list[str]]):
    folder, queue, keys = queued
    claim = queue.claim([keys[2]])
    assert claim is not None
    with claim:
        claim.fail("it went wrong")
    assert f"1 failed: {keys[2]}." in rows_and_notes(folder)[1]


def test_a_damaged_work_queue_is_reported(queued: tuple[Path, WorkQueue, list[str]]):
    folder, _, _ = queued
    journal = folder / "journal.log"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    with pytest.raises(
        ValueError, match=r"journal\.log is damaged .*restore it from a backup, or start again with another --out"
    ):
        read_folder(folder)


def test_where_the_run_folders_of_a_shared_study_lie(tmp_path: Path):
    (tmp_path / "points" / "a-seed0").mkdir(parents=True)
    assert describe_run_folders(tmp_path, ["a-seed0"]) == "one run folder per point in points/"
    assert describe_run_folders(tmp_path, ["a-seed0", "b-seed0"]).startswith("run folders of 1 of 2 points in points/;")
