"""Converts request fields that several resources share."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from cxreval.fields import check_text, field_error
from cxreval.records import Change
from cxreval.wire.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_REASON_CHARACTERS
from services.registry.domain.pages import Cursor, page_size
from services.registry.domain.records import ChangeRequest

_ETAG = re.compile(r"[1-9][0-9]{0,8}")


def cursor(kind: str, parent: str, size: int, token: str) -> Cursor:
    """Returns the cursor of a requested page. Raises `MalformedField`, `InvalidPageToken`."""
    return Cursor.parse(kind, parent, page_size(size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), token)


def request_id(text: str) -> str:
    """Returns a request's UUID as 32 hex characters; empty if unset. Raises `MalformedField`."""
    if not text:
        return ""
    expected = "empty, or a UUID such as 123e4567-e89b-12d3-a456-426614174000"
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise field_error("request_id", text, expected) from None
    return parsed.hex


def change_request(request: Any, change: Change, **more: Any) -> ChangeRequest:
    """Returns the change that a lifecycle request asks for.

    Raises `MissingField`, `MalformedField`.
    """
    check_text("reason", request.reason, MAX_REASON_CHARACTERS)
    if request.etag and not _ETAG.fullmatch(request.etag):
        raise field_error("etag", request.etag, "empty, or the etag of a submission")
    etag = int(request.etag) if request.etag else None
    return ChangeRequest(change, request.reason, etag, request_id(request.request_id), **more)


def moment(message: Timestamp) -> datetime:
    """Returns the time in the field `as_of` of a request. Raises `MalformedField`."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise field_error("as_of", message.seconds, "a time from year 1 to 9999") from None
