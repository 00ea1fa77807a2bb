"""Checks of single fields of messages and files. Each error names the field and what was expected.

A refused value is shown shortened: error details travel in gRPC metadata, which holds a few
kilobytes.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from cxreval.errors import CxrevalError, MalformedField, MissingField

MAX_URL_CHARACTERS = 2000
MAX_EMAIL_CHARACTERS = 254
_SHOWN_CHARACTERS = 80
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def printable(text: str) -> str:
    """The text with a space for every character that could steer a terminal or turn what is read
    around: ESC, NUL, line breaks, bidirectional controls."""
    return (
        text
        if text.isprintable()
        else "".join(letter if letter.isprintable() else " " for letter in text)
    )


def shown(value: object) -> str:
    """The value as an error may show it: at most 80 characters."""
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def field_error(
    field: str,
    value: object,
    expected: str,
    kind: type[CxrevalError] = MalformedField,
    **metadata: object,
) -> CxrevalError:
    """The error for a field that is not what was expected."""
    text = f"{field} is {shown(value)!r}; expected {expected}"
    return kind(text, field=field, value=shown(value), expected=expected, **metadata)


def require(field: str, value: object, expected: str) -> None:
    """Raises `MissingField` when the value is empty."""
    if not value:
        raise MissingField(f"{field} is empty; expected {expected}", field=field, expected=expected)


def check_text(field: str, value: str, longest: int, *, required: bool = True) -> None:
    """Printable text without white space around it, at most `longest` characters."""
    expected = f"{'1 to' if required else 'at most'} {longest} printable characters without spaces around them"
    if required:
        require(field, value, expected)
    if len(value) > longest or not value.isprintable() or value != value.strip():
        raise field_error(field, value, expected)


def check_pattern(field: str, value: str, pattern: re.Pattern[str], expected: str) -> None:
    """Required text that matches `pattern` as a whole."""
    require(field, value, expected)
    if not pattern.fullmatch(value):
        raise field_error(field, value, expected)


def check_email(field: str, value: str) -> None:
    """A required e-mail address."""
    expected = "an e-mail address such as name@example.org"
    require(field, value, expected)
    if len(value) > MAX_EMAIL_CHARACTERS or not value.isprintable() or not _EMAIL.fullmatch(value):
        raise field_error(field, value, expected)


def check_https_url(field: str, value: str, *, required: bool) -> None:
    """An address `https://host/...` without credentials."""
    expected = f"an address https://... of at most {MAX_URL_CHARACTERS} characters, without spaces or credentials"
    if required:
        require(field, value, expected)
    if value and not _is_https_url(value):
        raise field_error(field, value, expected)


def _is_https_url(value: str) -> bool:
    if len(value) > MAX_URL_CHARACTERS or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it raises when it is not a number
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
