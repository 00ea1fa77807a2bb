"""A submission's manifest as a TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import typing
from enum import StrEnum
from pathlib import Path
from typing import Any

from cxreval.client.models import Manifest
from cxreval.errors import MalformedField, MissingField


def read_manifest(file: Path) -> Manifest:
    """Reads a manifest: the fields of `Manifest`, `[reproduction]` and `[environment]` as tables.

    Only the form is checked here; the registry checks what the fields say.

    Raises:
        MalformedField: the file cannot be read or is not TOML, a field is unknown or has the wrong type.
        MissingField: a required field is absent.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MalformedField(f"cannot read the manifest {file}: {error}", field="manifest") from None
    return typing.cast("Manifest", _build(Manifest, content, "manifest"))


def file_sha256(file: Path) -> str:
    """sha256 of a file as 64 lower-case hex characters."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _build(kind: Any, value: Any, path: str) -> Any:
    """Builds a dataclass, a tuple, an enumeration or a plain value from what TOML gave."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(typing.cast("type[Any]", kind), value, path)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _malformed(path, value, "an array")
        return tuple(_build(typing.get_args(kind)[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise _malformed(path, value, "one of " + ", ".join(kind))
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _malformed(path, value, f"a value of type {kind.__name__}")
    if kind is int and not -(2**63) <= value < 2**63:
        raise _malformed(path, value, "a whole number of at most 64 bits")
    return value


def _build_dataclass(kind: type[Any], value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _malformed(path, value, "a table")
    hints = typing.get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        known = ", ".join(hints)
        message = f"{path}.{unknown[0]} is not a field; expected one of {known}"
        raise MalformedField(message, field=f"{path}.{unknown[0]}", expected=known)
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in value:
            raise MissingField(f"{path}.{field.name} is missing", field=f"{path}.{field.name}")
    return kind(**{name: _build(hints[name], item, f"{path}.{name}") for name, item in value.items()})


def _malformed(path: str, value: object, expected: str) -> MalformedField:
    return MalformedField(f"{path} is {value!r}; expected {expected}", field=path, value=value, expected=expected)
