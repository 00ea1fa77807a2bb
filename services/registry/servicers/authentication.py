"""Authenticates callers of the registry by an API key, or by the certificate of a worker.

Valid keys are cached for a few seconds, by the sha256 of their text, so that not every call of a
worker asks the database. Invalid keys are not cached: each attempt waits for the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from cxreval.records import Role
from services.chassis.interceptors.access import Credentials
from services.chassis.principal import Principal
from services.registry.domain.access import ApiKey
from services.registry.store.organisations import Organisations

CACHE_SECONDS = 3.0
"""How long a revoked key may still be accepted."""

_MAX_CACHED = 10_000


class KeyAuthenticator:
    """Authenticates by API keys and by certificates of workers. Used by one event loop."""

    def __init__(
        self,
        organisations: Organisations,
        clock: Callable[[], datetime],
        worker_certificates: Sequence[str],
        *,
        public_board: bool,
    ) -> None:
        self._organisations = organisations
        self._clock = clock
        self._workers = frozenset(worker_certificates)
        self._anonymous = Principal("", frozenset({Role.PUBLIC} if public_board else ()))
        self._cached: dict[bytes, tuple[ApiKey, float]] = {}

    async def principal(self, credentials: Credentials) -> Principal:
        """See `Authenticator`. A key takes precedence over a certificate."""
        text = credentials.bearer()
        if text:
            return (await self._key(text)).principal(self._clock())
        names = self._workers and self._workers & credentials.certificate_names()
        if names:
            return Principal(f"certificates/{min(names)}", frozenset({Role.PUBLIC, Role.WORKER}))
        return self._anonymous

    async def _key(self, text: str) -> ApiKey:
        digest, now = hashlib.sha256(text.encode()).digest(), time.monotonic()
        key, until = self._cached.get(digest, (None, 0.0))
        if key is None or until <= now:
            self._cached.pop(digest, None)
            key = await asyncio.to_thread(self._organisations.key_of, text)
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[digest] = key, now + CACHE_SECONDS
        return key
