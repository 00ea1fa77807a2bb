"""Converts dataclasses to protobuf messages and back by type hints and descriptors.

An `Encoder` converts a record, which is a dataclass, to a message; a `Decoder` converts a message
to a record. Fields are matched by name; the tables of an encoder or decoder list every field that
differs. Both check all fields when they are created, at import: a field that is on one side only
and in no table raises `TypeError`.

| record | message |
| --- | --- |
| str, int, float, bool, bytes | the same scalar |
| StrEnum | enum; members have the names of its values without the prefix |
| datetime | google.protobuf.Timestamp, UTC |
| timedelta, or float for seconds | google.protobuf.Duration |
| dataclass | message |
| tuple[T, ...] | repeated |
| Mapping[K, V] of scalars | map |
| T or None | optional scalar, message, or an enum's zero |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import (
    Any,
    Generic,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cxreval.errors import CxrevalError, UnknownValue
from cxreval.fields import require

R = TypeVar("R")
M = TypeVar("M", bound=Message)
_Field = Any
"""A field descriptor; its class in the stubs is not its class at run time."""
_Errors = list[CxrevalError] | None
_Encode = Callable[[Any], Any]
_Decode = Callable[[Any, _Errors], Any]
Refusal = Callable[[str, object, str], CxrevalError]

_TYPES = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_BYTES: bytes,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
    FieldDescriptor.TYPE_UINT32: int,
    FieldDescriptor.TYPE_UINT64: int,
    FieldDescriptor.TYPE_FLOAT: float,
    FieldDescriptor.TYPE_DOUBLE: float,
}


def newer_peer(field: str, value: object, expected: str) -> CxrevalError:
    """Returns the error for an enum value that a newer service sent."""
    text = f"{field} is {value}, which this version of cxreval does not support; upgrade cxreval"
    return UnknownValue(text, field=field, value=value, expected=expected)


@dataclass(eq=False)
class Encoder(Generic[R, M]):
    """Converts records to messages; creation raises `TypeError` if the two do not match.

    Args:
        record: the type of the records, a dataclass.
        message: the type of the messages.
        sources: message field -> attribute of the record, for fields of another name; a dotted path
            names an attribute of a nested record.
        computed: message field -> function that returns its value for a record; None leaves the
            field unset.
        unsent: record fields that the message does not have.
        unset: message fields that the record does not fill.
        nested: encoders for nested records with tables.
    """

    record: type[R]
    message: type[M]
    sources: Mapping[str, str] = field(default_factory=dict)
    computed: Mapping[str, Callable[[R], Any]] = field(default_factory=dict)
    unsent: Collection[str] = ()
    unset: Collection[str] = ()
    nested: Collection[Encoder[Any, Any]] = ()

    def __post_init__(self) -> None:
        theirs = self.message.DESCRIPTOR.fields_by_name
        paths = _paths(self, theirs, _names(self.record), self.unset, self.unsent)
        self._names = list(paths)
        self._values = _getter(list(paths.values()))
        plans = [
            (name, self._plan(_hint(self.record, path), theirs[name]))
            for name, path in paths.items()
        ]
        self._converted = [(name, convert) for name, convert in plans if convert]
        self._computed = list(self.computed.items())

    def __call__(self, record: R) -> M:
        """Returns the message of a record."""
        return self.message(**self.values(record))

    def values(self, record: R) -> dict[str, Any]:
        """Returns the values of the message's fields; those of nested messages as dictionaries."""
        values = dict(zip(self._names, self._values(record)))  # noqa: B905 - of one length
        for name, convert in self._converted:
            value = values[name]
            if value is not None:
                values[name] = convert(value)
        for name, compute in self._computed:
            values[name] = compute(record)
        return values

    def _plan(self, hint: Any, target: _Field) -> _Encode | None:
        """Returns the function that converts values of a type; None if they need none."""
        kind, many = _kind(self, hint, target)
        convert: _Encode | None = None
        if kind is float and target.message_type:
            convert = _from_seconds
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            convert = {
                member: number for number, member in _members(self, kind, target).items()
            }.__getitem__
        elif is_dataclass(kind):
            encoder = _nested(self, kind, target) or Encoder(
                cast("Any", kind), GetMessageClass(target.message_type), nested=self.nested
            )
            convert = encoder.values
        if many and convert:
            convert_one = convert
            return lambda values: [convert_one(value) for value in values]
        return convert


@dataclass(eq=False)
class Decoder(Generic[R, M]):
    """Converts messages to records; creation raises `TypeError` if the two do not match.

    Args:
        record: the type of the records, a dataclass.
        message: the type of the messages.
        sources: record field -> message field, for fields of another name; a dotted path names a
            field of a nested message.
        computed: record field -> function that returns its value for a message.
        unread: message fields that the record does not have.
        nested: decoders for nested records with tables.
        unknown: returns the error for an unknown enum value, from its field, the value and what was
            expected.
        path: name of the message in errors.
    """

    record: type[R]
    message: type[M]
    sources: Mapping[str, str] = field(default_factory=dict)
    computed: Mapping[str, Callable[[M], Any]] = field(default_factory=dict)
    unread: Collection[str] = ()
    nested: Collection[Decoder[Any, Any]] = ()
    unknown: Refusal = newer_peer
    path: str = ""

    def __post_init__(self) -> None:
        self.path = self.path or _snake(self.message.DESCRIPTOR.name)
        names, hints = _names(self.record), get_type_hints(self.record)
        paths = _paths(self, names, self.message.DESCRIPTOR.fields_by_name, (), self.unread)
        self._values = _getter(list(paths.values()))
        plans = [
            (path, *self._plan(hints[name], _descriptor(self.message.DESCRIPTOR, path)))
            for name, path in paths.items()
        ]
        self._converted = [
            (index, path if optional else "", convert)
            for index, (path, convert, optional) in enumerate(plans)
            if convert or optional
        ]
        self._computed = [
            (index, self.computed[name])
            for index, name in enumerate(names)
            if name in self.computed
        ]

    def __call__(self, message: M, errors: _Errors = None) -> R:
        """Returns the record of a message.

        With a list of `errors`, unknown enum values and missing required ones are None in the
        record. The errors for unknown values are appended to the list.

        Raises:
            MissingField: a required enum value is missing.
            CxrevalError: an enum value is unknown; `unknown` decides the class.
        """
        values = list(self._values(message))
        for index, name, convert in self._converted:
            if name and not message.HasField(name):
                values[index] = None
            elif convert:
                values[index] = convert(values[index], errors)
        for index, compute in self._computed:
            values.insert(index, compute(message))
        return self.record(*values)

    def _plan(self, hint: Any, source: _Field) -> tuple[_Decode | None, bool]:
        """Returns the function that converts a field, or None, and whether it may be absent."""
        kind, many = _kind(self, hint, source)
        optional = _optional(hint) is not hint and source.has_presence
        convert: _Decode | None = None
        if kind is datetime:
            convert = _to_datetime
        elif kind is timedelta:
            convert = _to_timedelta
        elif kind is float and source.message_type:
            convert = _to_seconds
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            members = _members(self, kind, source)
            if _optional(hint) is not hint:
                members[0] = None
            convert = _enum(members, source, f"{self.path}.{source.name}", self.unknown)
        elif is_dataclass(kind):
            convert = _nested(self, kind, source) or Decoder(
                cast("Any", kind),
                GetMessageClass(source.message_type),
                nested=self.nested,
                unknown=self.unknown,
                path=f"{self.path}.{source.name}",
            )
        if get_origin(hint) is Mapping:
            return (lambda values, _: dict(values)), False
        if not many:
            return convert, optional
        convert_one = convert
        if convert_one is None:
            return (lambda values, _: tuple(values)), False
        return (
            lambda values, errors: tuple([convert_one(value, errors) for value in values])
        ), False


def _enum(members: dict[int, Any], source: _Field, path: str, unknown: Refusal) -> _Decode:
    """Returns the function that converts the number of an enum value to its member."""
    prefix = _prefix(source.enum_type)
    expected = f"one of {', '.join(prefix + member.name for member in members.values() if member)}"

    def decode(number: int, errors: _Errors) -> Any:
        try:
            return members[number]
        except KeyError:
            if errors is None:
                require(path, number, expected)
                raise unknown(path, number, expected) from None
            if number:
                errors.append(unknown(path, number, expected))
            return None

    return decode


def _from_seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _to_datetime(stamp: Any, _: _Errors) -> datetime:
    return stamp.ToDatetime(UTC)  # type: ignore[no-any-return]


def _to_timedelta(duration: Any, _: _Errors) -> timedelta:
    return duration.ToTimedelta()  # type: ignore[no-any-return]


def _to_seconds(duration: Any, _: _Errors) -> float:
    return duration.ToTimedelta().total_seconds()  # type: ignore[no-any-return]


_Codec = Encoder[Any, Any] | Decoder[Any, Any]


def _paths(
    codec: _Codec, mine: Iterable[str], theirs: Iterable[str], unset: Iterable[str],
    unused: Iterable[str],
) -> dict[str, str]:  # fmt: skip
    """Returns the source of each field that is copied: field name -> path on the other side.

    Raises:
        TypeError: a field is on one side only and in no table, or a table names a field that does
            not exist.
    """
    mine, theirs = list(mine), set(theirs)
    for name in {*codec.sources, *codec.computed, *unset} - set(mine):
        _refuse(codec, name, "is in a table, but does not exist")
    paths = {
        name: codec.sources.get(name, name)
        for name in mine
        if name not in codec.computed and name not in unset
    }
    used = {name: path.partition(".")[0] for name, path in paths.items()}
    for name in [name for name, top in used.items() if top not in theirs]:
        _refuse(codec, name, f"has no counterpart {used[name]}")
    for name in theirs - {*used.values(), *codec.computed, *unused}:
        _refuse(codec, name, "has no counterpart")
    for name in set(unused) - (theirs - {*used.values(), *codec.computed}):
        _refuse(codec, name, "is in a table of unused fields, but is used or does not exist")
    return paths


def _names(record: Any) -> list[str]:
    """Returns the names of a record's fields."""
    return [item.name for item in fields(record)]


def _hint(record: Any, path: str) -> Any:
    """Returns the type hint of a field or property of a record; a path may lead to a nested one."""
    for name in path.split("."):
        member = getattr(record, name, None)
        hints = (
            get_type_hints(member.fget) if isinstance(member, property) else get_type_hints(record)
        )
        record = hints["return" if isinstance(member, property) else name]
    return record


def _descriptor(message: Any, path: str) -> _Field:
    """Returns the descriptor of a field of a message; a path may lead to a nested message."""
    *outer, last = path.split(".")
    for name in outer:
        message = message.fields_by_name[name].message_type
    return message.fields_by_name[last]


def _kind(codec: _Codec, hint: Any, target: _Field) -> tuple[Any, bool]:
    """Returns the type of one value, and whether the field is repeated.

    Raises:
        TypeError: the type of the record's field and that of the message's field do not match.
    """
    base, origin = _optional(hint), get_origin(hint)
    message = target.message_type
    if origin is Mapping:
        entry = message.fields_by_name if message and message.GetOptions().map_entry else {}
        if [_TYPES.get(part.type) for part in entry.values()] != list(get_args(hint)):
            _refuse(codec, target.name, f"is {hint} only in the record")
        return None, False
    many = origin is tuple
    if target.is_repeated != many:
        _refuse(codec, target.name, "is a list only on one side")
    kind = get_args(hint)[0] if many else base
    is_optional, has_presence = base is not hint, target.has_presence and not message
    if is_optional and not (target.has_presence or target.enum_type):
        _refuse(codec, target.name, "can be None only in the record")
    if has_presence and not is_optional:
        _refuse(codec, target.name, "is optional only in the message")
    if not _fits(kind, target):
        _refuse(codec, target.name, f"is {kind} in the record, another type in the message")
    return kind, many


def _fits(kind: Any, target: _Field) -> bool:
    """Returns whether a field of a message can hold values of a type."""
    if target.enum_type:
        return isinstance(kind, type) and issubclass(kind, StrEnum)
    if target.message_type:
        well_known = {
            "google.protobuf.Timestamp": (datetime,),
            "google.protobuf.Duration": (timedelta, float),
        }.get(target.message_type.full_name)
        return kind in well_known if well_known else is_dataclass(kind)
    return kind is _TYPES.get(target.type)


def _optional(hint: Any) -> Any:
    """Returns T for the hint `T | None`, and every other hint as it is."""
    if get_origin(hint) in (Union, UnionType):
        others = [part for part in get_args(hint) if part is not NoneType]
        return others[0] if len(others) == 1 else hint
    return hint


def _members(codec: _Codec, kind: type[StrEnum], target: _Field) -> dict[int, Any]:
    """Returns the members of an enumeration by number.

    Raises:
        TypeError: a value is only in the enumeration or only in the message's enum.
    """
    prefix = _prefix(target.enum_type)
    numbers = {
        value.name.removeprefix(prefix): value.number
        for value in target.enum_type.values
        if value.number
    }
    for name in numbers.keys() ^ kind.__members__.keys():
        side = target.enum_type.full_name if name in numbers else kind.__name__
        _refuse(codec, target.name, f"has the value {name} only in {side}")
    return {numbers[member.name]: member for member in kind}


def _prefix(enum: Any) -> str:
    """Returns the prefix that the names of an enum's values share."""
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def _nested(codec: _Codec, kind: Any, target: _Field) -> Any:
    """Returns the codec with tables for a nested record, or None."""
    for nested in codec.nested:
        if (nested.record, nested.message.DESCRIPTOR) == (kind, target.message_type):
            return nested
    return None


def _getter(names: list[str]) -> Callable[[Any], Iterable[Any]]:
    """Returns a function that gets these attributes of an object."""
    # attrgetter is faster, but returns no sequence for a single name.
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: [getattr(value, name) for name in names]


def _snake(name: str) -> str:
    """Returns a CamelCase name in snake_case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _refuse(codec: _Codec, name: str, problem: str) -> NoReturn:
    """Raises `TypeError` with the codec and the field."""
    pair = f"{codec.record.__name__} and {codec.message.DESCRIPTOR.full_name}"
    raise TypeError(f"{type(codec).__name__} of {pair}: field {name} {problem}")
