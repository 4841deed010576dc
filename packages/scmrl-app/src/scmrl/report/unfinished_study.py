"""Read the results of an unfinished study."""

from __future__ import annotations

import json
from pathlib import Path

from scmrl.results.study import StudyResults


def partial_results(folder: Path) -> StudyResults:
    """Return the number of finished trainings of a study and the tables over them.

    Reads the work queue, which workers may be writing at the same time. Nothing is written into the folder except the
    lock of a journal.

    Raises:
        ValueError: the folder holds no readable study, or its database cannot be reached.
    """
    from scmrl.study.folder import read_study
    from scmrl.study.kinds import KINDS
    from scmrl.study.queue.storage import open_storage
    from scmrl.study.queue.work import WorkQueue

    spec, name, storage = read_study(folder)
    keys = [point.key for point in spec.points()]
    results, failures, notes = {}, {}, list[str]()
    if not isinstance(storage, Path) or storage.is_file():
        try:
            queue = WorkQueue(open_storage(storage), name, read_only=True)
            results = {key: result for key, result in queue.results().items() if key in keys}
            failures = {key: error for key, error in queue.failures().items() if key in keys}
        except KeyError:  # nothing was queued yet
            pass
        except Exception as error:  # journals and database drivers raise their own exceptions
            if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"the work queue of the study in {folder} cannot be read ({reason})") from error
    notes.append(f"This study is not finished: {len(results)} of {len(keys)} trainings are done.")
    if failures:
        notes.append(f"{len(failures)} failed: {', '.join(failures)}.")
    if results:
        try:
            partial = KINDS[spec.kind].tabulate(spec, results).to_results()
        except (ValueError, LookupError, ZeroDivisionError) as error:
            notes.append(f"There are no tables yet: {error}.")
        else:
            return partial.model_copy(update={"notes": (*notes, *partial.notes)})
    title = f"{spec.kind}: {folder.resolve().name}"
    return StudyResults(kind=spec.kind, title=title, notes=tuple(notes), tables=(), plots=())
