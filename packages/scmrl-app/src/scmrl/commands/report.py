"""`scmrl report`: one HTML page about runs and studies.

Nothing here imports PyTorch before the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scmrl.config.data_access import AS_TRAINED, DataAccess
from scmrl.config.preflight import require_parent


def report(
    folder: Path | None = None,
    /,
    *more: Path,
    out: Path = Path("report.html"),
    open_: Annotated[bool, Parameter(name="--open")] = False,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Write one HTML page about runs and studies: settings, data, scores, firing rates, energy, explained samples.

    The page is self-contained: it needs no other files, no network and no scripts. With several runs it starts with a
    comparison. Missing evaluations are computed first and saved in the run folder.

    Args:
        folder: run or study to report; default: the newest run in the folder `runs`.
        more: further runs and studies.
        out: HTML file to write; an existing file is replaced.
        open_: open the page in the browser.
        access: where the data of the runs are now.
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, as in --out {out / 'report.html'}")
    require_parent("--out", out)

    from scmrl.run_folder.newest import run_or_newest

    folders = (run_or_newest(folder), *more)

    from scmrl.console.progress import Progress
    from scmrl.report.page import render_page
    from scmrl.run_folder.atomic import write_text

    with Progress.create() as progress:
        content = render_page(folders, progress, access)
    write_text(out, content)
    print(f"{out}: {len(content.encode()) / 1000:,.0f} kB")
    if open_:
        import webbrowser

        webbrowser.open(out.absolute().as_uri())
    return 0
