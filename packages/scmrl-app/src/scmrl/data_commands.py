"""`scmrl data`: which datasets there are, whether their files are sound, and what is kept of them.

Nothing here loads PyTorch before a command needs it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from snn_datasets.check import Finding

SHOWN = 5
"""Files of which one and the same thing is said before the others are only counted."""
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}

Kind = Annotated[str, Parameter(help="Name of the dataset, as `scmrl data list` shows it.", allow_leading_hyphen=True)]
Options = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

data = App(name="data", help="Show, check and prepare datasets, and tidy their caches.")
cache = App(name="cache", help="What is kept of datasets between runs.")
data.command(cache)


@data.command(name="list")
def list_() -> int:
    """List the datasets that can be asked for by name."""
    from snn_datasets import DATASETS

    table = Table("kind", "title", "senses", "license", "files", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    broken: list[str] = []
    for kind in DATASETS:
        try:
            card = DATASETS[kind].card()
        except Exception as error:  # a package of somebody else must not take the list away
            broken.append(str(error))
            continue
        senses = "\n".join(f"{name} ({sense.kind})" for name, sense in card.modalities.items()) or "as the files say"
        own = "your own" if not card.files and not card.modalities else "on disk" if card.files else "embedded"
        table.add_row(Text(kind, style="bold"), *map(Text, (card.title, senses, card.license, own)))
    Console().print(table)
    for message in broken:
        print(f"scmrl: {message}", file=sys.stderr)
    return 0


@data.command
def show(kind: Kind, /) -> int:
    """Tell what a dataset is, how its files must lie on disk, and its options."""
    from scmrl.overlay import help_table
    from snn_datasets import DATASETS
    from snn_datasets.card_text import describe

    spec_type = DATASETS[kind]
    console = Console()
    print(describe(spec_type.card(), width=min(console.width, 100)))
    print()
    console.print(help_table(spec_type))
    return 0


@data.command(help_flags=[])
def check(kind: Kind, /, *options: Options) -> int:
    """Say whether a dataset on disk is complete and readable; `scmrl data check KIND --help` lists every option."""
    from scmrl.data_options import CheckOptions, help_of, read_options

    if (explain := _kind_to_explain(kind, options)) is not None:
        Console().print(help_of("check", explain or None, CheckOptions))
        return 0
    spec, own = read_options(kind, options, CheckOptions)

    from scmrl.progress import Progress
    from snn_datasets.check import check as run_check
    from snn_datasets.check import summary

    with Progress.create() as progress, progress.phase("checking", 0, "steps") as phase:
        findings = run_check(spec, hashes=own.hashes, read=own.read, progress=phase.update)
    _print_findings(findings)
    print(f"{kind}: {summary(findings)}")
    return 1 if any(finding.severity == "error" for finding in findings) else 0


@data.command(help_flags=[])
def prepare(kind: Kind, /, *options: Options) -> int:
    """Fill the cache of a dataset before it is needed; `scmrl data prepare KIND --help` lists every option."""
    from scmrl.data_options import PrepareOptions, help_of, read_options

    if (explain := _kind_to_explain(kind, options)) is not None:
        Console().print(help_of("prepare", explain or None, PrepareOptions))
        return 0
    spec, own = read_options(kind, options, PrepareOptions)

    from scmrl.progress import Progress
    from snn_datasets import FileDataSpec

    if not isinstance(spec, FileDataSpec):
        raise ValueError(f"{kind} is not kept in a cache, so there is nothing to prepare; train with it as it is")
    if spec.cache == "off":
        raise ValueError("--cache off: there is no cache to fill; leave the option out")
    if own.workers is not None:
        spec = spec.model_copy(update={"prepare_workers": own.workers})
    with Progress.create() as progress, progress.phase(f"preparing {kind}", 0, "recordings") as phase:
        splits = spec.build(phase.update)

    from snn_datasets.cache_folder import default_folder

    sizes = ", ".join(f"{len(getattr(splits, split)):,} {split}" for split in ("train", "val", "test"))
    folder = spec.cache_folder.expanduser() if spec.cache_folder is not None else default_folder()
    print(f"{kind}: {sizes} samples are ready, in {folder / splits.info.name}")
    for note in splits.info.notes:
        print(f"note: {note}")
    return 0


@data.command
def init(folder: Path, /, *, output: Path = Path("manifest.csv")) -> int:
    """Write a first manifest of your own files, to look through and correct.

    Args:
        folder: what holds the files; folders in it may tell split, sense, label and group, in any order.
        output: the manifest, relative to the folder; an existing one is never overwritten.
    """
    from shlex import quote

    from snn_datasets.manifest_init import init_manifest

    guess = init_manifest(folder, output=output)
    print(guess)
    root, manifest, columns = quote(str(folder)), quote(str(output)), quote(",".join(guess.columns))
    named = output != Path("manifest.csv")
    check_it = f"scmrl data check manifest --root {root}" + (f" --manifest {manifest}" if named else "")
    train_on_it = f"scmrl train --data.kind manifest --data.root {root}"
    train_on_it += (f" --data.manifest {manifest}" if named else "") + f" --data.modalities {columns}"
    # Without a word of their own on the line, so that they can be copied as they are.
    print(f"next, look through the table, then:\n{check_it}\n{train_on_it}")
    return 0


@cache.command(name="list")
def cache_list(*, folder: Path | None = None) -> int:
    """List what is kept, the one used last first.

    Args:
        folder: folder of the caches; none: the one that datasets use unless told otherwise.
    """
    from snn_datasets.cache_folder import default_folder, entries

    folder = default_folder() if folder is None else folder.expanduser()
    found = entries(folder)
    if not found:
        print(f"nothing is kept in {folder}")
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("dataset", "modality"):
        table.add_column(name)
    for name in ("samples", "size", "last used"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for entry in found:
        table.add_row(
            Text(entry.dataset),
            Text(entry.modality),
            f"{entry.samples:,}",
            size_text(entry.bytes),
            f"{entry.used.astimezone():%Y-%m-%d %H:%M}",
            Text(str(entry.folder.relative_to(folder))),
        )
    Console().print(table)
    print(f"{len(found)} caches, {size_text(sum(entry.bytes for entry in found))} in {folder}")
    return 0


@cache.command(name="prune")
def cache_prune(
    *,
    unused_days: float = 30.0,
    dataset: str | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
) -> int:
    """Remove what no run has used for a while; a dataset prepares it again when it is needed.

    Args:
        unused_days: remove what was not used for so many days; 0 removes everything.
        dataset: remove what is kept of this dataset alone.
        yes: remove without asking.
        folder: folder of the caches; none: the one that datasets use unless told otherwise.
    """
    from datetime import UTC, datetime, timedelta

    from snn_datasets.cache_folder import default_folder, entries, prune

    if unused_days < 0:
        raise ValueError(f"--unused-days {unused_days:g} lies in the future; give 0 or more")
    folder = default_folder() if folder is None else folder.expanduser()
    known = entries(folder)
    if dataset is not None and dataset not in (names := sorted({entry.dataset for entry in known})):
        raise ValueError(f"nothing is kept of {dataset!r} in {folder}; there is: {', '.join(names) or 'nothing'}")
    before = datetime.now(UTC) - timedelta(days=unused_days)
    old = [entry for entry in known if entry.used <= before and dataset in (None, entry.dataset)]
    size = size_text(sum(entry.bytes for entry in old))
    if old and not yes:
        for entry in old:
            print(
                f"{entry.dataset} {entry.modality}: {size_text(entry.bytes)}, used {entry.used.astimezone():%Y-%m-%d}"
            )
        if not sys.stdin.isatty():
            raise ValueError("nobody is there to be asked whether to remove this; add --yes")
        if input(f"Remove {size}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return 0
    # Also without any: what killed runs left is removed with it.
    removed = prune(folder, unused_days=unused_days, dataset=dataset)
    freed = size_text(sum(entry.bytes for entry in removed))
    print(f"removed {len(removed)} of {len(known)} caches, which frees {freed}")
    return 0


def size_text(size: int) -> str:
    """A number of bytes as a reader wants it, in powers of 1,000: `812 B`, `3.2 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _kind_to_explain(kind: str, options: tuple[str, ...]) -> str | None:
    """The dataset of which help is asked, "" for none in particular; None if no help is asked for."""
    if not {"--help", "-h"} & {kind, *options}:
        return None
    return "" if kind in ("--help", "-h") else kind


def _print_findings(findings: list[Finding]) -> None:
    """Print errors last, where a terminal shows them; of many alike, a few."""
    console = Console()
    for severity in ("note", "warning", "error"):
        alike: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in findings:
            if finding.severity == severity:
                of_kind = alike[finding.fault, finding.advice]
                of_kind.append(finding)
                if len(of_kind) <= SHOWN:
                    console.print(Text(str(finding), style=STYLES[severity]), soft_wrap=True)
        for (fault, advice), of_kind in alike.items():
            if len(of_kind) > SHOWN:
                problem = of_kind[-1].problem
                same = all(finding.problem == problem for finding in of_kind)
                what = f": {problem}" if same else f" like these: {fault}"
                more = f"{severity}: {len(of_kind) - SHOWN:,} more{what}" + (f"; {advice}" if advice else "")
                console.print(Text(more, style=STYLES[severity]), soft_wrap=True)
