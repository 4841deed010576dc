"""`scmrl data`: list, check and prepare datasets, and manage their caches.

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

MAX_EQUAL_FINDINGS = 5
"""Equal findings to print; more are only counted."""
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}

DatasetKind = Annotated[
    str, Parameter(help="Name of the dataset as listed by `scmrl data list`.", allow_leading_hyphen=True)
]
DatasetOptions = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

data = App(name="data", help="Show, check and prepare datasets, and manage their caches.")
cache = App(name="cache", help="List and prune cached datasets.")
data.command(cache)


@data.command(name="list")
def list_() -> int:
    """List the available datasets."""
    from snn_datasets import DATASETS
    from snn_datasets.base.card_text import FROM_FILES

    table = Table("kind", "title", "modalities", "license", "files", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    errors: list[str] = []
    for kind in DATASETS:
        try:
            card = DATASETS[kind].card
        except Exception as error:  # a broken third-party package must not hide the other datasets
            errors.append(str(error))
            continue
        modalities = "\n".join(f"{name} ({each.kind})" for name, each in card.modalities.items()) or FROM_FILES
        files = "your own" if not card.files and not card.modalities else "on disk" if card.files else "embedded"
        table.add_row(Text(kind, style="bold"), *map(Text, (card.title, modalities, card.license, files)))
    Console().print(table)
    for message in errors:
        print(f"scmrl: {message}", file=sys.stderr)
    return 0


@data.command
def show(kind: DatasetKind, /) -> int:
    """Print the description of a dataset, its expected file layout, and its options."""
    from scmrl.config.overlay import help_table
    from snn_datasets import DATASETS
    from snn_datasets.base.card_text import card_text

    spec_type = DATASETS[kind]
    console = Console()
    print(card_text(spec_type.card, width=min(console.width, 100)))
    print()
    console.print(help_table(spec_type))
    return 0


@data.command(help_flags=[])
def check(kind: DatasetKind, /, *options: DatasetOptions) -> int:
    """Check that a dataset on disk is complete and readable; `scmrl data check KIND --help` lists all options."""
    from scmrl.commands.data_options import CheckOptions, command_help, read_options

    if (help_kind := _requested_help(kind, options)) is not None:
        Console().print(command_help("check", help_kind or None, CheckOptions))
        return 0
    spec, own = read_options(kind, options, CheckOptions)

    from scmrl.console.progress import Progress
    from snn_datasets.check import check as run_check
    from snn_datasets.check import summary

    with Progress.create() as progress, progress.phase("checking", 0, "steps") as phase:
        findings = run_check(spec, hashes=own.hashes, read=own.read, progress=phase.update)
    _print_findings(findings)
    print(f"{kind}: {summary(findings)}")
    return 1 if any(finding.severity == "error" for finding in findings) else 0


@data.command(help_flags=[])
def prepare(kind: DatasetKind, /, *options: DatasetOptions) -> int:
    """Fill the cache of a dataset in advance; `scmrl data prepare KIND --help` lists all options."""
    from scmrl.commands.data_options import PrepareOptions, command_help, read_options

    if (help_kind := _requested_help(kind, options)) is not None:
        Console().print(command_help("prepare", help_kind or None, PrepareOptions))
        return 0
    spec, own = read_options(kind, options, PrepareOptions)

    from scmrl.console.progress import Progress
    from snn_datasets import FileDataSpec

    if not isinstance(spec, FileDataSpec):
        raise ValueError(f"{kind} needs no preparation; train with it directly")
    if spec.cache == "off":
        raise ValueError("--cache off: there is no cache to fill; remove the option")
    if own.workers is not None:
        spec = spec.model_copy(update={"prepare_workers": own.workers})
    with Progress.create() as progress, progress.phase(f"preparing {kind}", 0, "recordings") as phase:
        splits = spec.build(phase.update)

    from snn_datasets.cache.folder import cache_folder

    sizes = ", ".join(f"{len(getattr(splits, split)):,} {split}" for split in ("train", "val", "test"))
    print(f"{kind}: {sizes} samples are ready, in {cache_folder(spec.cache_folder) / splits.info.name}")
    for note in splits.info.notes:
        print(f"note: {note}")
    return 0


@data.command
def init(folder: Path, /, *, output: Path = Path("manifest.csv")) -> int:
    """Write a first manifest of your own files, to check and correct.

    Args:
        folder: root of the files; its subfolders may name split, modality, label and group, in any order.
        output: path of the manifest, relative to the folder; an existing file is not overwritten.
    """
    from shlex import quote

    from snn_datasets.manifest.init import init_manifest

    guess = init_manifest(folder, output=output)
    print(guess)
    root, manifest, columns = quote(str(folder)), quote(str(output)), quote(",".join(guess.columns))
    named = output != Path("manifest.csv")
    check_it = f"scmrl data check manifest --root {root}" + (f" --manifest {manifest}" if named else "")
    train_on_it = f"scmrl train --data.kind manifest --data.root {root}"
    train_on_it += (f" --data.manifest {manifest}" if named else "") + f" --data.modalities {columns}"
    # Nothing else on these lines, so that they can be copied.
    print(f"next, check the table, then run:\n{check_it}\n{train_on_it}")
    return 0


@cache.command(name="list")
def cache_list(*, folder: Path | None = None) -> int:
    """List cached datasets, most recently used first.

    Args:
        folder: folder of the caches; none: the default folder.
    """
    from snn_datasets.cache.folder import cache_folder, entries

    folder = cache_folder(folder)
    stores = entries(folder)
    if not stores:
        print(f"no caches in {folder}")
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("dataset", "modality"):
        table.add_column(name)
    for name in ("samples", "size", "last used"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for entry in stores:
        table.add_row(
            Text(entry.dataset),
            Text(entry.modality),
            f"{entry.samples:,}",
            size_text(entry.bytes),
            f"{entry.used.astimezone():%Y-%m-%d %H:%M}",
            Text(str(entry.folder.relative_to(folder))),
        )
    Console().print(table)
    print(f"{len(stores)} caches, {size_text(sum(entry.bytes for entry in stores))} in {folder}")
    return 0


@cache.command(name="prune")
def cache_prune(
    *,
    unused_days: float = 30.0,
    dataset: str | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
) -> int:
    """Remove caches that no run has used for a while; datasets prepare them again when needed.

    Args:
        unused_days: remove caches unused for this many days; 0 removes all.
        dataset: remove caches of this dataset only.
        yes: remove without confirmation.
        folder: folder of the caches; none: the default folder.
    """
    from datetime import UTC, datetime, timedelta

    from snn_datasets.cache.folder import cache_folder, entries, prune

    if unused_days < 0:
        raise ValueError(f"--unused-days {unused_days:g} is negative; give 0 or more")
    folder = cache_folder(folder)
    stores = entries(folder)
    if dataset is not None and dataset not in (names := sorted({entry.dataset for entry in stores})):
        raise ValueError(f"no cache of {dataset!r} in {folder}; there are: {', '.join(names) or 'none'}")
    limit = datetime.now(UTC) - timedelta(days=unused_days)
    old = [entry for entry in stores if entry.used <= limit and dataset in (None, entry.dataset)]
    size = size_text(sum(entry.bytes for entry in old))
    if old and not yes:
        for entry in old:
            print(
                f"{entry.dataset} {entry.modality}: {size_text(entry.bytes)}, used {entry.used.astimezone():%Y-%m-%d}"
            )
        if not sys.stdin.isatty():
            raise ValueError("cannot ask for confirmation without a terminal; add --yes")
        if input(f"Remove {size}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return 0
    # Always runs, because it also removes what killed runs left behind.
    removed = prune(folder, unused_days=unused_days, dataset=dataset)
    freed = size_text(sum(entry.bytes for entry in removed))
    print(f"removed {len(removed)} of {len(stores)} caches, which frees {freed}")
    return 0


def size_text(size: int) -> str:
    """Format a number of bytes in powers of 1,000: `812 B`, `3.2 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _requested_help(kind: str, options: tuple[str, ...]) -> str | None:
    """Return the dataset whose help is requested, "" for general help, or None without --help."""
    if not {"--help", "-h"} & {kind, *options}:
        return None
    return "" if kind in ("--help", "-h") else kind


def _print_findings(findings: list[Finding]) -> None:
    """Print findings, errors last; of many equal ones, print a few and count the rest."""
    console = Console()
    for severity in ("note", "warning", "error"):
        groups: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in findings:
            if finding.severity == severity:
                group = groups[finding.fault, finding.advice]
                group.append(finding)
                if len(group) <= MAX_EQUAL_FINDINGS:
                    console.print(Text(str(finding), style=STYLES[severity]), soft_wrap=True)
        for (fault, advice), group in groups.items():
            if len(group) > MAX_EQUAL_FINDINGS:
                problem = group[-1].problem
                same = all(finding.problem == problem for finding in group)
                summary = f": {problem}" if same else f" like these: {fault}"
                more = f"{severity}: {len(group) - MAX_EQUAL_FINDINGS:,} more{summary}"
                console.print(Text(more + f"; {advice}" * bool(advice), style=STYLES[severity]), soft_wrap=True)
