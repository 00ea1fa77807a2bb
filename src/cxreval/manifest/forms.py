"""What a single value may look like: one form, used by the rules and by the JSON Schema."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from cxreval.errors import CxrevalError, MalformedField
from cxreval.fields import (
    MAX_EMAIL_CHARACTERS,
    MAX_URL_CHARACTERS,
    check_email,
    check_https_url,
    check_text,
    field_error,
)

# `$` also holds before a line feed at the end, in Python; this holds only at the end, in every
# dialect.
_END = r"(?![\s\S])"


class Form(Protocol):
    """What a value that is given may look like."""

    def check(self, field: str, value: Any) -> None:
        """Raises the error for a value that does not fit."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema, or less where it cannot say it."""


def whole(pattern: str) -> str:
    """A pattern of JSON Schema that the whole text must match."""
    return f"^(?:{pattern}){_END}"


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text without white space around it, at most `longest` characters."""

    longest: int

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_text(field, value, self.longest)

    def schema(self) -> dict[str, Any]:
        """Characters that cannot be printed are left to `check`."""
        return {"type": "string", "maxLength": self.longest, "pattern": whole(r"\S(?:[^\r\n]*\S)?")}


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that matches a pattern as a whole; `error` is raised for any other."""

    pattern: str
    expected: str
    error: type[CxrevalError] = MalformedField
    longest: int = 1000

    def check(self, field: str, value: Any) -> None:
        """Raises `error`."""
        if len(value) > self.longest or not re.fullmatch(self.pattern, value):
            raise field_error(field, value, self.expected, self.error)

    def schema(self) -> dict[str, Any]:
        """Exactly `check`."""
        return {"type": "string", "maxLength": self.longest, "pattern": whole(self.pattern)}


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words; `error` is raised for any other."""

    words: tuple[str, ...]
    error: type[CxrevalError] = MalformedField

    def check(self, field: str, value: Any) -> None:
        """Raises `error`."""
        if value not in self.words:
            raise field_error(field, value, f"one of {', '.join(self.words)}", self.error)

    def schema(self) -> dict[str, Any]:
        """Exactly `check`."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """An address `https://...` without credentials."""

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_https_url(field, value, required=True)

    def schema(self) -> dict[str, Any]:
        """Ports that are no numbers are left to `check`."""
        return {
            "type": "string",
            "maxLength": MAX_URL_CHARACTERS,
            "pattern": whole(r"[hH][tT][tT][pP][sS]://[^\s/@]\S*"),
        }


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address."""

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_email(field, value)

    def schema(self) -> dict[str, Any]:
        """Characters that cannot be printed are left to `check`."""
        return {
            "type": "string",
            "maxLength": MAX_EMAIL_CHARACTERS,
            "pattern": whole(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+"),
        }


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`."""

    low: float
    high: float

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise field_error(field, value, f"a finite number from {self.low:g} to {self.high:g}")

    def schema(self) -> dict[str, Any]:
        """Exactly `check`."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of at most 64 bits."""

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        if not -(2**63) <= value < 2**63:
            raise field_error(field, value, "a whole number of at most 64 bits")

    def schema(self) -> dict[str, Any]:
        """Exactly `check`."""
        return {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, field: str, value: Any) -> None:
        """Every value of the type fits."""

    def schema(self) -> dict[str, Any]:
        """Exactly `check`."""
        return {"type": "boolean"}
