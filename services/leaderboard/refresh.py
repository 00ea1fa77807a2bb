"""Reads what changed in the registry, in the background, and renders it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from cxreval.audit.chain import AuditEvent, Head
from cxreval.errors import (
    AuditMismatch,
    CxrevalError,
    KeyExpired,
    KeyMissing,
    KeyRevoked,
    KeyUnknown,
    RoleRequired,
)
from cxreval.files import disk_error
from services.leaderboard.data import GENESIS_HEAD, BoardData
from services.leaderboard.metrics import WebMetrics
from services.leaderboard.routes import first_pages
from services.leaderboard.site import Site, SiteData
from services.leaderboard.source import Source
from services.leaderboard.store import Store
from services.leaderboard.watching import Watchers

_log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.1
"""Time between two questions for the audit head; so there are fewer than 60 calls a minute."""

_LIST_PERIODS = 60
"""Periods between two reads of the benchmarks: a new one is no event of a submission."""

_UNREACHABLE_SECONDS = 5.0
"""The registry may be silent so long before the pages say so."""

_REFUSALS = (KeyMissing, KeyUnknown, KeyExpired, KeyRevoked, RoleRequired)
"""Errors of a registry that answers, and lets this site read nothing."""


class Refresher:
    """The background task: keeps the site as the registry is."""

    def __init__(
        self, source: Source, store: Store, site: Site, watchers: Watchers, metrics: WebMetrics
    ) -> None:
        self._source = source
        self._store = store
        self._site = site
        self._watchers = watchers
        self._metrics = metrics
        self._periods = 0
        self._answered = time.monotonic()

    async def load(self) -> None:
        """Shows what is stored, if anything is."""
        head, boards = await asyncio.to_thread(self._store.load)
        if boards:
            latest = max((board.read_time for board in boards if board.read_time), default=None)
            await self._show(head, {board.name: board for board in boards}, {}, latest)

    async def run(self) -> None:
        """Reads and renders until it is cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self._refresh()
                await self._reachable()
            except CxrevalError as error:
                await self._unreachable(error)
            except OSError as error:  # the registry answers, and the page cannot keep its answer
                _log.error(disk_error(error, "the public page").message)
            except Exception:  # noqa: BLE001 -- a defect must not end the refreshing for good
                _log.exception("a refresh failed")
                await self._unreachable(None)
            await asyncio.sleep(max(0.1, PERIOD_SECONDS - (time.monotonic() - began)))

    async def _refresh(self) -> None:
        known = self._site.data
        head = await self._source.head()
        listed = self._periods % _LIST_PERIODS == 0
        self._periods += 1
        if head == known.head and not listed and known.read_time:
            return
        began = time.monotonic()
        boards, changed = await self._read(known, head)
        if changed or known.read_time is None or boards.keys() != known.boards.keys():
            await self._show(head, boards, known.boards, datetime.now(UTC))
            await asyncio.to_thread(self._store.save, head, boards.values(), changed)
            self._metrics.refreshed(time.monotonic() - began)
        else:
            self._site.data = replace(known, head=head)

    async def _read(self, known: SiteData, head: Head) -> tuple[dict[str, BoardData], set[str]]:
        """Returns all boards as they are now, and the names of those that changed."""
        old, events = known.boards, await self._events(known, head)
        if events is None:
            _log.warning("the registry has another audit chain; everything is read again")
            old, events = {}, await self._source.events(GENESIS_HEAD)
        boards = {}
        for fresh in await self._source.benchmarks():
            before = old.get(fresh.name)
            after = events.get(fresh.name, [])
            if before is None or before.spec.digest != fresh.spec.digest:
                boards[fresh.name] = await self._source.board(fresh, after, every=True)
                continue
            boards[fresh.name] = replace(
                before, spec=fresh.spec, retirement=fresh.retirement, card=fresh.card
            )
            if after:
                boards[fresh.name] = await self._source.board(boards[fresh.name], after)
        return boards, {name for name in boards if boards[name] != known.boards.get(name)}

    async def _events(self, known: SiteData, head: Head) -> dict[str, list[AuditEvent]] | None:
        """Returns the events since those that are shown; None if the chain is another one."""
        after = known.head if known.boards else GENESIS_HEAD
        if head == after:
            return {}
        if head.place <= after.place:
            return None
        try:
            return await self._source.events(after)
        except AuditMismatch:
            return None

    async def _show(
        self,
        head: Head,
        boards: Mapping[str, BoardData],
        before: Mapping[str, BoardData],
        read_time: datetime | None,
    ) -> None:
        """Shows other boards than those `before`."""
        data = replace(self._site.data, boards=boards, head=head, read_time=read_time)
        changed, runs = [], []
        for name, board in boards.items():
            old = before.get(name)
            if old is None or _as_shown(old) != _as_shown(board):
                changed.append(name)
            elif old != board:
                runs.append(name)
        prefixes = [f"/b/{name}" for name in changed] + [f"/b/{name}/m/" for name in runs]
        await self._site.replace(data, prefixes, first_pages(data, changed))
        self._watchers.watch(
            item for board in boards.values() for item in board.submissions.values()
        )

    async def _reachable(self) -> None:
        self._answered = time.monotonic()
        self._metrics.answered(time.time())
        if self._site.data.unreachable_since:
            _log.info("the registry answers again")
            await self._mark(None)

    async def _unreachable(self, error: CxrevalError | None) -> None:
        silent = time.monotonic() - self._answered
        refused = isinstance(error, _REFUSALS)
        since = self._site.data.unreachable_since
        if silent >= _UNREACHABLE_SECONDS and (not since or refused != self._site.data.refused):
            _log.warning(
                "the registry refuses to be read" if refused else "the registry does not answer",
                extra={"problem": str(error)},
            )
            await self._mark(since or datetime.now(UTC), refused=refused)

    async def _mark(self, since: datetime | None, *, refused: bool = False) -> None:
        """Renders all pages with or without the sentence that the registry does not answer."""
        data = replace(self._site.data, unreachable_since=since, refused=refused)
        await self._site.replace(data, ["/b/"], first_pages(data, data.boards))


def _as_shown(board: BoardData) -> BoardData:
    """Returns a board without what only the pages of its submissions show."""
    return replace(board, submissions={}, events={}, read_time=None)
