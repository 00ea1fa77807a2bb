"""LeaderboardService: the board, ranked whenever it is read."""

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
from services.registry.store.tenancy import Tenancy

# Ranking takes a second where there are a thousand rows, and others wait for its result. They keep
# these threads, not those in which keys are checked and workers are answered.
_THREADS = ThreadPoolExecutor(4, "boards")


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """Reads the board."""

    def __init__(self, boards: Boards, events: Events, tenancy: Tenancy) -> None:
        self._tenancy = tenancy
        self._boards = boards
        self._events = events

    async def ListLeaderboardEntries(
        self, request: pb.ListLeaderboardEntriesRequest, context: Any
    ) -> pb.ListLeaderboardEntriesResponse:
        """A page of rows: evidence by rank, then claims by rank."""
        parent = BenchmarkName.parse(request.parent, "parent")
        as_of = requests.moment(request.as_of) if request.HasField("as_of") else None
        of = f"{parent} {as_of or 'now'}"
        cursor = requests.cursor("leaderboard", of, request.page_size, request.page_token)
        page, head = await threads.start(_THREADS, self._entries, parent, cursor, as_of)
        return pb.ListLeaderboardEntriesResponse(
            entries=[leaderboard.entry_message(row) for row in page.items],
            next_page_token=page.next_token,
            audit_head=audit.head_message(head),
        )

    async def ListSotaSteps(
        self, request: pb.ListSotaStepsRequest, context: Any
    ) -> pb.ListSotaStepsResponse:
        """A page of steps, oldest first: evidence, then claims."""
        parent = BenchmarkName.parse(request.parent, "parent")
        as_of = requests.moment(request.as_of) if request.HasField("as_of") else None
        of = f"{parent} {as_of or 'now'}"
        cursor = requests.cursor("sotaSteps", of, request.page_size, request.page_token)
        page = await threads.start(_THREADS, self._steps, parent, cursor, as_of)
        return pb.ListSotaStepsResponse(
            steps=[leaderboard.step_message(row) for row in page.items],
            next_page_token=page.next_token,
        )

    async def CompareEntries(
        self, request: pb.CompareEntriesRequest, context: Any
    ) -> pb.CompareEntriesResponse:
        """Every two of some rows."""
        parent, names = (
            BenchmarkName.parse(request.parent, "parent"),
            leaderboard.compared_names(request),
        )
        check_compared(names, parent.benchmark)
        await asyncio.to_thread(self._tenancy.check_visible, caller(), *names)
        compared = await threads.start(_THREADS, self._boards.compared, parent, names)
        return leaderboard.compared_message(parent, compared)

    async def ListLeaderboardChanges(
        self, request: pb.ListLeaderboardChangesRequest, context: Any
    ) -> pb.ListLeaderboardChangesResponse:
        """A page of what changed a board, oldest first."""
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
        """The rows behind the cursor's one, wherever that one stands by now."""
        page = cursor.page(_behind(order, cursor), lambda standing: standing.submission)
        return Page(self._boards.rows(parent, page.items, as_of), page.next_token)


def _behind(order: Sequence[RankedRow], cursor: Cursor) -> Sequence[RankedRow]:
    if not cursor.after:
        return order
    for index, standing in enumerate(order):
        if standing.submission == cursor.after:
            return order[index + 1 :]
    raise cursor.invalid()
