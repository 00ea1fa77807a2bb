"""API keys, organisations and quotas. Of a key's secret only the sha256 is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cxreval.errors import KeyExpired, KeyRevoked, KeyUnknown, QuotaExceeded
from cxreval.resource_names import KEY_ID, KeyName, OrganisationName
from services.chassis.principal import Principal, Role

_TEXT = re.compile(rf"cxr_({KEY_ID.pattern})_([0-9a-f]{{64}})")
_NO_DIGEST = "0" * 64

KEY_ROLES = (Role.VIEWER, Role.SUBMITTER, Role.WORKER, Role.OPERATOR)
"""The roles that a key can have."""

CONCURRENT_SECONDS = 60.0
"""When to retry after reaching the limit of concurrent submissions; the end of a submission cannot
be predicted."""

OPERATORS = "operators"
"""The organisation of the first operator."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an organisation; None: no limit.

    Attributes:
        submissions_per_day: submissions and retries in a day in UTC, counted as in `charges`.
        concurrent: submissions that have not ended.
        stored_bytes: bytes of artifacts, equal ones once, and the declared bytes of uploads in
            progress.
    """

    submissions_per_day: int | None = None
    concurrent: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of an organisation, counted as for `Quota`. `reset_time`: when the next day begins."""

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
        """The caller that the key authenticates. Raises `KeyRevoked`, `KeyExpired`."""
        if self.revoke_time:
            raise KeyRevoked(f"{self.name} was revoked; use another key", name=self.name)
        if self.expire_time and self.expire_time <= now:
            until = self.expire_time.isoformat(timespec="seconds")
            message = f"{self.name} expired at {until}; use another key"
            raise KeyExpired(message, name=self.name, expire_time=until)
        return Principal(str(self.name), frozenset({Role.PUBLIC, self.role}), self.organisation)


def day_of(now: datetime) -> tuple[datetime, datetime]:
    """Beginning and end, in UTC, of the day of a time."""
    begin = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


def check_day(organisation: Organisation, used: int, now: datetime) -> None:
    """Raises `QuotaExceeded` unless another submission or retry is allowed today."""
    limit, (_, reset) = organisation.quota.submissions_per_day, day_of(now)
    if limit is not None and used >= limit:
        text = f"{used} of {limit} submissions and retries of today; "
        text += f"the count begins again at {_moment(reset)}"
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
    """Raises `QuotaExceeded` unless `more` bytes are allowed beside the stored bytes and those of
    uploads in progress."""
    limit, used = organisation.quota.stored_bytes, stored + uploading
    if limit is not None and used + more > limit:
        part = f", {uploading} of them by uploads in progress" if uploading else ""
        text = f"{used} of {limit} bytes are taken{part}, and this artifact has {more}; "
        text += "use a smaller one or ask the operator for a larger quota"
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


@dataclass(frozen=True, slots=True)
class AdminEvent:
    """A change of a key or organisation by an operator."""

    time: datetime
    actor: str
    action: str
    target: str


def new_key(request: str = "") -> tuple[str, str, str]:
    """Creates a key: its identifier, the sha256 of its secret, and its text.

    `request`: identifies the request. The same request gives the same identifier, so that a
    repetition is recognised.
    """
    identifier = _digest(request)[:16] if request else secrets.token_hex(8)
    secret = secrets.token_hex(32)
    return identifier, _digest(secret), f"cxr_{identifier}_{secret}"


def parts(text: str) -> tuple[str, str]:
    """Identifier and secret of a key's text. Raises `KeyUnknown`."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise unknown_key()
    return match[1], match[2]


def matches(stored: str | None, secret: str) -> bool:
    """Returns whether `stored` is the secret's digest. None, for a key that does not exist, takes
    the same time."""
    same = hmac.compare_digest(stored or _NO_DIGEST, _digest(secret))
    return same and stored is not None


def unknown_key() -> KeyUnknown:
    """The error for a wrong form, identifier or secret: the same for all, without the text."""
    expected = "a key as it was shown when it was created: cxr_{key}_{secret}"
    return KeyUnknown(f"the API key is not known here; expected {expected}", expected=expected)


def _digest(secret: str) -> str:
    # Plain sha256: a secret of 256 random bits cannot be guessed, so no slow hash is needed.
    return hashlib.sha256(secret.encode()).hexdigest()
