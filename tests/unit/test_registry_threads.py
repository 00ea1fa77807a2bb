"""Threads that read a board that is being ranked do not block other calls."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.audit.chain import Head
from services.registry.servicers.leaderboard import LeaderboardServicer


class Ranking:
    """A store of boards and events whose ranking blocks until it is released."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def head(self) -> Head:
        return Head()

    def ranked_rows(self, *_: object) -> list[Any]:
        assert self.go_on.wait(30)
        return []

    def rows(self, *_: object) -> list[Any]:
        return []


def test_a_slow_ranking_does_not_block_other_calls() -> None:
    ranking: Any = Ranking()
    servicer = LeaderboardServicer(ranking, ranking)
    request = pb.ListLeaderboardEntriesRequest(parent="benchmarks/small")

    async def read() -> None:
        readers = [
            asyncio.create_task(servicer.ListLeaderboardEntries(request, None)) for _ in range(100)
        ]
        await asyncio.sleep(0.1)
        assert (
            await asyncio.wait_for(asyncio.to_thread(lambda: "a key is checked"), 10)
            == "a key is checked"
        )
        ranking.go_on.set()
        assert all(not answer.entries for answer in await asyncio.gather(*readers))

    asyncio.run(read())
