"""API keys, organisations and what each organisation may use up. No secret is ever kept: only its
sha256."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cxreval.errors import KeyExpired, KeyRevoked, KeyUnknown, QuotaExceeded
from cxreval.records import Quota, Role
from cxreval.resource_names import KeyName, OrganisationName
from services.chassis.principal import Principal

_TEXT = re.compile(r"cxr_([0-9a-f]{16})_([0-9a-f]{64})")
_NOBODYS = "0" * 64

KEY_ROLES = (Role.VIEWER, Role.SUBMITTER, Role.WORKER, Role.OPERATOR)
"""The roles that a key can have."""

UNDER_WAY_SECONDS = 60.0
"""When a caller may try again who has too many submissions under way; nobody knows when one of them
ends."""

OPERATORS = "operators"
"""The organisation of the first operator."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an organisation has used up, counted as `Quota` says; `reset_time` begins its next
    day."""

    submissions_today: int
    concurrent: int
    stored_bytes: int
    reset_time: datetime


@dataclass(frozen=True, slots=True)
class Organisation:
    """Whom submissions belong to. `display_name` is for people; boards show what the manifests
    say."""

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
        """Its resource name, which stands in the events of what is done with it."""
        return KeyName(self.organisation, self.id)

    def principal(self, now: datetime) -> Principal:
        """Whom the key stands for. Raises `KeyRevoked`, `KeyExpired`."""
        if self.revoke_time:
            raise KeyRevoked(
                f"{self.name} was revoked; expected a key that is good", name=self.name
            )
        if self.expire_time and self.expire_time <= now:
            until = self.expire_time.isoformat(timespec="seconds")
            message = f"{self.name} was good until {until}; expected a key that is good"
            raise KeyExpired(message, name=self.name, expire_time=until)
        return Principal(str(self.name), frozenset({Role.PUBLIC, self.role}), self.organisation)


def day_of(now: datetime) -> tuple[datetime, datetime]:
    """Beginning and end of a moment's day in UTC."""
    begin = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


def check_day(organisation: Organisation, used: int, now: datetime) -> None:
    """Raises `QuotaExceeded` unless one more submission, or retry, fits into the day."""
    limit, (_, reset) = organisation.quota.submissions_per_day, day_of(now)
    if limit is not None and used >= limit:
        text = f"{used} of {limit} submissions and retries of today; the count begins again at {_moment(reset)}"
        wait = (reset - now).total_seconds()
        raise _exceeded(
            organisation, "submissions_per_day", limit, used, text, _moment(reset), wait
        )


def check_concurrent(organisation: Organisation, used: int) -> None:
    """Raises `QuotaExceeded` unless one more submission may be under way."""
    limit = organisation.quota.concurrent
    if limit is not None and used >= limit:
        text = f"{used} of {limit} submissions are under way; expected one of them to end, or to be cancelled"
        raise _exceeded(
            organisation,
            "concurrent",
            limit,
            used,
            text,
            "when a submission ends",
            UNDER_WAY_SECONDS,
        )


def check_bytes(organisation: Organisation, stored: int, uploading: int, more: int) -> None:
    """Raises `QuotaExceeded` unless so many more bytes may be stored beside those that are and
    those that come."""
    limit, used = organisation.quota.stored_bytes, stored + uploading
    if limit is not None and used + more > limit:
        on_their_way = f", {uploading} of them by uploads under way" if uploading else ""
        text = f"{used} of {limit} bytes are taken{on_their_way}, and this artifact has {more}; expected a smaller one"
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
    """A new key: its identifier, the sha256 of its secret, and its text, which nobody can make out
    of the two.

    `request`: what identifies the request for it, so that one that comes again finds the key by its
    identifier.
    """
    identifier = _digest(request)[:16] if request else secrets.token_hex(8)
    secret = secrets.token_hex(32)
    return identifier, _digest(secret), f"cxr_{identifier}_{secret}"


def parts(text: str) -> tuple[str, str]:
    """Identifier and secret of a key's text. Raises `KeyUnknown`."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise unknown_key()
    return found[1], found[2]


def matches(stored: str | None, secret: str) -> bool:
    """Whether `stored` is the secret's digest. None, for a key that does not exist, takes just as
    long to refuse."""
    same = hmac.compare_digest(stored or _NOBODYS, _digest(secret))
    return same and stored is not None


def unknown_key() -> KeyUnknown:
    """One error for a wrong form, a wrong identifier and a wrong secret. Nothing of the text is
    repeated."""
    expected = "a key as it was shown when it was created: cxr_{key}_{secret}"
    return KeyUnknown(f"the API key is not known here; expected {expected}", expected=expected)


def _digest(secret: str) -> str:
    # Plain sha256: a secret of 256 random bits cannot be guessed, so there is nothing to slow down.
    return hashlib.sha256(secret.encode()).hexdigest()
