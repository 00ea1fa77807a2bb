"""Reads a manifest from a YAML document.

A value is read by the type of its field, not by the types of YAML 1.1: in a text field, `no`,
`2025-12-19` and `3.10` are text. Flags are `true` or `false`, numbers have no quotes. A number may
stand for a list of one, the name of a preset for its steps, and one field for a record that has a
short form. Anchors, aliases, tags and a second document are refused.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, MalformedField, MissingField, OutputsIncomplete
from cxreval.fields import field_error, required, shown
from cxreval.manifest import rules
from cxreval.manifest.model import SHORT_FORMS, Manifest
from cxreval.manifest.rules import ROOT

MAX_BYTES = 256 * 1024
"""Maximum size of a manifest's file."""

_STEPS, _PRESET = f"{ROOT}.preprocessing", f"{ROOT}.preprocessing_profile"
_MAX_DEPTH = 8
_MAX_PROBLEMS = 1000
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_NULL = ("~", "null", "Null", "NULL")
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest that was read, its problems, and the line of each field by its path.

    Fields with a malformed value are empty in the manifest.
    """

    manifest: Manifest
    problems: list[CxrevalError]
    lines: Mapping[str, int]

    def line(self, path: str) -> int:
        """Returns the line of a field, or of the record it is missing in; from 1."""
        while path and path not in self.lines:
            path = path.removesuffix("]").rpartition("[" if path.endswith("]") else ".")[0]
        return self.lines.get(path, 1)


def read_document(file: Path, today: date, benchmark: BenchmarkSpec | None) -> Document:
    """Reads a manifest from a file and checks it against a benchmark.

    Without a benchmark, the rules about findings and metrics are not checked.

    Raises:
        MalformedField: the file is unreadable or too large, or is not YAML of the allowed form.
    """
    return parse_document(_text(file), str(file), today, benchmark)


def parse_document(text: str, name: str, today: date, benchmark: BenchmarkSpec | None) -> Document:
    """Reads a manifest from a text, as `read_document`; errors call it `name`."""
    reader = _Reader()
    manifest: Manifest = reader.record(Manifest, _tree(text, name), ROOT)
    broken = reader.broken
    parents = {path[:end] for path in broken for end in _ends(path)}
    by_rule = rules.problems(manifest, today, benchmark, with_artifact=False)
    further = [error for error in by_rule if not _follows(error, broken, parents)]
    problems = [*reader.problems, *further][:_MAX_PROBLEMS]
    document = Document(manifest, [*map(reader.as_written, problems)], reader.lines)
    document.problems.sort(key=lambda error: document.line(error.metadata["field"]))
    return document


def _follows(error: CxrevalError, broken: Collection[str], parents: Collection[str]) -> bool:
    """Returns whether an error only follows from a malformed field.

    `broken`: paths of the malformed fields; `parents`: paths of the lists and records they are in.
    """
    path = error.metadata["field"]
    if path == _STEPS and _PRESET in broken:
        return True
    # A malformed item is missing in its list, and may make its record equal to another one.
    lacks = path in parents and (
        isinstance(error, OutputsIncomplete | MissingField) or path.endswith("]")
    )
    return lacks or path in broken or any(path[:end] in broken for end in _ends(path))


def _ends(path: str) -> Iterator[int]:
    """Yields the lengths of the paths of the lists and records that a path is in."""
    return (end for end, letter in enumerate(path) if letter in ".[")


def read_manifest(file: Path | str) -> Manifest:
    """Reads a manifest from a file; checks its form, but not the rules that the registry checks.

    Raises:
        CxrevalError: the first malformed field, with the others in its `also`.
    """
    reader = _Reader()
    manifest: Manifest = reader.record(Manifest, _tree(_text(Path(file)), str(file)), ROOT)
    if reader.problems:
        raise rules.refusal([*map(reader.as_written, reader.problems)])
    return manifest


# --- YAML to nodes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scalar:
    line: int
    text: str
    plain: bool


@dataclass(frozen=True, slots=True)
class _List:
    line: int
    items: list[_Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Map:
    line: int
    entries: list[tuple[_Scalar, _Node]] = field(default_factory=list)


_Node = _Scalar | _List | _Map


def _text(file: Path) -> str:
    expected = f"a YAML file of at most {MAX_BYTES} bytes"
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise MalformedField(
                f"{file} is too large; expected {expected}", field=ROOT, expected=expected
            )
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedField(
            f"cannot read the manifest {file}: {error}; expected {expected}",
            field=ROOT,
            expected=expected,
        ) from None


def _tree(text: str, name: str) -> _Node:
    try:
        events = _plain_events(name, yaml.parse(text, yaml.SafeLoader))
        first = next(events, None)
        if first is None:
            raise _not_yaml(name, 1, "the file is empty")
        root = _node(name, first, events, 0)
        another = next(events, None)
        if another is not None:
            raise _not_yaml(name, another.start_mark.line + 1, "a second document begins")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise _not_yaml(name, mark.line + 1 if mark else 1, problem) from None
    return root


def _plain_events(name: str, events: Iterator[Any]) -> Iterator[Any]:
    """Yields the events with content. Raises `MalformedField` for anchors, aliases and tags."""
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _not_yaml(
                name,
                line,
                "anchors and aliases (& and *) are not allowed; quote the value if it is text",
            )
        if getattr(event, "tag", None):
            raise _not_yaml(name, line, "tags (!) are not allowed; quote the value if it is text")
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield event


def _node(name: str, event: Any, events: Iterator[Any], depth: int) -> _Node:
    line = event.start_mark.line + 1
    if depth > _MAX_DEPTH:
        raise _not_yaml(name, line, f"more than {_MAX_DEPTH} levels of nesting")
    if isinstance(event, yaml.ScalarEvent):
        return _Scalar(line, event.value, plain=event.style is None)
    if isinstance(event, yaml.SequenceStartEvent):
        sequence = _List(line)
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            sequence.items.append(_node(name, item, events, depth + 1))
        return sequence
    table = _Map(line)
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        named = _node(name, key, events, depth + 1)
        if not isinstance(named, _Scalar):
            raise _not_yaml(name, line, "a key is not a word")
        table.entries.append((named, _node(name, next(events), events, depth + 1)))
    return table


def _not_yaml(name: str, line: int, problem: str) -> MalformedField:
    return MalformedField(
        f"{name}, line {line}: {problem}; expected YAML", field=ROOT, expected="YAML", line=line
    )


# --- nodes to the dataclass -----------------------------------------------------------------------


class _Reader:
    """Builds a manifest and collects problems; `broken` holds the paths of malformed fields."""

    def __init__(self) -> None:
        self.problems: list[CxrevalError] = []
        self.broken: set[str] = set()
        self.lines: dict[str, int] = {}
        self._preset_in_steps = False

    def record(self, kind: type[Any], node: _Node, path: str) -> Any:
        """Returns a dataclass with the values of a map."""
        self.lines.setdefault(path, node.line)
        hints = typing.get_type_hints(kind)
        if isinstance(node, _Scalar) and kind in SHORT_FORMS:
            node = _Map(node.line, [(_Scalar(node.line, SHORT_FORMS[kind], plain=True), node)])
        given = self._entries(node, path, list(hints))
        if kind is Manifest:
            self._move_preset(given)
        values = {}
        for item in dataclasses.fields(kind):
            name, plain = f"{path}.{item.name}", _plain(hints[item.name])
            if item.name in given:
                values[item.name] = self._value(plain, given[item.name], name)
                continue
            is_required = item.default is dataclasses.MISSING
            values[item.name] = _empty(plain) if is_required else item.default
            # The rules report an empty text, but cannot tell false or zero from a missing value.
            if is_required and path not in self.broken and plain in (bool, int, float):
                self._note(
                    name,
                    required(name, rules.expected(kind, item.name)),
                )
        return kind(**values)

    def _entries(self, node: _Node, path: str, known: list[str]) -> dict[str, _Node]:
        if not isinstance(node, _Map):
            self._note(path, field_error(path, _described(node), f"fields: {', '.join(known)}"))
            return {}
        entries: dict[str, _Node] = {}
        for key, value in node.entries:
            name = f"{path}.{shown(key.text)}"
            self.lines.setdefault(name, key.line)
            if key.text not in known:
                expected = f"one of {', '.join(known)}"
                if path == _STEPS and key.text in ("preset", "profile"):
                    expected = "either `preprocessing: NAME` for a preset, or only steps"
                message = f"{name} is not a field; expected {expected}"
                self._note(name, MalformedField(message, field=name, expected=expected))
            elif key.text in entries:
                self._note(name, field_error(name, "given twice", "each field once"))
            else:
                entries[key.text] = value
        return entries

    def _move_preset(self, given: dict[str, _Node]) -> None:
        """Moves the name of a preset to the field that holds it."""
        if isinstance(given.get("preprocessing"), _Scalar):
            node = given.pop("preprocessing")
            if "preprocessing_profile" in given:
                expected = "only one of preprocessing and preprocessing_profile"
                self._note(_STEPS, field_error(_STEPS, _described(node), expected))
                return
            given["preprocessing_profile"] = node
            self._preset_in_steps = True
            self.lines[_PRESET] = self.lines[_STEPS]

    def as_written(self, error: CxrevalError) -> CxrevalError:
        """Returns an error about a preset with the name of the field that it was given in."""
        if not self._preset_in_steps or error.metadata["field"] != _PRESET:
            return error
        facts: dict[str, Any] = error.metadata | {"field": _STEPS}
        return type(error)(error.message.replace(_PRESET, _STEPS, 1), **facts)

    def _value(self, kind: Any, node: _Node, path: str) -> Any:
        if dataclasses.is_dataclass(kind):
            return self.record(typing.cast("type[Any]", kind), node, path)
        if typing.get_origin(kind) is tuple:
            return self._items(typing.get_args(kind)[0], node, path)
        if not isinstance(node, _Scalar):
            return self._wrong(kind, node, path, _expected(kind))
        value = _scalar(kind, node)
        return self._wrong(kind, node, path, _expected(kind)) if value is None else value

    def _items(self, kind: Any, node: _Node, path: str) -> tuple[Any, ...]:
        if isinstance(node, _Scalar) and kind in (int, float):
            node = _List(node.line, [node])
        if not isinstance(node, _List):
            self._note(path, field_error(path, _described(node), "a list"))
            return ()
        for index, item in enumerate(node.items):
            self.lines[f"{path}[{index}]"] = item.line
        return tuple(
            self._value(kind, item, f"{path}[{index}]") for index, item in enumerate(node.items)
        )

    def _wrong(self, kind: Any, node: _Node, path: str, expected: str) -> Any:
        self._note(path, field_error(path, _described(node), expected))
        return _empty(kind)

    def _note(self, path: str, error: CxrevalError) -> None:
        self.problems.append(error)
        self.broken.add(path)


def _plain(hint: Any) -> Any:
    """Returns the type without `| None`."""
    named = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    return named[0] if NoneType in typing.get_args(hint) else hint


def _empty(kind: Any) -> Any:
    """Returns the value that stands for a missing one."""
    if kind in (bool, int, float, str):
        return kind()
    return () if typing.get_origin(kind) is tuple else None


def _scalar(kind: Any, node: _Scalar) -> Any:
    """Returns the value of a scalar; None if it does not have the type."""
    text = node.text
    if kind is str:
        return None if node.plain and text in _NULL else text
    if issubclass(kind, StrEnum):
        return kind(text) if text in list(kind) else None
    if not node.plain:
        return None
    if kind is bool:
        return _FLAGS.get(text)
    return kind(text) if (_WHOLE if kind is int else _NUMBER).fullmatch(text) else None


def _expected(kind: Any) -> str:
    if kind is str:
        return "text"
    if kind is bool:
        return "true or false, not in quotes"
    if kind is int:
        return "a whole number, not in quotes"
    return "a number, not in quotes" if kind is float else f"one of {', '.join(kind)}"


def _described(node: _Node) -> str:
    if isinstance(node, _Scalar):
        return node.text
    return "a list" if isinstance(node, _List) else "a table of fields"
