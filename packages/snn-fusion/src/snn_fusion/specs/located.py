"""YAML and JSON text as plain data that knows where it stands.

PyYAML composes nodes with their positions from both, JSON being a subset; the data are made of them here. Plain scalars
are those of YAML 1.2: `yes`, `on` and `12:30` are text, `1e-3` is a number. Names of fields are always text. Tags other
than those of plain data are refused, and so are merge keys.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from snn_fusion.specs.faults import Fault, Path, Place, dotted

_STANDARD = "tag:yaml.org,2002:"
# By name: what a scalar looks like, and the characters that it may begin with. Longer whole numbers become floats, as
# making an int of endless digits takes endless time.
_SCALARS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]{1,99}$"), list("-+0123456789")),
    "float": (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or 1.2 would take for something other than text; lists stand on one line."""


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_STANDARD + _name, _pattern, _first)  # pyright: ignore[reportUnknownMemberType]


def _on_one_line(dumper: yaml.SafeDumper, items: list[Any]) -> Node:
    return dumper.represent_sequence(f"{_STANDARD}seq", items, flow_style=True)


_Dumper.add_representer(list, _on_one_line)


class FormatError(Exception):
    """Text that is not of its format."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class Document:
    """What a text says, and where.

    Args:
        text: the whole text.
        is_json: whether it must be JSON rather than YAML.

    Raises:
        FormatError: text that is not of this format.
    """

    def __init__(self, text: str, *, is_json: bool) -> None:
        self.faults: list[Fault] = []
        """Names given twice, and what is not plain data."""
        self._values: dict[int, Any] = {}
        self._open: set[int] = set()
        self._root = _compose(text, is_json=is_json)
        value = self._value(self._root, ())
        # The same, but for what JSON and YAML see differently within a text in quotes.
        self.value: Any = json.loads(text) if is_json else value

    def has(self, path: Path) -> bool:
        """Whether something stands at this path."""
        return self._find(path) is not None

    def place(self, path: Path) -> Place:
        """Where the value at this path begins; for fields and items below each other, where their name stands."""
        name, node = self._find(path) or (None, self._root)
        is_block = isinstance(node, CollectionNode) and not node.flow_style
        return _place((name if is_block and name is not None else node).start_mark)

    def name_place(self, path: Path) -> Place:
        """Where the name of the field at this path stands."""
        name, node = self._find(path) or (None, self._root)
        return _place((name or node).start_mark)

    def _find(self, path: Path) -> tuple[Node | None, Node] | None:
        """The nodes of a name and its value."""
        name, node = None, self._root
        for part in path:
            if isinstance(node, MappingNode):
                # Of names given twice the last counts.
                found = [entry for entry in node.value if entry[0].value == part]
                if not found:
                    return None
                name, node = found[-1]
            elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                name, node = None, node.value[part]
            else:
                return None
        return name, node

    def _value(self, node: Node, path: Path) -> Any:
        # A node may stand in several places by an alias, and even within itself.
        if id(node) in self._open:
            return self._refuse(node, path, f"is an alias of what it stands in, line {node.start_mark.line + 1}")
        if id(node) not in self._values:
            self._open.add(id(node))
            self._values[id(node)] = self._made(node, path)
            self._open.remove(id(node))
        return self._values[id(node)]

    def _made(self, node: Node, path: Path) -> Any:
        tag = str(node.tag).removeprefix(_STANDARD)
        if isinstance(node, MappingNode) and tag == "map":
            return self._fields(node, path)
        if isinstance(node, SequenceNode) and tag == "seq":
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and tag == "str":
            return node.value
        if isinstance(node, ScalarNode) and tag in _SCALARS and _SCALARS[tag][0].match(node.value):
            return _scalar(tag, node.value)
        if isinstance(node, ScalarNode) and tag in _SCALARS:
            return self._refuse(node, path, f"{node.value!r} is not what its tag !!{tag} says")
        shown = f"!!{tag}" if str(node.tag).startswith(_STANDARD) else tag
        return self._refuse(node, path, f"the tag {shown} cannot stand here: a file holds plain data only")

    def _fields(self, node: MappingNode, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, ScalarNode):
                self._refuse(name, path, "a field's name is one word")
                continue
            if name.value in fields:
                self._refuse(name, (*path, name.value), f"is given twice, first in line {lines[name.value]}")
            lines.setdefault(name.value, name.start_mark.line + 1)
            fields[name.value] = self._value(value, (*path, name.value))
        return fields

    def _refuse(self, node: Node, path: Path, text: str) -> None:
        self.faults.append(Fault(_place(node.start_mark), dotted(path), text))


def to_yaml(value: dict[str, Any]) -> str:
    """Plain data as YAML text, fields in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _compose(text: str, *, is_json: bool) -> Node:
    if is_json:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            raise FormatError(Fault(Place(error.lineno, error.colno), "", f"this is not JSON: {error.msg}")) from error
        # Between the tokens of JSON a tab is as good as a space, and within them it cannot stand; YAML knows no tabs.
        text = text.replace("\t", " ")
    try:
        node = cast(Node | None, yaml.compose(text, Loader=_Loader))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        said = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "; indent with spaces" if r"'\t'" in said else ""
        mark = error.problem_mark or error.context_mark
        place = Place(1, 1) if mark is None else _place(mark)
        raise FormatError(Fault(place, "", f"this is not YAML: {said}{hint}")) from error
    except ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        raise FormatError(Fault(place, "", f"this is not text: it has the character {error.character:#x}")) from error
    if node is None:
        raise FormatError(Fault(Place(1, 1), "", "the file is empty"))
    return node


def _scalar(tag: str, text: str) -> object:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    return int(text) if tag == "int" else float(text)


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)
