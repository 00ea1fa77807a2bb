"""Forms of single values: the rules of a manifest check them, the JSON Schema states them."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Protocol

from cxreval.errors import CxrevalError, MalformedField
from cxreval.fields import (
    EMAIL,
    MAX_EMAIL_CHARACTERS,
    MAX_URL_CHARACTERS,
    check_email,
    check_https_url,
    check_text,
    field_error,
)

# In Python, `$` also matches before a final line feed; this matches only at the end, in every
# dialect.
_END = r"(?![\s\S])"


class Form(Protocol):
    """The form of a value."""

    @property
    def expected(self) -> str:
        """The form in words, for error messages."""

    def check(self, field: str, value: Any) -> None:
        """Raises the error for a value that does not have the form."""

    def schema(self) -> dict[str, Any]:
        """Returns the form as JSON Schema, which may allow more."""


def whole(pattern: str) -> str:
    """Returns the pattern for JSON Schema, anchored to the whole text."""
    return f"^(?:{pattern}){_END}"


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text without spaces around it, at most `longest` characters.

    `noun` is what error messages call it; `empty` allows the empty text, too.
    """

    longest: int
    noun: str = "text"
    empty: bool = False

    @property
    def expected(self) -> str:
        """The form in words."""
        return f"{self.noun} of 1 to {self.longest} printable characters"

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_text(field, value, self.longest, required=not self.empty)

    def schema(self) -> dict[str, Any]:
        """Allows characters that are not printable."""
        pattern = r"(?:\S(?:[^\r\n]*\S)?)?" if self.empty else r"\S(?:[^\r\n]*\S)?"
        return {"type": "string", "maxLength": self.longest, "pattern": whole(pattern)}


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that matches the whole pattern; `error` is raised for any other."""

    pattern: str
    expected: str
    error: type[CxrevalError] = MalformedField
    longest: int = 1000

    def check(self, field: str, value: Any) -> None:
        """Raises `error`."""
        if len(value) > self.longest or not re.fullmatch(self.pattern, value):
            raise field_error(field, value, self.expected, self.error)

    def schema(self) -> dict[str, Any]:
        """Allows the same as `check`."""
        return {"type": "string", "maxLength": self.longest, "pattern": whole(self.pattern)}


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several words; `error` is raised for any other.

    `instead` ends the sentence that lists the words: what a field of another name takes.
    """

    words: tuple[str, ...]
    error: type[CxrevalError] = MalformedField
    instead: str = ""

    @property
    def expected(self) -> str:
        """The form in words."""
        return f"one of {', '.join(self.words)}{self.instead}"

    def check(self, field: str, value: Any) -> None:
        """Raises `error`."""
        if value not in self.words:
            raise field_error(field, value, self.expected, self.error)

    def schema(self) -> dict[str, Any]:
        """Allows the same as `check`."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """An address `https://...` without credentials."""

    expected: ClassVar[str] = "an address https://..."

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_https_url(field, value, required=True)

    def schema(self) -> dict[str, Any]:
        """Allows ports that are not numbers."""
        return {
            "type": "string",
            "maxLength": MAX_URL_CHARACTERS,
            "pattern": whole(r"[hH][tT][tT][pP][sS]://[^\s/@]\S*"),
        }


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address."""

    expected: ClassVar[str] = "an e-mail address"

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        check_email(field, value)

    def schema(self) -> dict[str, Any]:
        """Allows characters that are not printable."""
        return {
            "type": "string",
            "maxLength": MAX_EMAIL_CHARACTERS,
            "pattern": whole(EMAIL.pattern),
        }


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`."""

    low: float
    high: float

    @property
    def expected(self) -> str:
        """The form in words."""
        return f"a finite number from {self.low:g} to {self.high:g}"

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise field_error(field, value, self.expected)

    def schema(self) -> dict[str, Any]:
        """Allows the same as `check`."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int = -(2**63)
    high: int = 2**63 - 1

    @property
    def expected(self) -> str:
        """The form in words."""
        if self == Whole():
            return "a whole number of at most 64 bits"
        return f"a whole number from {self.low} to {self.high}"

    def check(self, field: str, value: Any) -> None:
        """Raises `MalformedField`."""
        if not self.low <= value <= self.high:
            raise field_error(field, value, self.expected)

    def schema(self) -> dict[str, Any]:
        """Allows the same as `check`."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    expected: ClassVar[str] = "true or false"

    def check(self, field: str, value: Any) -> None:
        """Accepts every value."""

    def schema(self) -> dict[str, Any]:
        """Allows the same as `check`."""
        return {"type": "boolean"}


def declared(
    about: str, form: Form | None, example: Any, default: Any = MISSING, most: int = 0
) -> Any:
    """Returns a field of a dataclass that a manifest declares, required unless it has a default.

    `most` is the maximum length of a list, whose items have the form `form`.
    """
    return dataclasses.field(
        default=default, metadata={"about": about, "form": form, "example": example, "most": most}
    )
