"""A manifest as a YAML document.

Fields are read by their type, not by what YAML 1.1 takes a word for: text is what is written (`no`,
`2025-12-19` and `3.10` are text), true and false are spelled so, numbers are not in quotes.
Anchors, aliases, tags and a second document are refused.
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
from cxreval.fields import field_error, shown
from cxreval.manifest import rules
from cxreval.manifest.model import Manifest
from cxreval.manifest.rules import ROOT

MAX_BYTES = 256 * 1024
"""Largest file that is read."""

_MAX_DEPTH = 8
_MAX_PROBLEMS = 1000
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_NULL = ("~", "null", "Null", "NULL")
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read: its manifest, what is wrong with it, and the line of each field by its
    path.

    Where a field is wrong, the manifest has it empty.
    """

    manifest: Manifest
    problems: list[CxrevalError]
    lines: Mapping[str, int]

    def line(self, path: str) -> int:
        """The line of a field, or, when the file lacks it, of what it would stand in; from 1."""
        while path and path not in self.lines:
            path = path.removesuffix("]").rpartition("[" if path.endswith("]") else ".")[0]
        return self.lines.get(path, 1)


def read_document(file: Path, today: date, benchmark: BenchmarkSpec | None) -> Document:
    """Reads a file and finds everything that is wrong with it.

    `benchmark`: the one that it is for; None leaves out what only a benchmark can judge.

    Raises:
        MalformedField: it cannot be read, is too large, is not YAML, or uses what is refused here.
    """
    return parse_document(_text(file), str(file), today, benchmark)


def parse_document(text: str, name: str, today: date, benchmark: BenchmarkSpec | None) -> Document:
    """As `read_document`, of a text; `name` is what errors call it."""
    reader = _Reader()
    manifest: Manifest = reader.record(Manifest, _tree(text, name), ROOT)
    found, broken = reader.problems, reader.broken
    wholes = {path[:place] for path in broken for place in _ends(path)}
    for error in rules.problems(manifest, today, benchmark, with_artifact=False):
        if not _follows(error, broken, wholes):
            found.append(error)
    lines = reader.lines
    document = Document(manifest, found[:_MAX_PROBLEMS], lines)
    document.problems.sort(key=lambda error: document.line(error.metadata["field"]))
    return document


def _follows(error: CxrevalError, broken: Collection[str], wholes: Collection[str]) -> bool:
    """Whether a rule is broken only because the form of a field is: it is about the field, or about
    what lacks it.

    `broken`: paths of the fields whose form is; `wholes`: paths of the lists and records that they
    stand in.
    """
    path = error.metadata["field"]
    # A list misses what cannot be read in it; an item is like another one only without it.
    lacks = path in wholes and (
        isinstance(error, OutputsIncomplete | MissingField) or path.endswith("]")
    )
    return lacks or path in broken or any(path[:place] in broken for place in _ends(path))


def _ends(path: str) -> Iterator[int]:
    """Where the paths end of the lists and records that a path stands in."""
    return (place for place, letter in enumerate(path) if letter in ".[")


def read_manifest(file: Path) -> Manifest:
    """Reads a manifest. Its form is checked; what its fields say is for the registry to judge.

    Raises:
        CxrevalError: the first thing that is wrong, with the others in its `also`, as soon as the
            form of one field is.
    """
    reader = _Reader()
    manifest: Manifest = reader.record(Manifest, _tree(_text(file), str(file)), ROOT)
    if reader.problems:
        raise rules.refusal(reader.problems)
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
                f"{file} is larger; expected {expected}", field=ROOT, expected=expected
            )
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedField(
            f"cannot read the manifest {file}: {error}", field=ROOT, expected=expected
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
    """The events that carry content. Raises `MalformedField` for anchors, aliases and tags."""
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _not_yaml(
                name, line, "anchors and aliases (& and *) are not taken; use quotes if it is text"
            )
        if getattr(event, "tag", None):
            raise _not_yaml(name, line, "tags (!) are not taken; use quotes if it is text")
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield event


def _node(name: str, event: Any, events: Iterator[Any], depth: int) -> _Node:
    line = event.start_mark.line + 1
    if depth > _MAX_DEPTH:
        raise _not_yaml(name, line, f"more than {_MAX_DEPTH} levels")
    if isinstance(event, yaml.ScalarEvent):
        return _Scalar(line, event.value, plain=event.style is None)
    if isinstance(event, yaml.SequenceStartEvent):
        found = _List(line)
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            found.items.append(_node(name, item, events, depth + 1))
        return found
    table = _Map(line)
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        named = _node(name, key, events, depth + 1)
        if not isinstance(named, _Scalar):
            raise _not_yaml(name, line, "a key is no word")
        table.entries.append((named, _node(name, next(events), events, depth + 1)))
    return table


def _not_yaml(name: str, line: int, problem: str) -> MalformedField:
    return MalformedField(
        f"{name}, line {line}: {problem}; expected YAML", field=ROOT, expected="YAML", line=line
    )


# --- nodes to the dataclass -----------------------------------------------------------------------


class _Reader:
    """Builds a manifest and notes what is wrong; `broken`: paths of the fields whose form is."""

    def __init__(self) -> None:
        self.problems: list[CxrevalError] = []
        self.broken: set[str] = set()
        self.lines: dict[str, int] = {}

    def record(self, kind: type[Any], node: _Node, path: str) -> Any:
        """A dataclass of a map."""
        self.lines.setdefault(path, node.line)
        hints = typing.get_type_hints(kind)
        given = self._entries(node, path, list(hints))
        values = {}
        for of in dataclasses.fields(kind):
            name, plain = f"{path}.{of.name}", _plain(hints[of.name])
            if of.name in given:
                values[of.name] = self._value(plain, given[of.name], name)
                continue
            values[of.name] = _empty(plain) if of.default is dataclasses.MISSING else of.default
            # The rules find an empty text; they cannot tell false and zero from what was never
            # written.
            if (
                of.default is dataclasses.MISSING
                and path not in self.broken
                and plain in (bool, int, float)
            ):
                self._note(
                    name,
                    MissingField(f"{name} is missing", field=name, expected=of.metadata["about"]),
                )
        return kind(**values)

    def _entries(self, node: _Node, path: str, known: list[str]) -> dict[str, _Node]:
        if not isinstance(node, _Map):
            self._note(path, field_error(path, _seen(node), f"fields: {', '.join(known)}"))
            return {}
        found: dict[str, _Node] = {}
        for key, value in node.entries:
            name = f"{path}.{shown(key.text)}"
            self.lines.setdefault(name, key.line)
            if key.text not in known:
                expected = f"one of {', '.join(known)}"
                message = f"{name} is not a field; expected {expected}"
                self._note(name, MalformedField(message, field=name, expected=expected))
            elif key.text in found:
                self._note(name, field_error(name, "given twice", "each field once"))
            else:
                found[key.text] = value
        return found

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
        if not isinstance(node, _List):
            self._note(path, field_error(path, _seen(node), "a list"))
            return ()
        for index, item in enumerate(node.items):
            self.lines[f"{path}[{index}]"] = item.line
        return tuple(
            self._value(kind, item, f"{path}[{index}]") for index, item in enumerate(node.items)
        )

    def _wrong(self, kind: Any, node: _Node, path: str, expected: str) -> Any:
        self._note(path, field_error(path, _seen(node), expected))
        return _empty(kind)

    def _note(self, path: str, error: CxrevalError) -> None:
        self.problems.append(error)
        self.broken.add(path)


def _plain(hint: Any) -> Any:
    """The type without `| None`."""
    named = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    return named[0] if NoneType in typing.get_args(hint) else hint


def _empty(kind: Any) -> Any:
    """What stands for a value that is not there."""
    if kind in (bool, int, float, str):
        return kind()
    return () if typing.get_origin(kind) is tuple else None


def _scalar(kind: Any, node: _Scalar) -> Any:
    """The value of a scalar; None when it is not of the type."""
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


def _seen(node: _Node) -> str:
    if isinstance(node, _Scalar):
        return node.text
    return "a list" if isinstance(node, _List) else "a table of fields"
