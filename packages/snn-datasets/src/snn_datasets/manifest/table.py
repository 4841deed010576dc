"""Read and check the rows of a manifest before any recording is opened. Does not import torch."""

# pyarrow has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_datasets.base.dataset import SPLITS, Split
from snn_datasets.base.kinds import ENDINGS, KIND_OF, RecordingKind
from snn_datasets.base.listing import join_names
from snn_datasets.formats.contents import kinds_of, why_unreadable
from snn_datasets.manifest.near_names import canonical_header, normalize_unicode, suggestion
from snn_datasets.manifest.text import read_rows, require_table

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
REQUIRED = ("split", "label")
RESERVED = (*REQUIRED, "sample_id", "group")
"""Columns that are not modalities."""

HEADER_BYTES = 2**16
"""Bytes of a file that are read to find its header."""
PARQUET_MAGIC = b"PAR1"
MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Valid modality names: they become part of file names, options and module names."""
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
"""Attributes of PyTorch's module containers, which cannot name a modality of a model."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One sample of a manifest."""

    number: int
    """Line number in a CSV file (the header is line 1); row number from 1 in a Parquet table."""
    id: str
    split: Split
    label: str
    group: str | None
    """None if the manifest has no group column."""
    names: dict[str, str]
    """Modality -> file name as written; empty if absent."""
    files: dict[str, Path | None]
    """Modality -> path of the file; None if absent."""


@dataclass(frozen=True, slots=True)
class Table:
    """A checked manifest: rows are complete and unique, and their files exist."""

    path: Path
    rows: tuple[TableRow, ...]
    columns: tuple[str, ...]
    """All modality columns, selected or not."""
    kinds: dict[str, RecordingKind | None]
    """Selected modality -> kind of its files, in order; None if the spec names its reader."""
    skipped: int = 0
    """Number of rows without a file for any selected modality."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a table, unchecked."""

    header: list[str]
    head: str
    """Position of the header, for messages."""
    rows: list[tuple[int, dict[str, str]]]
    """Row number and {column: cell}."""
    unreadable: dict[str, str]
    """Parquet columns that are not text -> their type."""


def read_table(
    path: Path,
    *,
    root: Path,
    modalities: Sequence[str] = (),
    read_by_name: Collection[str] = (),
    missing: bool = False,
) -> Table:
    """Read a manifest and check it.

    Args:
        path: a CSV file or a Parquet table.
        root: absolute folder that relative file names start from.
        modalities: columns to read, in this order; empty means all.
        read_by_name: columns with an explicit reader, whose file extensions are ignored.
        missing: treat a missing file as an absent modality rather than an error.

    Raises:
        ValueError: a mistake in the table; the message gives row, column and value.
        FileNotFoundError: the table, or a file that it names, does not exist.
        ImportError: a Parquet table needs pyarrow.
    """
    cells = read_cells(path)
    columns = [column for column in cells.header if column not in RESERVED]
    selected = list(modalities) or columns
    known = set(columns)
    for modality in selected:
        if modality not in known:
            near = suggestion(modality, columns)
            raise ValueError(
                f"{path}, {cells.head}: no modality column {modality!r}"
                f"{f', did you mean {near!r}?' if near else ''}; the modality columns are "
                f"{join_names(columns) or 'missing'}; rename a column or select another modality"
            )
        if modality in cells.unreadable:
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} holds {cells.unreadable[modality]}, not file names; "
                "write the values to files, or omit the column by setting modalities"
            )
        if not MODALITY_NAME.fullmatch(modality):
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} is not a valid modality name (a letter from a to z, then "
                "letters, digits, _ or -); rename the column, or omit it by setting modalities"
            )
        if modality in NAMES_OF_MODULES:
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} cannot name a modality, because PyTorch's modules use that "
                f"name; rename the column, for instance to {modality}_files, or omit it by setting modalities"
            )
    if not selected:
        raise ValueError(
            f"{path}, {cells.head}: no modality column besides {join_names(cells.header)}; "
            "add one column of file names per modality"
        )
    kinds: dict[str, RecordingKind | None] = {
        m: None if m in read_by_name else _kind_of_column(path, m, cells.rows, root) for m in selected
    }
    for modality in selected:
        if not any(row[modality] for _, row in cells.rows):
            raise ValueError(
                f"{path}, column {modality!r}: every cell is empty; write file names, or omit the column by setting "
                "modalities"
            )
    locate = _Locator(path, root, missing=missing)
    readable = [column for column in columns if column not in cells.unreadable]
    all_rows = [_row(path, locate, number, row, selected, readable) for number, row in cells.rows]
    _check_ids(path, all_rows, has_ids="sample_id" in cells.header)
    # A model of the selected modalities cannot use a sample without any of them.
    rows = tuple(row for row in all_rows if any(file is not None for file in row.files.values()))
    return Table(path, rows, tuple(columns), kinds, skipped=len(all_rows) - len(rows))


def read_cells(path: Path, columns: Collection[str] | None = None) -> Cells:
    """Read a CSV file or a Parquet table as the dataset `manifest` does.

    Text is UTF-8 or UTF-16, separated by commas, tabs, semicolons or bars; comment lines before the header are skipped,
    and names such as "Sample ID" become the reserved name. Cells are stripped of surrounding spaces.

    Args:
        path: the table.
        columns: the columns that the caller uses, some of which may be missing; others may have any or no name, and any
            type. None: all columns, among them split and label.

    Raises:
        ValueError: the file is no table or has no rows, a row has too many or too few cells, or a column is missing,
            nameless or repeated.
        FileNotFoundError: the table does not exist.
        ImportError: a Parquet table needs pyarrow.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no manifest at {path}; write a CSV file with columns split, label and one column of file names per "
            "modality, or create one with `scmrl data init`"
        )
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    if not is_parquet and path.suffix.lower() == ".parquet":
        require_table(path)
    read = _read_parquet if is_parquet or path.suffix.lower() == ".parquet" else _read_csv
    cells = read(path, columns)
    if not cells.rows:
        names = ",".join(RESERVED if columns is None else columns)
        raise ValueError(f"{path} has no rows; write a header line {names},... and one row per sample")
    return cells


def has_columns(path: Path, columns: Collection[str]) -> bool:
    """Check whether a file is a Parquet table, or text whose header has one of these columns; read only its beginning.

    Raises:
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        return True
    try:
        for _, header in read_rows(path, _header_test(columns), most=HEADER_BYTES):
            return not set(columns).isdisjoint(canonical_header(header, RESERVED))
    except ValueError:
        return False
    return False


def _header_test(columns: Collection[str] | None) -> Callable[[set[str]], bool]:
    if columns is None:
        return set(REQUIRED).issubset
    names = {column.lower() for column in columns}
    return lambda header: not names.isdisjoint(header)


def _read_csv(path: Path, columns: Collection[str] | None) -> Cells:
    header: list[str] = []
    head = "row 1"
    rows: list[tuple[int, dict[str, str]]] = []
    for number, cells in read_rows(path, _header_test(columns)):
        if not header:
            head = f"row {number}"
            header = canonical_header(cells, RESERVED)
            _check_header(path, head, header, columns)
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)} columns "
                f"(last cell {cells[-1]!r}); put names that contain commas into double quotes"
            )
        rows.append((number, dict(zip(header, cells, strict=True))))
    return Cells(header, head, rows, {})


def _read_parquet(path: Path, used: Collection[str] | None) -> Cells:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise ImportError(
            f'{path} is a Parquet table and needs pyarrow: pip install "snn-datasets[parquet]", '
            "or save the table as CSV"
        ) from error
    try:
        opened: Any = parquet.ParquetFile(path)
        with opened as file:
            schema: Any = file.schema_arrow
            names: list[str] = list(schema.names)
            header = canonical_header(names, RESERVED)
            _check_header(path, "header", header, used)
            kinds: dict[str, Any] = dict(zip(header, schema.types, strict=True))
            # Only integers and text have one canonical text form.
            has_text_form = {
                name: types.is_integer(kind) or types.is_null(kind) or _is_text(types, kind)
                for name, kind in kinds.items()
            }
            for column in RESERVED if used is None else set(RESERVED).intersection(used):
                if not has_text_form.get(column, True):
                    raise ValueError(
                        f"{path}, header: column {column!r} holds {kinds[column]}, but must hold text or integers; "
                        "store it as text"
                    )
            readable = {
                old: new
                for old, new in zip(names, header, strict=True)
                if has_text_form[new] and (used is None or new in used)
            }
            table = file.read(columns=list(readable))
            columns: dict[str, list[Any]] = {readable[old]: table.column(old).to_pylist() for old in readable}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} as a Parquet table: {error}; write it again, or as CSV") from error
    texts = {name: ["" if cell is None else str(cell).strip() for cell in cells] for name, cells in columns.items()}
    rows = [
        (number, dict(zip(texts, cells, strict=True)))
        for number, cells in enumerate(zip(*texts.values(), strict=True), start=1)
    ]
    return Cells(header, "header", rows, {name: str(kinds[name]) for name in header if not has_text_form[name]})


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _check_header(path: Path, head: str, header: list[str], used: Collection[str] | None) -> None:
    for required in REQUIRED if used is None else ():
        if required not in header:
            near = suggestion(required, header)
            hint = f"did you mean {near!r}? Rename it to {required!r}" if near else "add it to the header"
            raise ValueError(f"{path}, {head}: no column {required!r} among {join_names(header)}; {hint}")
    counts = Counter(header)
    for number, column in enumerate(header, start=1):
        if used is not None and column not in used:
            continue
        if not column:
            raise ValueError(f"{path}, {head}: column {number} has no name ({column!r}); name or remove it")
        if counts[column] > 1:
            raise ValueError(f"{path}, {head}: column {column!r} occurs {counts[column]} times; rename or remove one")


def _kind_of_column(
    path: Path, modality: str, rows: Sequence[tuple[int, dict[str, str]]], root: Path
) -> RecordingKind | None:
    """Infer the kind of a column from file extensions, or from the first file if ambiguous; None if it is empty."""
    first: tuple[int, RecordingKind] | None = None
    of_npy: RecordingKind | None = None
    for number, cells in rows:
        name = cells[modality]
        if not name:
            continue
        suffix = Path(name).suffix.lower()
        kind = KIND_OF.get(suffix)
        if suffix == ".npy":
            # Inspecting one file suffices: the reader rejects files that differ.
            of_npy = of_npy or next(iter(_kinds(root, name)), None) or "series"
            kind = of_npy
        if kind is None or (first is None and not _kinds(root, name)):
            raise ValueError(_unknown(path, root, number, modality, name))
        if first is None:
            first = (number, kind)
        elif kind != first[1]:
            raise ValueError(
                f"{_cell_position(path, number, modality, name)}: {kind} file in a column that starts with {first[1]} "
                f"files (row {first[0]}); use a separate column for each kind"
            )
    return first[1] if first is not None else None


def _kinds(root: Path, name: str) -> tuple[RecordingKind, ...]:
    """Return the kinds that a file may hold; by extension only if it does not exist."""
    default = KIND_OF.get(Path(name).suffix.lower())
    if "\0" in name or not os.path.isfile(os.path.join(root, name)):
        return () if default is None else (default,)
    return kinds_of(root / name)


def _unknown(path: Path, root: Path, number: int, modality: str, name: str) -> str:
    """Return the message for a file that no reader takes."""
    position = _cell_position(path, number, modality, name)
    suffix = Path(name).suffix.lower()
    why = None if "\0" in name else why_unreadable(root / name)
    advice = f"set a reader (columns.{modality}.reader), or omit the column by setting modalities"
    if why is not None:
        return f"{position}: no reader takes this file: {why}; or {advice}"
    if KIND_OF.get(suffix) is not None:
        return f"{position}: the content does not match the extension {suffix}; convert it, {advice}"
    known = "; ".join(f"{' '.join(endings)} ({kind})" for kind, endings in ENDINGS.items())
    return f"{position}: unknown extension {suffix!r}; known are {known}; convert the file, {advice}"


def _row(
    path: Path,
    locate: _Locator,
    number: int,
    cells: Mapping[str, str],
    modalities: Sequence[str],
    columns: Sequence[str],
) -> TableRow:
    split_name = _required_cell(path, number, cells, "split", "a split")
    split = SPLIT_NAMES.get(split_name.lower())
    if split is None:
        near = suggestion(split_name.lower(), list(SPLIT_NAMES))
        others = ", ".join(name for name in SPLIT_NAMES if name not in SPLITS)
        raise ValueError(
            f"{_cell_position(path, number, 'split', split_name)}: unknown split"
            f"{f', did you mean {near}?' if near else ''}; use one of {', '.join(SPLITS)} (also accepted: {others})"
        )
    label = normalize_unicode(_required_cell(path, number, cells, "label", "a class name"))
    if not any(cells[column] for column in columns):
        raise ValueError(
            f"{path}, row {number}: every cell of {join_names(columns)} is empty; a sample needs at least "
            "one file, so write its name or remove the row"
        )

    def optional_cell(column: str, noun: str) -> str | None:
        return normalize_unicode(_required_cell(path, number, cells, column, noun)) if column in cells else None

    return TableRow(
        number=number,
        # Without a sample_id, all files together are the id, so that it does not depend on the selected modalities.
        id=optional_cell("sample_id", "an id") or "+".join(cells[column] for column in columns),
        split=split,
        label=label,
        group=optional_cell("group", "a group name"),
        names={modality: cells[modality] for modality in modalities},
        files={modality: locate(number, modality, cells[modality]) for modality in modalities},
    )


def _required_cell(path: Path, number: int, cells: Mapping[str, str], column: str, noun: str) -> str:
    if not cells[column]:
        position = _cell_position(path, number, column, "")
        raise ValueError(f"{position}: the cell is empty; write {noun} or remove the row")
    return cells[column]


class _Locator:
    """Find the files that cells name; reject relative names that lead out of the root, also through links."""

    def __init__(self, path: Path, root: Path, *, missing: bool) -> None:
        self.path, self.root, self.missing = path, root, missing
        self._real_root = os.path.realpath(root)
        self._is_inside: dict[str, bool] = {}

    def __call__(self, number: int, modality: str, name: str) -> Path | None:
        if not name:
            return None
        if "\0" in name:
            position = _cell_position(self.path, number, modality, name)
            raise ValueError(f"{position}: a file name cannot contain a zero byte; correct it")
        file = os.path.join(self.root, name)
        if not os.path.isabs(name) and not self._is_inside_root(file):
            raise ValueError(
                f"{_cell_position(self.path, number, modality, name)}: the name leads out of {self.root}; "
                "choose a root above all files, or write an absolute name"
            )
        if not self.missing and not os.path.isfile(file):
            raise FileNotFoundError(
                f"{_cell_position(self.path, number, modality, name)}: no file at {file}; correct the name (case "
                "matters) or the root, empty the cell, or set on_error to missing to treat it as absent"
            )
        return Path(file)

    def _is_inside_root(self, file: str) -> bool:
        """Check each folder once: resolving links is slow, and many files share a folder."""
        if os.path.islink(file) or os.path.basename(file) in ("", os.curdir, os.pardir):
            return self._is_below_root(os.path.realpath(file))
        folder = os.path.dirname(file)
        if folder not in self._is_inside:
            self._is_inside[folder] = self._is_below_root(os.path.realpath(folder))
        return self._is_inside[folder]

    def _is_below_root(self, real: str) -> bool:
        return Path(real).is_relative_to(self._real_root)


def _check_ids(path: Path, rows: Sequence[TableRow], *, has_ids: bool) -> None:
    row_of: dict[str, int] = {}
    for row in rows:
        if row.id in row_of and has_ids:
            position = _cell_position(path, row.number, "sample_id", row.id)
            raise ValueError(f"{position}: row {row_of[row.id]} has the same id; ids must be unique")
        if row.id in row_of:
            raise ValueError(
                f"{path}, row {row.number}: the same files as row {row_of[row.id]} ({row.id!r}); "
                "remove one of the rows, or add a sample_id column if both are intended"
            )
        row_of[row.id] = row.number


def _cell_position(path: Path, number: int, column: str, value: str) -> str:
    return f"{path}, row {number}, column {column!r}, value {value!r}"
