"""LeaderboardService: the board, ranked whenever it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.api.registry.v1 import leaderboard_service_pb2_grpc
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.registry import convert
from services.registry.domain.board import Compared, Row, Standing, check_compared, compared, sota_steps
from services.registry.domain.pages import Cursor, Page
from services.registry.store.boards import Boards


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """Reads the board."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards

    async def ListLeaderboardEntries(
        self, request: pb.ListLeaderboardEntriesRequest, context: Any
    ) -> pb.ListLeaderboardEntriesResponse:
        """A page of rows: evidence by rank, then claims by rank."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = convert.cursor("leaderboard", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._entries, parent, cursor)
        return pb.ListLeaderboardEntriesResponse(
            entries=[convert.entry_message(row) for row in page.items], next_page_token=page.next_token
        )

    async def ListSotaSteps(self, request: pb.ListSotaStepsRequest, context: Any) -> pb.ListSotaStepsResponse:
        """A page of steps, oldest first: evidence, then claims."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = convert.cursor("sotaSteps", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._steps, parent, cursor)
        return pb.ListSotaStepsResponse(
            steps=[convert.step_message(row) for row in page.items], next_page_token=page.next_token
        )

    async def CompareEntries(self, request: pb.CompareEntriesRequest, context: Any) -> pb.CompareEntriesResponse:
        """Every two of some rows."""
        parent, names = BenchmarkName.parse(request.parent, "parent"), convert.compared_names(request)
        check_compared(names, parent.benchmark)
        return convert.compared_message(parent, await asyncio.to_thread(self._compared, parent, names))

    def _entries(self, parent: BenchmarkName, cursor: Cursor) -> Page[Row]:
        return self._page(parent, self._boards.standings(parent), cursor)

    def _steps(self, parent: BenchmarkName, cursor: Cursor) -> Page[Row]:
        return self._page(parent, sota_steps(self._boards.standings(parent)), cursor)

    def _compared(self, parent: BenchmarkName, names: list[SubmissionName]) -> Compared:
        return compared(self._boards.entries(parent, names))

    def _page(self, parent: BenchmarkName, order: list[Standing], cursor: Cursor) -> Page[Row]:
        """The rows behind the cursor's one, wherever that one stands by now."""
        page = cursor.page(_behind(order, cursor), lambda standing: standing.submission)
        return Page(self._boards.rows(parent, page.items), page.next_token)


def _behind(order: list[Standing], cursor: Cursor) -> list[Standing]:
    if not cursor.after:
        return order
    for index, standing in enumerate(order):
        if standing.submission == cursor.after:
            return order[index + 1 :]
    raise cursor.invalid()
