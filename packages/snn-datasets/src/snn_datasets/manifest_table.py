"""The rows of a manifest, checked before any recording is opened. Imports no torch."""

# pyarrow has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_datasets.contents import kinds_of, why_unreadable
from snn_datasets.dataset import SPLITS, Split
from snn_datasets.kinds import ENDINGS, KIND_OF, RecordingKind
from snn_datasets.listing import join_names
from snn_datasets.manifest_text import read_rows, require_table
from snn_datasets.near_names import canonical_header, normalize_unicode, suggestion

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
REQUIRED = ("split", "label")
RESERVED = (*REQUIRED, "sample_id", "group")
"""Columns that are no modality."""

PARQUET_MARK = b"PAR1"
MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""A modality's name becomes part of the names of files, options and parts of models."""
NAMES_OF_MODULES = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "clear",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "items", "keys", "load_state_dict",
    "modules", "mtia", "named_buffers", "named_children", "named_modules", "named_parameters", "parameters", "pop",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
    "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory",
    "state_dict", "to", "to_empty", "train", "training", "type", "update", "values", "xpu", "zero_grad",
})  # fmt: skip
"""What PyTorch's containers of modules use themselves: a model cannot hold a modality of such a name."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One sample, as the manifest states it."""

    number: int
    """Line in a CSV file, whose header is line 1; in a Parquet table rows count from 1."""
    id: str
    split: Split
    label: str
    group: str | None
    """None when the manifest has no group column."""
    names: dict[str, str]
    """Modality -> file name as written; empty where it is absent."""
    files: dict[str, Path | None]
    """Modality -> where that file lies; None where it is absent."""


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest whose rows are complete and unambiguous, and name files that exist."""

    path: Path
    rows: tuple[TableRow, ...]
    columns: tuple[str, ...]
    """Every modality column, whether it was asked for or not."""
    kinds: dict[str, RecordingKind | None]
    """Modality -> what its files are, in the order asked for; None where a reader is named for it."""
    left_out: int = 0
    """Rows that name a file, but none of the modalities asked for."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A table as it was read."""

    header: list[str]
    head: str
    """Where the header is, for messages."""
    rows: list[tuple[int, dict[str, str]]]
    """Each row as its number and {column: cell}."""
    unreadable: dict[str, str]
    """Columns of a Parquet table whose cells are no text -> what they are."""


def read_table(
    path: Path,
    *,
    root: Path,
    modalities: Sequence[str] = (),
    read_by_name: Collection[str] = (),
    missing: bool = False,
) -> Table:
    """Read a manifest.

    Args:
        path: a CSV file or a Parquet table.
        root: absolute folder that relative file names start from.
        modalities: columns to read, in this order; none means every column of file names.
        read_by_name: columns that a reader is named for, so that endings of file names say nothing.
        missing: whether a file that is not there is an absent modality rather than an error.

    Raises:
        ValueError: a mistake in the table, by row, column and value.
        FileNotFoundError: the table, or a file that it names, is not there.
        ImportError: pyarrow is needed for a Parquet table.
    """
    cells = _read_cells(path)
    columns = [column for column in cells.header if column not in RESERVED]
    chosen = list(modalities) or columns
    known = set(columns)
    for modality in chosen:
        if modality not in known:
            near = suggestion(modality, columns)
            raise ValueError(
                f"{path}, {cells.head}: no modality column {modality!r}"
                f"{f', did you mean {near!r}?' if near else ''}; the modality columns are "
                f"{join_names(columns) or 'missing'}; rename a column or ask for another modality"
            )
        if modality in cells.unreadable:
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} holds {cells.unreadable[modality]}, not file names; "
                "write what it holds into files, or leave the column out by naming the modalities to read"
            )
        if not MODALITY_NAME.fullmatch(modality):
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} cannot name a modality, whose name is a letter (a to z), "
                "then letters, digits, _ or -; rename the column, or leave it out by naming the modalities to read"
            )
        if modality in NAMES_OF_MODULES:
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} cannot name a modality, because PyTorch's modules use that "
                f"name; rename the column, for instance to {modality}_files, or leave it out by naming the modalities "
                "to read"
            )
    if not chosen:
        raise ValueError(
            f"{path}, {cells.head}: no modality column beside {join_names(cells.header)}; "
            "add one column of file names a modality"
        )
    kinds: dict[str, RecordingKind | None] = {
        m: None if m in read_by_name else _kind_of_column(path, m, cells.rows, root) for m in chosen
    }
    for modality in chosen:
        if not any(row[modality] for _, row in cells.rows):
            raise ValueError(
                f"{path}, column {modality!r}: every cell is empty; write file names, or leave the column out by "
                "naming the modalities to read"
            )
    locate = _Locator(path, root, missing=missing)
    named = [column for column in columns if column not in cells.unreadable]
    every = [_row(path, locate, number, row, chosen, named) for number, row in cells.rows]
    _refuse_repeated_ids(path, every, has_ids="sample_id" in cells.header)
    # A sample without any of the modalities asked for is no sample to a model of these.
    rows = tuple(row for row in every if any(file is not None for file in row.files.values()))
    return Table(path, rows, tuple(columns), kinds, left_out=len(every) - len(rows))


def _read_cells(path: Path) -> _Cells:
    if not path.is_file():
        raise FileNotFoundError(
            f"no manifest at {path}; write a CSV file with columns split, label and one column of file names a "
            "modality, or let `scmrl data init` write one"
        )
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MARK)) == PARQUET_MARK
    if not is_parquet and path.suffix.lower() == ".parquet":
        require_table(path)
    cells = _read_parquet(path) if is_parquet or path.suffix.lower() == ".parquet" else _read_csv(path)
    if not cells.rows:
        raise ValueError(f"{path} has no rows; write a header line {','.join(RESERVED)},... and one row a sample")
    return cells


def _read_csv(path: Path) -> _Cells:
    header: list[str] = []
    head = "row 1"
    rows: list[tuple[int, dict[str, str]]] = []
    for number, cells in read_rows(path):
        if not header:
            head = f"row {number}"
            header = canonical_header(cells, RESERVED)
            _check_header(path, head, header)
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, row {number}: {len(cells)} cells where the header has {len(header)} columns, "
                f"the last of them {cells[-1]!r}; put names that contain commas into double quotes"
            )
        rows.append((number, dict(zip(header, cells, strict=True))))
    return _Cells(header, head, rows, {})


def _read_parquet(path: Path) -> _Cells:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise ImportError(
            f'{path} is a Parquet table, which pyarrow reads: pip install "snn-datasets[parquet]", '
            "or save the table as CSV"
        ) from error
    try:
        opened: Any = parquet.ParquetFile(path)
        with opened as file:
            schema: Any = file.schema_arrow
            stored: list[str] = list(schema.names)
            header = canonical_header(stored, RESERVED)
            _check_header(path, "header", header)
            kinds: dict[str, Any] = dict(zip(header, schema.types, strict=True))
            # Whole numbers are classes and ids as they stand; everything else has more than one way to be written.
            plain = {
                name: types.is_integer(kind) or types.is_null(kind) or _is_text(types, kind)
                for name, kind in kinds.items()
            }
            for column in RESERVED:
                if not plain.get(column, True):
                    raise ValueError(
                        f"{path}, header: column {column!r} holds {kinds[column]}, but it has to hold text or whole "
                        "numbers; store it as text"
                    )
            readable = {old: new for old, new in zip(stored, header, strict=True) if plain[new]}
            table = file.read(columns=list(readable))
            columns: dict[str, list[Any]] = {readable[old]: table.column(old).to_pylist() for old in readable}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a Parquet table: {error}; write it again, or as CSV") from error
    texts = {name: ["" if cell is None else str(cell).strip() for cell in cells] for name, cells in columns.items()}
    rows = [
        (number, dict(zip(texts, cells, strict=True)))
        for number, cells in enumerate(zip(*texts.values(), strict=True), start=1)
    ]
    return _Cells(header, "header", rows, {name: str(kinds[name]) for name in header if not plain[name]})


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _check_header(path: Path, head: str, header: list[str]) -> None:
    for required in REQUIRED:
        if required not in header:
            near = suggestion(required, header)
            hint = f"did you mean {near!r}? Rename it to {required!r}" if near else "add it to the header"
            raise ValueError(f"{path}, {head}: no column {required!r} among {join_names(header)}; {hint}")
    counts = Counter(header)
    for number, column in enumerate(header, start=1):
        if not column:
            raise ValueError(f"{path}, {head}: column {number} has no name ({column!r}); name or remove it")
        if counts[column] > 1:
            raise ValueError(f"{path}, {head}: column {column!r} occurs {counts[column]} times; rename or remove one")


def _kind_of_column(
    path: Path, modality: str, rows: Sequence[tuple[int, dict[str, str]]], root: Path
) -> RecordingKind | None:
    """Tell from file names, and where they leave it open from the first file, what a column holds; None if nothing."""
    first: tuple[int, RecordingKind] | None = None
    of_npy: RecordingKind | None = None
    for number, cells in rows:
        name = cells[modality]
        if not name:
            continue
        suffix = Path(name).suffix.lower()
        kind = KIND_OF.get(suffix)
        if suffix == ".npy":
            # Looking into one of them will do: whoever reads the others refuses what differs.
            of_npy = of_npy or next(iter(_kinds(root, name)), None) or "series"
            kind = of_npy
        if kind is None or (first is None and not _kinds(root, name)):
            raise ValueError(_unknown(path, root, number, modality, name))
        if first is None:
            first = (number, kind)
        elif kind != first[1]:
            raise ValueError(
                f"{_place(path, number, modality, name)}: {kind} file in a column that starts with {first[1]} files "
                f"(row {first[0]}); give each kind a column of its own"
            )
    return first[1] if first is not None else None


def _kinds(root: Path, name: str) -> tuple[RecordingKind, ...]:
    """What a file may hold; by its ending alone where it is not there or leads out of the root."""
    usual = KIND_OF.get(Path(name).suffix.lower())
    if "\0" in name or not os.path.isfile(os.path.join(root, name)):
        return () if usual is None else (usual,)
    return kinds_of(root / name)


def _unknown(path: Path, root: Path, number: int, modality: str, name: str) -> str:
    """The message for a file that no reader takes."""
    cell = _place(path, number, modality, name)
    suffix = Path(name).suffix.lower()
    why = None if "\0" in name else why_unreadable(root / name)
    leave = f"name a reader (columns.{modality}.reader), or leave the column out by naming the modalities to read"
    if why is not None:
        return f"{cell}: no reader takes this file: {why}; or {leave}"
    if KIND_OF.get(suffix) is not None:
        return f"{cell}: its content is none of those that files {suffix} may have; convert it, {leave}"
    known = "; ".join(f"{' '.join(endings)} ({kind})" for kind, endings in ENDINGS.items())
    return f"{cell}: unknown ending {suffix!r}; known are {known}; convert the file, {leave}"


def _row(
    path: Path,
    locate: _Locator,
    number: int,
    cells: Mapping[str, str],
    modalities: Sequence[str],
    columns: Sequence[str],
) -> TableRow:
    written = _filled(path, number, cells, "split", "a split")
    split = SPLIT_NAMES.get(written.lower())
    if split is None:
        near = suggestion(written.lower(), list(SPLIT_NAMES))
        others = ", ".join(name for name in SPLIT_NAMES if name not in SPLITS)
        raise ValueError(
            f"{_place(path, number, 'split', written)}: unknown split{f', did you mean {near}?' if near else ''}; "
            f"use one of {', '.join(SPLITS)} ({others} are understood, too)"
        )
    label = normalize_unicode(_filled(path, number, cells, "label", "a class name"))
    if not any(cells[column] for column in columns):
        raise ValueError(
            f"{path}, row {number}: every cell of {join_names(columns)} is empty; a sample needs at least "
            "one file, so write its name or remove the row"
        )
    # Without ids a sample is known by its files, all of them, so that leaving a modality out renames nothing.
    id_ = normalize_unicode(_filled(path, number, cells, "sample_id", "an id")) if "sample_id" in cells else None
    return TableRow(
        number=number,
        id=id_ or "+".join(cells[column] for column in columns),
        split=split,
        label=label,
        group=normalize_unicode(_filled(path, number, cells, "group", "a group name")) if "group" in cells else None,
        names={modality: cells[modality] for modality in modalities},
        files={modality: locate(number, modality, cells[modality]) for modality in modalities},
    )


def _filled(path: Path, number: int, cells: Mapping[str, str], column: str, what: str) -> str:
    if not cells[column]:
        raise ValueError(f"{_place(path, number, column, '')}: the cell is empty; write {what} or remove the row")
    return cells[column]


class _Locator:
    """Finds the files that cells name, and refuses relative names that lead out of the root, through links too."""

    def __init__(self, path: Path, root: Path, *, missing: bool) -> None:
        self.path, self.root, self.missing = path, root, missing
        self._real_root = os.path.realpath(root)
        self._is_inside: dict[str, bool] = {}

    def __call__(self, number: int, modality: str, name: str) -> Path | None:
        if not name:
            return None
        if "\0" in name:
            raise ValueError(f"{_place(self.path, number, modality, name)}: no file name holds a zero byte; correct it")
        file = os.path.join(self.root, name)
        if not os.path.isabs(name) and not self._stays_inside(file):
            raise ValueError(
                f"{_place(self.path, number, modality, name)}: the name leads out of {self.root}; "
                "choose a root above all files, or write an absolute name"
            )
        if not self.missing and not os.path.isfile(file):
            raise FileNotFoundError(
                f"{_place(self.path, number, modality, name)}: no file at {file}; correct the name (upper and lower "
                "case count) or the root, empty the cell, or set on_error to missing to count it as absent"
            )
        return Path(file)

    def _stays_inside(self, file: str) -> bool:
        """Ask about each folder once: resolving links is slow, and many files share a folder."""
        if os.path.islink(file) or os.path.basename(file) in ("", os.curdir, os.pardir):
            return self._is_below_root(os.path.realpath(file))
        folder = os.path.dirname(file)
        if folder not in self._is_inside:
            self._is_inside[folder] = self._is_below_root(os.path.realpath(folder))
        return self._is_inside[folder]

    def _is_below_root(self, real: str) -> bool:
        return Path(real).is_relative_to(self._real_root)


def _refuse_repeated_ids(path: Path, rows: Sequence[TableRow], *, has_ids: bool) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        if row.id in seen and has_ids:
            place = _place(path, row.number, "sample_id", row.id)
            raise ValueError(f"{place}: the id was used in row {seen[row.id]} already; give every row its own")
        if row.id in seen:
            raise ValueError(
                f"{path}, row {row.number}: the same files as row {seen[row.id]} ({row.id!r}); "
                "remove one of the rows, or add a sample_id column if both are meant"
            )
        seen[row.id] = row.number


def _place(path: Path, number: int, column: str, value: str) -> str:
    return f"{path}, row {number}, column {column!r}, value {value!r}"
