"""Checks of single fields of messages and files. Each error names the field and what is expected.

An error repeats only the beginning of a refused value: it travels in gRPC metadata, which holds a
few kilobytes.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from urllib.parse import urlsplit

from cxreval import joiners
from cxreval.errors import CxrevalError, MalformedField, MissingField

MAX_URL_CHARACTERS = 2000
MAX_EMAIL_CHARACTERS = 254
_SHOWN_CHARACTERS = 80

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA256_FORM = "64 lower-case hex characters"

EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\]"
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
HOST_PORT = re.compile(rf"(?:{_HOST}):(?:{_PORT})")
"""A host name, IPv4 address or IPv6 address in brackets, with a port."""

_HOST_ANY_PORT = re.compile(rf"({_HOST}):(0|{_PORT})")


def printable(text: str) -> str:
    """Returns the text with a space for each character that is not printable.

    Such characters control a terminal or reverse the reading order: ESC, NUL, line breaks,
    bidirectional controls. Joiners that the text needs are kept: see `joiners`.
    """
    if text.isprintable():
        return text
    kept = joiners.needed(text)
    return "".join(
        letter if letter.isprintable() or index in kept else " "
        for index, letter in enumerate(text)
    )


def is_printable(text: str) -> bool:
    """Returns whether `printable` changes nothing."""
    return text.isprintable() or printable(text) == text


def shown(value: object) -> str:
    """Returns the value as text for an error, at most 80 characters."""
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def field_error(
    field: str,
    value: object,
    expected: str,
    kind: type[CxrevalError] = MalformedField,
    **metadata: object,
) -> CxrevalError:
    """Returns the error for a field with a wrong value."""
    text = f"{field} is {shown(value)!r}; expected {expected}"
    return kind(text, field=field, value=shown(value), expected=expected, **metadata)


def required(field: str, expected: str, context: str = "") -> MissingField:
    """Returns the error for an empty field that is required, always or in a context."""
    text = f"{field} is required{f' for {context}' if context else ''}: {expected}"
    return MissingField(text, field=field, expected=expected)


def not_allowed(field: str, context: str) -> MalformedField:
    """Returns the error for a field that must be empty in a context such as `kind claim`."""
    text = f"{field} is not allowed for {context}; remove it"
    return MalformedField(text, field=field, value="given", expected=f"no value for {context}")


def require(field: str, value: object, expected: str) -> None:
    """Raises `MissingField` if the value is empty."""
    if not value:
        raise required(field, expected)


def read_time(field: str, value: str) -> datetime:
    """Returns a time of RFC 3339 in UTC; a date alone is the last microsecond of its day in UTC.

    A time without an offset is in UTC. Digits after the sixth of a second are dropped.

    Raises:
        MalformedField: the text is neither.
    """
    text = value.upper()
    try:
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time.max, UTC)
        if _TIME.fullmatch(text):
            read = datetime.fromisoformat(text)
            return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise field_error(field, value, "a date or a time of RFC 3339, such as 2026-11-29T07:05:30Z")


def check_text(field: str, value: str, longest: int, *, required: bool = True) -> None:
    """Raises unless the text is printable, at most `longest` long, without spaces around it."""
    least = "1 to" if required else "at most"
    expected = f"{least} {longest} printable characters without spaces around them"
    if required:
        require(field, value, expected)
    if len(value) > longest or not is_printable(value) or value != value.strip():
        raise field_error(field, value, expected)


def check_pattern(field: str, value: str, pattern: re.Pattern[str], expected: str) -> None:
    """Raises unless the whole text matches `pattern`."""
    require(field, value, expected)
    if not pattern.fullmatch(value):
        raise field_error(field, value, expected)


def check_sha256(field: str, value: str) -> None:
    """Raises unless the text is a sha256 in lower-case hex."""
    check_pattern(field, value, SHA256, SHA256_FORM)


def check_email(field: str, value: str) -> None:
    """Raises unless the text is an e-mail address."""
    expected = "an e-mail address such as name@example.org"
    require(field, value, expected)
    if len(value) > MAX_EMAIL_CHARACTERS or not value.isprintable() or not EMAIL.fullmatch(value):
        raise field_error(field, value, expected)


def check_https_url(field: str, value: str, *, required: bool) -> None:
    """Raises unless the text is an address `https://host/...` without credentials."""
    expected = (
        f"an address https://... of at most {MAX_URL_CHARACTERS} characters, "
        "without spaces or credentials"
    )
    if required:
        require(field, value, expected)
    if value and not _is_https_url(value):
        raise field_error(field, value, expected)


def split_host_port(address: str) -> tuple[str, int]:
    """Returns the host, without brackets, and the port (0 to 65535) of `host:port`.

    Raises:
        ValueError: the text is not such an address.
    """
    parts = _HOST_ANY_PORT.fullmatch(address)
    if not parts:
        raise ValueError(f"{shown(address)!r} is not host:port")
    return parts[1].strip("[]"), int(parts[2])


def with_port(address: str, port: int) -> str:
    """Returns `host:port` with another port; an IPv6 address keeps its brackets."""
    return f"{address.rpartition(':')[0]}:{port}"


def _is_https_url(value: str) -> bool:
    if len(value) > MAX_URL_CHARACTERS or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it raises when it is not a number
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
