"""Limits on the number of watchers, per organisation and in all."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from cxreval.errors import ServiceOverloaded
from services.chassis.principal import Principal, Role
from services.registry.servicers.watching import MAX_WATCHERS, MAX_WATCHERS_OF_ONE, Watching


def member(organisation: str, key: int) -> Principal:
    return Principal(
        f"organisations/{organisation}/keys/{key}", frozenset({Role.VIEWER}), organisation
    )


def test_watchers_are_limited_per_organisation_and_released() -> None:
    async def watch() -> None:
        watching = Watching(lambda _: {}, 0.01)
        with ExitStack() as held:
            for number in range(MAX_WATCHERS_OF_ONE):
                held.enter_context(watching.watch("one", member("rival", number % 7)))
            with (
                pytest.raises(
                    ServiceOverloaded, match=rf"\(limit {MAX_WATCHERS_OF_ONE}\); poll GetSubmission"
                ),
                watching.watch("one", member("rival", 8)),
            ):
                pass
            with (
                watching.watch("one", member("acme", 1)),
                watching.watch("other", Principal("", frozenset())),
            ):
                pass
        with watching.watch("one", member("rival", 8)):
            pass

    asyncio.run(watch())


def test_all_together_are_limited_too() -> None:
    async def watch() -> None:
        watching = Watching(lambda _: {}, 0.01)
        with ExitStack() as held:
            for number in range(MAX_WATCHERS):
                held.enter_context(watching.watch("one", member(f"organisation-{number % 10}", 0)))
            with (
                pytest.raises(
                    ServiceOverloaded, match=rf"\(limit of the registry {MAX_WATCHERS}\)"
                ),
                watching.watch("one", member("acme", 1)),
            ):
                pass

    asyncio.run(watch())
