"""The hosts that are opening models: what memory they may take, and whose models they are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cxreval.errors import ServiceOverloaded, ServiceUnavailable
from services.inference.backends.memory import available_bytes
from services.inference.backends.model_host import ModelHost

MOST_LOADS = 32
"""Models that are opened at once."""


@dataclass(slots=True, eq=False)
class _Opening:
    """The hosts that open a model: what memory they may take together, and whose model it is."""

    memory_bytes: int
    owner: str
    hosts: list[ModelHost] = field(default_factory=list)

    def promised_bytes(self) -> int:
        """Returns how much more memory the hosts may take than they have now."""
        return max(0, self.memory_bytes - sum(host.resident_bytes() for host in self.hosts))


class Openings:
    """The hosts that are opening their models. Thread-safe.

    As many open at once as memory allows. The hosts of one owner take at most half of the memory
    and of the places, so that one owner's slow models leave room for those of others; an owner's
    only host may take all.
    """

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        """`available` returns how many bytes of memory are available."""
        self._available = available
        self._openings: list[_Opening] = []
        self._lock = threading.Lock()
        self._stopping = False

    def hosts(self) -> list[ModelHost]:
        """Returns the hosts that have been started."""
        with self._lock:
            return [host for opening in self._openings for host in opening.hosts]

    def stop(self) -> None:
        """Ends the hosts; those that are started later end at once."""
        self._stopping = True
        for host in self.hosts():
            host.kill(stopping())

    @contextlib.contextmanager
    def reserved(self, nbytes: int, owner: str) -> Iterator[Callable[[ModelHost], None]]:
        """Reserves memory for the hosts of a model while the context lasts, which gets a function
        to call with each of them when it is started.

        Raises:
            ServiceOverloaded: less is left, beside what the other hosts may still take.
        """
        opening = _Opening(nbytes, owner)

        def started(host: ModelHost) -> None:
            host.owner = owner
            with self._lock:
                opening.hosts.append(host)
            if self._stopping:
                host.kill(stopping())

        with self._lock:
            self._check_room(nbytes, owner)
            self._openings.append(opening)
        try:
            yield started
        finally:
            with self._lock:
                self._openings.remove(opening)

    def _check_room(self, nbytes: int, owner: str) -> None:
        own = [opening for opening in self._openings if opening.owner == owner]
        free = self._available() - sum(opening.promised_bytes() for opening in self._openings)
        reserved = sum(opening.memory_bytes for opening in own)
        room = min(free, (free + reserved) // 2 - reserved) if own else free
        if self._openings and nbytes > room:
            raise ServiceOverloaded(
                f"{len(self._openings)} models are being loaded, {len(own)} of this owner, and of "
                f"the memory of {nbytes} bytes that this one may take {max(0, room)} are left for "
                "it; try again later",
                unit="memory",
                limit=max(0, room),
                asked=nbytes,
            )
        if len(self._openings) >= MOST_LOADS or len(own) >= MOST_LOADS // 2:
            raise ServiceOverloaded(
                f"{len(self._openings)} models are being loaded, {len(own)} of this owner; at most "
                f"{MOST_LOADS} are loaded at once, and half of them for one owner: try again "
                "later",
                limit=MOST_LOADS,
            )


def stopping() -> ServiceUnavailable:
    """Returns the error of a load that ends because the service stops."""
    return ServiceUnavailable("this server stops and loads no models any more; try another one")
