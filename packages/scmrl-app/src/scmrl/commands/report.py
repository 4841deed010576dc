"""`scmrl report`: runs and studies as one page to read, to print, and to send.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scmrl.config.data_access import AS_TRAINED, DataAccess


def report(
    folder: Path | None = None,
    /,
    *more: Path,
    out: Path = Path("report.html"),
    open_: Annotated[bool, Parameter(name="--open")] = False,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Make one HTML page about runs and studies: what was run, on what, scores, firing rates, energy, samples.

    The page is complete in itself: it needs no other file, no network and no script. Of several runs it begins with a
    comparison. What was not evaluated yet is evaluated first, and left in the run's folder.

    Args:
        folder: what `scmrl train` or a study left; none: the newest run in the folder `runs`.
        more: further ones.
        out: file to write; one that is there is replaced.
        open_: show the page in the browser.
        access: where the data of the runs are now.
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, as in --out {out / 'report.html'}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")

    from scmrl.run_folder.newest import run_or_newest

    folders = (run_or_newest(folder), *more)

    from scmrl.console.progress import Progress
    from scmrl.report.page import page
    from scmrl.run_folder.atomic import write_text

    with Progress.create() as progress:
        content = page(folders, progress, access)
    write_text(out, content)
    print(f"{out}: {len(content.encode()) / 1000:,.0f} kB")
    if open_:
        import webbrowser

        webbrowser.open(out.absolute().as_uri())
    return 0
