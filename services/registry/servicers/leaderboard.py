"""LeaderboardService: the board, ranked whenever it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.api.registry.v1 import leaderboard_service_pb2_grpc
from cxreval.resource_names import BenchmarkName
from services.registry import convert
from services.registry.domain.board import Row, ranked_rows, sota_steps
from services.registry.domain.pages import Cursor, Page
from services.registry.store.submissions import Submissions


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """Reads the board."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    async def ListLeaderboardEntries(
        self, request: pb.ListLeaderboardEntriesRequest, context: Any
    ) -> pb.ListLeaderboardEntriesResponse:
        """A page of rows: evidence by rank, then claims by rank."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = convert.cursor("leaderboard", str(parent), request.page_size, request.page_token)
        page = _page(await asyncio.to_thread(self._board, parent), cursor)
        return pb.ListLeaderboardEntriesResponse(
            entries=[convert.entry_message(row) for row in page.items], next_page_token=page.next_token
        )

    async def ListSotaSteps(self, request: pb.ListSotaStepsRequest, context: Any) -> pb.ListSotaStepsResponse:
        """A page of steps, oldest first: evidence, then claims."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = convert.cursor("sotaSteps", str(parent), request.page_size, request.page_token)
        page = _page(sota_steps(await asyncio.to_thread(self._board, parent)), cursor)
        return pb.ListSotaStepsResponse(
            steps=[convert.step_message(row) for row in page.items], next_page_token=page.next_token
        )

    def _board(self, parent: BenchmarkName) -> list[Row]:
        benchmark, published = self._submissions.published(parent)
        return ranked_rows(published, benchmark.spec.metrics[0])


def _page(rows: list[Row], cursor: Cursor) -> Page[Row]:
    """The rows behind the cursor's one, wherever that one stands by now."""
    if not cursor.after:
        return cursor.page(rows, _key)
    places = [place for place, row in enumerate(rows) if _key(row) == cursor.after]
    if not places:
        raise cursor.invalid()
    return cursor.page(rows[places[0] + 1 :], _key)


def _key(row: Row) -> str:
    return row.submission.id
