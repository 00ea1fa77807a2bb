"""API keys, organisations and quotas. The registry stores only the sha256 of a key's secret."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cxreval.errors import KeyExpired, KeyRevoked, KeyUnknown, QuotaExceeded
from cxreval.records import Quota, Role
from cxreval.resource_names import KEY_ID, KeyName, OrganisationName
from services.chassis.principal import Principal

_TEXT = re.compile(rf"cxr_({KEY_ID.pattern})_([0-9a-f]{{64}})")
_NO_DIGEST = "0" * 64

KEY_ROLES = (Role.VIEWER, Role.SUBMITTER, Role.WORKER, Role.OPERATOR)
"""The roles that a key can have."""

CONCURRENT_SECONDS = 60.0
"""Seconds after which to retry a submission beyond the limit of concurrent ones.

The end of a running submission cannot be predicted.
"""

OPERATORS = "operators"
"""The organisation of the first operator."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an organisation uses of its quota. `reset_time` is when the next day begins."""

    submissions_today: int
    concurrent: int
    stored_bytes: int
    reset_time: datetime


@dataclass(frozen=True, slots=True)
class Organisation:
    """An owner of submissions. Boards show the organisation of the manifest, not `display_name`."""

    id: str
    display_name: str
    quota: Quota
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    organisation: str
    role: Role
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    @property
    def name(self) -> KeyName:
        """The key's resource name, which is the actor of events caused with it."""
        return KeyName(self.organisation, self.id)

    def principal(self, now: datetime) -> Principal:
        """Returns the caller that the key authenticates. Raises `KeyRevoked`, `KeyExpired`."""
        if self.revoke_time:
            raise KeyRevoked(f"{self.name} was revoked; use another key", name=self.name)
        if self.expire_time and self.expire_time <= now:
            until = self.expire_time.isoformat(timespec="seconds")
            message = f"{self.name} expired at {until}; use another key"
            raise KeyExpired(message, name=self.name, expire_time=until)
        return Principal(str(self.name), frozenset({Role.PUBLIC, self.role}), self.organisation)


def day_of(now: datetime) -> tuple[datetime, datetime]:
    """Returns the beginning and the end, in UTC, of the day of a time."""
    begin = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


def check_day(organisation: Organisation, used: int, now: datetime) -> None:
    """Raises `QuotaExceeded` unless another submission or retry is allowed today."""
    limit, (_, reset) = organisation.quota.submissions_per_day, day_of(now)
    if limit is not None and used >= limit:
        text = f"{used} of {limit} submissions and retries of today; "
        text += f"submit again after {_moment(reset)}"
        wait = (reset - now).total_seconds()
        raise _exceeded(
            organisation, "submissions_per_day", limit, used, text, _moment(reset), wait
        )


def check_concurrent(organisation: Organisation, used: int) -> None:
    """Raises `QuotaExceeded` unless another concurrent submission is allowed."""
    limit = organisation.quota.concurrent
    if limit is not None and used >= limit:
        text = f"{used} of {limit} submissions have not ended; wait until one ends, or cancel one"
        reset = "when a submission ends"
        raise _exceeded(organisation, "concurrent", limit, used, text, reset, CONCURRENT_SECONDS)


def check_bytes(organisation: Organisation, stored: int, uploading: int, more: int) -> None:
    """Raises `QuotaExceeded` unless `more` bytes fit beside the stored and the uploading ones."""
    limit, used = organisation.quota.stored_bytes, stored + uploading
    if limit is not None and used + more > limit:
        part = f", {uploading} of them by uploads in progress" if uploading else ""
        text = f"{used} of {limit} bytes are taken{part}, and this artifact has {more}; "
        text += "upload a smaller one or ask the operator for a larger quota"
        reset = "when an upload ends" if uploading else "never by itself"
        raise _exceeded(organisation, "stored_bytes", limit, used, text, reset, None)


def _exceeded(
    organisation: Organisation,
    quota: str,
    limit: int,
    used: int,
    text: str,
    reset: str,
    wait: float | None,
) -> QuotaExceeded:
    message = f"the quota of {OrganisationName(organisation.id)} is used up: {text}"
    retry = {} if wait is None else {"retry_seconds": f"{wait:.0f}"}
    return QuotaExceeded(message, quota=quota, limit=limit, used=used, reset_time=reset, **retry)


def _moment(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def new_key(request: str = "") -> tuple[str, str, str]:
    """Creates a key and returns its identifier, the sha256 of its secret, and its text.

    `request` identifies the request. The same request gives the same identifier, so that a
    repeated request can be detected.
    """
    identifier = _digest(request)[:16] if request else secrets.token_hex(8)
    secret = secrets.token_hex(32)
    return identifier, _digest(secret), f"cxr_{identifier}_{secret}"


def parts(text: str) -> tuple[str, str]:
    """Returns the identifier and the secret in a key's text. Raises `KeyUnknown`."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise unknown_key()
    return match[1], match[2]


def matches(stored: str | None, secret: str) -> bool:
    """Returns whether `stored` is the digest of the secret.

    It is None if the key does not exist. The comparison always takes the same time, so that callers
    cannot learn which keys exist.
    """
    same = hmac.compare_digest(stored or _NO_DIGEST, _digest(secret))
    return same and stored is not None


def unknown_key() -> KeyUnknown:
    """Returns the error for a key whose form, identifier or secret is wrong, without its text."""
    expected = "cxr_{key}_{secret}, as printed when the key was created"
    return KeyUnknown(f"the API key is unknown; expected {expected}", expected=expected)


def _digest(secret: str) -> str:
    # Plain sha256: a secret of 256 random bits cannot be guessed, so no slow hash is needed.
    return hashlib.sha256(secret.encode()).hexdigest()
