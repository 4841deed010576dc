"""Parse YAML and JSON text into plain data with positions.

PyYAML composes nodes with positions from both, because JSON is a subset of YAML. Plain scalars are those of YAML 1.2:
`yes`, `on` and `12:30` are text, `1e-3` is a number. Field names are always text. Tags other than those of plain data
and merge keys are refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from snn_fusion.specs.fault import Fault, FieldPath, TextPosition, dotted

_STANDARD = "tag:yaml.org,2002:"
# By type: the pattern of its scalars, and their first characters. Integers of 100 digits and more become floats,
# because the time to parse an int grows with the square of its digits.
_SCALARS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]{1,99}$"), list("-+0123456789")),
    "float": (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as another type; writes lists on one line."""


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_STANDARD + _name, _pattern, _first)  # pyright: ignore[reportUnknownMemberType]


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> Node:
    return dumper.represent_sequence(f"{_STANDARD}seq", items, flow_style=True)


_Dumper.add_representer(list, _represent_list)


class FormatError(Exception):
    """Text that is not valid YAML or JSON."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class Document:
    """Plain data of a text, with the position of each value.

    Args:
        text: the whole text.
        is_json: whether it must be JSON rather than YAML.

    Raises:
        FormatError: text that is not of this format.
    """

    def __init__(self, text: str, *, is_json: bool) -> None:
        self.faults: list[Fault] = []
        """Duplicate fields, and anything that is not plain data."""
        self._values: dict[int, Any] = {}
        self._open: set[int] = set()
        self._root = _compose(text, is_json=is_json)
        value = self._value(self._root, ())
        # Equal, except for escapes in quoted text that JSON and YAML read differently.
        self.value: Any = json.loads(text) if is_json else value

    def position(self, path: FieldPath) -> TextPosition:
        """Return the position of the value at this path or, if it does not exist, of its nearest ancestor.

        For a block of fields or items it is the position of the field's name.
        """
        name, node = self._nearest(path)
        is_block = isinstance(node, CollectionNode) and not node.flow_style
        return _position((name if is_block and name is not None else node).start_mark)

    def name_position(self, path: FieldPath) -> TextPosition:
        """Return the position of the name of the field at this path."""
        name, node = self._nearest(path)
        return _position((name or node).start_mark)

    def _nearest(self, path: FieldPath) -> tuple[Node | None, Node]:
        """Return the nodes of a name and its value."""
        name, node = None, self._root
        for part in path:
            if isinstance(node, MappingNode):
                # The last of duplicate names counts.
                entries = [entry for entry in node.value if entry[0].value == part]
                if not entries:
                    break
                name, node = entries[-1]
            elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                name, node = None, node.value[part]
            else:
                break
        return name, node

    def _value(self, node: Node, path: FieldPath) -> Any:
        # By an alias a node may occur several times, even within itself.
        if id(node) in self._open:
            return self._refuse(node, path, f"is an alias of its own parent, line {node.start_mark.line + 1}")
        if id(node) not in self._values:
            self._open.add(id(node))
            self._values[id(node)] = self._convert(node, path)
            self._open.remove(id(node))
        return self._values[id(node)]

    def _convert(self, node: Node, path: FieldPath) -> Any:
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
            return self._refuse(node, path, f"{node.value!r} does not match its tag !!{tag}")
        tag_text = f"!!{tag}" if str(node.tag).startswith(_STANDARD) else tag
        return self._refuse(node, path, f"the tag {tag_text} is not allowed: a file holds plain data only")

    def _fields(self, node: MappingNode, path: FieldPath) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, ScalarNode):
                self._refuse(name, path, "a field's name must be one word")
                continue
            if name.value in fields:
                self._refuse(name, (*path, name.value), f"is a duplicate, first in line {lines[name.value]}")
            lines.setdefault(name.value, name.start_mark.line + 1)
            fields[name.value] = self._value(value, (*path, name.value))
        return fields

    def _refuse(self, node: Node, path: FieldPath, text: str) -> None:
        self.faults.append(Fault(_position(node.start_mark), dotted(path), text))


def to_yaml(value: dict[str, Any]) -> str:
    """Return plain data as YAML text, with fields in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _compose(text: str, *, is_json: bool) -> Node:
    if is_json:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            position = TextPosition(error.lineno, error.colno)
            raise FormatError(Fault(position, "", f"this is not JSON: {error.msg}")) from error
        # JSON allows tabs between tokens, where a space is equivalent, and not within them; YAML does not allow tabs.
        text = text.replace("\t", " ")
    try:
        node = cast(Node | None, yaml.compose(text, Loader=_Loader))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        message = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "; indent with spaces" if r"'\t'" in message else ""
        mark = error.problem_mark or error.context_mark
        position = TextPosition(1, 1) if mark is None else _position(mark)
        raise FormatError(Fault(position, "", f"this is not YAML: {message}{hint}")) from error
    except ReaderError as error:
        before = text[: error.position]
        position = TextPosition(before.count("\n") + 1, error.position - before.rfind("\n"))
        message = f"this is not text: it has the character {error.character:#x}"
        raise FormatError(Fault(position, "", message)) from error
    if node is None:
        raise FormatError(Fault(TextPosition(1, 1), "", "the file is empty"))
    return node


def _scalar(tag: str, text: str) -> object:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    return int(text) if tag == "int" else float(text)


def _position(mark: yaml.Mark) -> TextPosition:
    return TextPosition(mark.line + 1, mark.column + 1)
