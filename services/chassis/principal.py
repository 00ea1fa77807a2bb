"""Who calls, and what they may do. Plain values: what judges by them needs no transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

from cxreval.records import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `name` stands in the events of what they do; `organisation` is an identifier, or
    empty.

    Somebody who does not say who they are has no name. Whoever has any other role has the role
    PUBLIC, too.
    """

    name: str
    roles: frozenset[Role]
    organisation: str = ""

    @property
    def sees_everything(self) -> bool:
        """Whether nothing is kept from them because it is somebody else's."""
        return bool(self.roles & {Role.WORKER, Role.OPERATOR})

    def knows(self, owner: str) -> bool:
        """Whether they may know everything about what belongs to `owner`, an organisation, or empty
        for nobody."""
        return self.sees_everything or (bool(owner) and owner == self.organisation)


EVERYBODY = Principal("anybody", frozenset(Role))
"""The caller of a service that asks nobody for a name."""

_current: ContextVar[Principal] = ContextVar("cxreval_principal")
_check: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("cxreval_check_admitted")


def caller() -> Principal:
    """Who makes the running call. Raises `LookupError` outside one: there is no default that could
    be too much."""
    return _current.get()


def enter(principal: Principal) -> None:
    """Makes somebody the caller until the running call, which is a task of its own, ends."""
    _current.set(principal)


def enter_stream(check: Callable[[], Awaitable[None]]) -> None:
    """Makes `check` what `check_admitted` asks until the running stream, which is a task of its
    own, ends."""
    _check.set(check)


async def check_admitted() -> None:
    """Asks again, in a stream, before something that lasts. Raises what its caller would be told if
    it began now."""
    await _check.get()()
