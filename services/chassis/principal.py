"""The caller of an rpc and its roles, independent of the transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

from cxreval.records import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. Every caller has the role PUBLIC; an anonymous one has no name and no other role.

    Attributes:
        name: how events name the caller; empty if anonymous.
        roles: the caller's roles.
        organisation: identifier of the caller's organisation; may be empty.
    """

    name: str
    roles: frozenset[Role]
    organisation: str = ""

    @property
    def sees_everything(self) -> bool:
        """Whether the caller may read everything of every organisation."""
        return bool(self.roles & {Role.WORKER, Role.OPERATOR})

    def knows(self, owner: str) -> bool:
        """Returns whether the caller may read everything that the organisation `owner` owns."""
        return self.sees_everything or (bool(owner) and owner == self.organisation)


EVERYBODY = Principal("anybody", frozenset(Role))
"""The caller of every rpc of a service without authentication."""

_current: ContextVar[Principal] = ContextVar("cxreval_principal")
_check: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("cxreval_check_admitted")
_stream_caller: ContextVar[str] = ContextVar("cxreval_stream_caller", default="")


def caller() -> Principal:
    """Returns the caller of the running call. Raises `LookupError` outside a call."""
    return _current.get()


def enter(principal: Principal) -> None:
    """Sets the caller of the running call, which is a task of its own."""
    _current.set(principal)


def enter_stream(check: Callable[[], Awaitable[None]], who: str) -> None:
    """Sets, for the running stream, which is a task of its own, what `check_admitted` calls and
    `stream_caller` returns."""
    _check.set(check)
    _stream_caller.set(who)


def stream_caller() -> str:
    """Returns who shares the limits on open streams with the running one: `Call.caller`."""
    return _stream_caller.get()


async def check_admitted() -> None:
    """Checks, before a permanent change in a stream, that its caller is still admitted.

    Raises:
        CxrevalError: the error that a new call of this caller would get.
    """
    await _check.get()()
