"""LeaderboardService: the board, ranked when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.api.registry.v1 import leaderboard_service_pb2_grpc
from cxreval.audit.chain import Head
from cxreval.resource_names import BenchmarkName
from services.chassis import threads
from services.chassis.principal import caller
from services.registry.convert import audit, leaderboard, requests, submissions
from services.registry.domain.board import (
    RankedRow,
    Row,
    check_compared,
    sota_steps,
)
from services.registry.domain.pages import Cursor, Page
from services.registry.store.boards import Boards
from services.registry.store.events import Events

# Ranking a thousand rows takes a second, and other readers wait for the result. They wait in their
# own threads, so that the threads that check keys and serve workers stay free.
_THREADS = ThreadPoolExecutor(4, "boards")


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """Returns rows, state-of-the-art steps, comparisons and changes of a board."""

    def __init__(self, boards: Boards, events: Events) -> None:
        self._boards = boards
        self._events = events

    async def ListLeaderboardEntries(
        self, request: pb.ListLeaderboardEntriesRequest, context: Any
    ) -> pb.ListLeaderboardEntriesResponse:
        """Returns a page of rows: rows with evidence by rank, then claims by rank."""
        parent = BenchmarkName.parse(request.parent, "parent")
        as_of = requests.moment(request.as_of) if request.HasField("as_of") else None
        board = f"{parent} {as_of or 'now'}"
        cursor = requests.cursor("leaderboard", board, request.page_size, request.page_token)
        page, head = await threads.start(_THREADS, self._entries, parent, cursor, as_of)
        return pb.ListLeaderboardEntriesResponse(
            entries=[leaderboard.entry_message(row) for row in page.items],
            next_page_token=page.next_token,
            audit_head=audit.head_message(head),
        )

    async def ListSotaSteps(
        self, request: pb.ListSotaStepsRequest, context: Any
    ) -> pb.ListSotaStepsResponse:
        """Returns a page of state-of-the-art steps, oldest first: evidence, then claims."""
        parent = BenchmarkName.parse(request.parent, "parent")
        as_of = requests.moment(request.as_of) if request.HasField("as_of") else None
        board = f"{parent} {as_of or 'now'}"
        cursor = requests.cursor("sotaSteps", board, request.page_size, request.page_token)
        page = await threads.start(_THREADS, self._steps, parent, cursor, as_of)
        return pb.ListSotaStepsResponse(
            steps=[leaderboard.step_message(row) for row in page.items],
            next_page_token=page.next_token,
        )

    async def CompareEntries(
        self, request: pb.CompareEntriesRequest, context: Any
    ) -> pb.CompareEntriesResponse:
        """Returns the comparison of every pair of the named rows."""
        parent, names = (
            BenchmarkName.parse(request.parent, "parent"),
            leaderboard.compared_names(request),
        )
        check_compared(names, parent.benchmark)
        compared = await threads.start(_THREADS, self._boards.compared, parent, names, caller())
        return leaderboard.compared_message(parent, compared)

    async def ListLeaderboardChanges(
        self, request: pb.ListLeaderboardChangesRequest, context: Any
    ) -> pb.ListLeaderboardChangesResponse:
        """Returns a page of the events that changed a board, oldest first."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = requests.cursor(
            "leaderboardChanges", str(parent), request.page_size, request.page_token
        )
        page = await asyncio.to_thread(self._events.board_changes, parent, cursor)
        return pb.ListLeaderboardChangesResponse(
            changes=[submissions.event_message(event) for event in page.items],
            next_page_token=page.next_token,
        )

    def _entries(
        self, parent: BenchmarkName, cursor: Cursor, as_of: datetime | None
    ) -> tuple[Page[Row], Head]:
        head = self._events.head()
        return self._page(parent, self._boards.ranked_rows(parent, as_of), cursor, as_of), head

    def _steps(self, parent: BenchmarkName, cursor: Cursor, as_of: datetime | None) -> Page[Row]:
        return self._page(
            parent, sota_steps(self._boards.ranked_rows(parent, as_of)), cursor, as_of
        )

    def _page(
        self,
        parent: BenchmarkName,
        order: Sequence[RankedRow],
        cursor: Cursor,
        as_of: datetime | None,
    ) -> Page[Row]:
        """Returns the page that begins after the cursor's row, at that row's current rank."""
        page = cursor.page(_after(order, cursor), lambda row: row.submission)
        return Page(self._boards.rows(parent, page.items, as_of), page.next_token)


def _after(order: Sequence[RankedRow], cursor: Cursor) -> Sequence[RankedRow]:
    if not cursor.after:
        return order
    for index, row in enumerate(order):
        if row.submission == cursor.after:
            return order[index + 1 :]
    raise cursor.invalid()
