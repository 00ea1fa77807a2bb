"""LeaderboardService: the board, ranked when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.api.registry.v1 import leaderboard_service_pb2_grpc
from cxreval.audit.chain import Head
from cxreval.resource_names import BenchmarkName
from services.chassis import threads
from services.chassis.principal import caller
from services.registry.convert import audit, leaderboard, requests, submissions
from services.registry.convert.leaderboard import RequestedBoard
from services.registry.domain.board import (
    RankedRow,
    Row,
    check_compared,
    check_compared_by_finding,
    sota_steps,
)
from services.registry.domain.pages import Cursor, Page
from services.registry.store.boards import OWN, Boards
from services.registry.store.events import Events

# Ranking a thousand rows takes a second, and other readers wait for the result. They wait in their
# own threads, so that the threads that check keys and serve workers stay free. Boards of a chosen
# metric or findings have others, because anybody can ask for very many of them.
_THREADS = ThreadPoolExecutor(4, "boards")
_CHOICE_THREADS = ThreadPoolExecutor(2, "boards of a choice")


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """Returns rows, state-of-the-art steps, comparisons and changes of a board."""

    def __init__(self, boards: Boards, events: Events) -> None:
        self._boards = boards
        self._events = events

    async def ListLeaderboardEntries(
        self, request: pb.ListLeaderboardEntriesRequest, context: Any
    ) -> pb.ListLeaderboardEntriesResponse:
        """Returns a page of rows: rows with evidence by rank, then claims by rank."""
        board, message = leaderboard.requested_board(request), leaderboard.row_encoder(request)
        cursor = requests.cursor("leaderboard", board.key, request.page_size, request.page_token)
        page, head = await threads.start(_threads(board), self._entries, board, cursor)
        return pb.ListLeaderboardEntriesResponse(
            entries=map(message, page.items),
            next_page_token=page.next_token,
            audit_head=audit.head_message(head),
        )

    async def ListSotaSteps(
        self, request: pb.ListSotaStepsRequest, context: Any
    ) -> pb.ListSotaStepsResponse:
        """Returns a page of state-of-the-art steps, oldest first: evidence, then claims."""
        board = leaderboard.requested_board(request)
        cursor = requests.cursor("sotaSteps", board.key, request.page_size, request.page_token)
        page = await threads.start(_threads(board), self._steps, board, cursor)
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
        if request.per_finding:
            check_compared_by_finding(len(names))
        compare = partial(self._boards.compared, per_finding=request.per_finding)
        compared = await threads.start(_THREADS, compare, parent, names, caller())
        return leaderboard.compared_message(parent, compared)

    async def ListLeaderboardChanges(
        self, request: pb.ListLeaderboardChangesRequest, context: Any
    ) -> pb.ListLeaderboardChangesResponse:
        """Returns a page of the events that changed a board, oldest or newest first."""
        parent, newest_first = BenchmarkName.parse(request.parent, "parent"), request.newest_first
        listed = f"{parent} newest first" if newest_first else str(parent)
        cursor = requests.cursor(
            "leaderboardChanges", listed, request.page_size, request.page_token
        )
        page = await asyncio.to_thread(
            self._events.board_changes, parent, cursor, newest_first=newest_first
        )
        return pb.ListLeaderboardChangesResponse(
            changes=[submissions.event_message(event) for event in page.items],
            next_page_token=page.next_token,
        )

    def _entries(self, board: RequestedBoard, cursor: Cursor) -> tuple[Page[Row], Head]:
        head = self._events.head()
        order = self._boards.ranked_rows(board.parent, board.as_of, board.choice)
        return self._page(board, order, cursor), head

    def _steps(self, board: RequestedBoard, cursor: Cursor) -> Page[Row]:
        order = self._boards.ranked_rows(board.parent, board.as_of, board.choice)
        return self._page(board, sota_steps(order), cursor)

    def _page(self, board: RequestedBoard, order: Sequence[RankedRow], cursor: Cursor) -> Page[Row]:
        """Returns the page that begins after the cursor's row, at that row's current rank."""
        page = cursor.page(_after(order, cursor), lambda row: row.submission)
        rows = self._boards.rows(board.parent, page.items, board.as_of, board.choice)
        return Page(rows, page.next_token)


def _threads(board: RequestedBoard) -> ThreadPoolExecutor:
    return _THREADS if board.choice == OWN else _CHOICE_THREADS


def _after(order: Sequence[RankedRow], cursor: Cursor) -> Sequence[RankedRow]:
    if not cursor.after:
        return order
    for index, row in enumerate(order):
        if row.submission == cursor.after:
            return order[index + 1 :]
    raise cursor.invalid()
