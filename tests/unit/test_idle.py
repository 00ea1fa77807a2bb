"""The idle limit of a stream counts only while its client owes a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cxreval.errors import EmptyStream, StreamIdle
from services.chassis.interceptors import idle
from services.chassis.interceptors.call import Call

CALL = Call("a.Service", "Method", context=None, streaming=True)  # type: ignore[arg-type]
SECONDS = 0.05


async def messages(*pauses: float) -> AsyncIterator[int]:
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        yield number


def received(*pauses: float) -> list[Any]:
    async def run() -> list[Any]:
        return [message async for message in idle.Requests(CALL, messages(*pauses), SECONDS)]

    return asyncio.run(run())


def test_messages_in_time_are_received_however_long_all_of_them_take() -> None:
    assert received(*[SECONDS / 5] * 10) == list(range(10))


@pytest.mark.parametrize("pauses", [(10.0,), (0.0, 0.0, 10.0)], ids=["first message", "later"])
def test_a_late_message_ends_the_stream_by_name(pauses: tuple[float, ...]) -> None:
    with pytest.raises(StreamIdle, match=r"Method: no message arrived for 0\.05 seconds") as caught:
        received(*pauses)
    assert caught.value.metadata == {"limit_seconds": "0.05"}


def test_a_stream_that_is_being_answered_is_not_idle_and_is_afterwards() -> None:
    async def run() -> tuple[int, float]:
        requests = idle.Requests(CALL, messages(0.0, 10.0), SECONDS)
        idle.enter(requests)

        async def answer() -> None:
            with idle.answering():
                await asyncio.sleep(4 * SECONDS)

        first = await anext(requests)
        start = asyncio.get_running_loop().time()
        answers = [asyncio.create_task(answer()) for _ in range(2)]
        with pytest.raises(StreamIdle):
            await anext(requests)
        await asyncio.gather(*answers)
        return first, asyncio.get_running_loop().time() - start

    first, seconds = asyncio.run(run())
    assert first == 0
    assert 5 * SECONDS <= seconds < 5


def test_answering_outside_a_stream_does_nothing() -> None:
    with idle.answering():
        pass


def test_the_request_of_a_unary_call_may_not_be_missing() -> None:
    async def only(*pauses: float) -> Any:
        return await idle.Requests(CALL, messages(*pauses), SECONDS).only()

    assert asyncio.run(only(0.0, 10.0)) == 0
    with pytest.raises(EmptyStream, match="expected one message"):
        asyncio.run(only())
    with pytest.raises(StreamIdle):
        asyncio.run(only(10.0))
