"""Says who calls the registry: by an API key, or by the certificate of a worker.

Keys that proved good are remembered for a moment, by the sha256 of their text, so that a worker's
thousands of calls do
not each ask the database. What is no key is never remembered: whoever tries one waits for the
database each time.
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

REMEMBERED_SECONDS = 3.0
"""How long a revoked key may still be taken for good."""

_MOST_REMEMBERED = 10_000


class KeyAuthenticator:
    """Takes API keys and the certificates of workers. Used by one event loop."""

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
        self._nobody = Principal("", frozenset({Role.PUBLIC} if public_board else ()))
        self._remembered: dict[bytes, tuple[ApiKey, float]] = {}

    async def principal(self, credentials: Credentials) -> Principal:
        """See `Authenticator`. With a key and a certificate, the caller is whom the key says."""
        text = credentials.bearer()
        if text:
            return (await self._key(text)).principal(self._clock())
        workers = self._workers and self._workers & credentials.certificate_names()
        if workers:
            return Principal(f"certificates/{min(workers)}", frozenset({Role.PUBLIC, Role.WORKER}))
        return self._nobody

    async def _key(self, text: str) -> ApiKey:
        digest, now = hashlib.sha256(text.encode()).digest(), time.monotonic()
        key, until = self._remembered.get(digest, (None, 0.0))
        if key is None or until <= now:
            self._remembered.pop(digest, None)
            key = await asyncio.to_thread(self._organisations.key_of, text)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = key, now + REMEMBERED_SECONDS
        return key
