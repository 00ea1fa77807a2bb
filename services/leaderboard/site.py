"""Keeps every page as bytes: rendered once for each state of what it shows."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cxreval.audit.chain import Head
from services.leaderboard.data import GENESIS_HEAD, BoardData
from services.leaderboard.parameters import Given
from services.leaderboard.problems import Busy, Problem
from services.leaderboard.store import Store

MAX_KEPT_BYTES = 64 << 20
"""Memory for rendered pages; those that were asked for least recently are dropped."""

MAX_WAITING = 100
"""Different pages that visitors wait for at once; further requests are told to come back."""

_GZIP_LEVEL = 6
_FEWEST_GZIPPED = 500
_COMPRESSED = ("image/png", "application/vnd.apache.parquet")
"""Media types that gain nothing from gzip."""


@dataclass(frozen=True, slots=True)
class SiteData:
    """Everything that pages are rendered from.

    `store` has what is too large for memory. `boards`: by benchmark, in the registry's order.
    `unreachable_since`: when the registry stopped to answer; None while it answers. `refused`:
    whether it has refused to be read since then. `public_url`: address of the site without the last
    slash.
    """

    store: Store
    boards: Mapping[str, BoardData] = field(default_factory=dict)
    head: Head = GENESIS_HEAD
    read_time: datetime | None = None
    unreachable_since: datetime | None = None
    refused: bool = False
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What a page function returns: the body with its media type and status."""

    body: str | bytes
    media_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page. `gzipped` is None where compression gains nothing; `name`: of its route."""

    status: int
    media_type: str
    body: bytes
    gzipped: bytes | None
    etag: str
    headers: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def size(self) -> int:
        """The memory that the page takes, in bytes."""
        return len(self.body) + len(self.gzipped or b"")


Render = Callable[[SiteData], Content]
"""Renders one page."""

Handler = Callable[[SiteData, dict[str, str], Given], Content]
"""Renders a page from the data, the parts of its path and its query parameters."""


def page_of(content: Content, name: str = "") -> Page:
    """Returns a page with its compressed form and its entity tag."""
    body = content.body.encode() if isinstance(content.body, str) else content.body
    small = None
    if len(body) >= _FEWEST_GZIPPED and content.media_type not in _COMPRESSED:
        small = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Page(content.status, content.media_type, body, small, etag, content.headers, name)


class Site:
    """The pages that were rendered, and what they were rendered from."""

    def __init__(
        self, data: SiteData, problem_page: Callable[[SiteData, Problem], Content]
    ) -> None:
        self.data = data
        self._problem_page = problem_page
        self._kept: OrderedDict[str, Page] = OrderedDict()
        self._bytes = 0
        self._running: dict[str, asyncio.Task[Page]] = {}

    def kept(self, address: str) -> Page | None:
        """Returns the page of an address, None if it is not rendered."""
        page = self._kept.get(address)
        if page:
            self._kept.move_to_end(address)
        return page

    async def page(self, address: str, name: str, render: Render) -> Page:
        """Returns the page of an address. The first visitor waits until it is rendered.

        Raises:
            Busy: too many visitors wait already.
        """
        if page := self.kept(address):
            return page
        task = self._running.get(address)
        if task is None and len(self._running) >= MAX_WAITING:
            raise Busy
        if task is None:
            task = self._running[address] = asyncio.create_task(
                self._rendered(address, name, render)
            )
            task.add_done_callback(lambda _: self._running.pop(address, None))
        return await asyncio.shield(task)

    def problem(self, problem: Problem) -> Content:
        """Returns the page that tells a visitor of a problem."""
        return self._problem_page(self.data, problem)

    async def replace(
        self, data: SiteData, changed: Iterable[str], first: Mapping[str, tuple[str, Render]]
    ) -> None:
        """Shows other data. Visitors get the pages of `first` as they were until these are ready.

        `changed`: beginnings of addresses below /b/ whose pages are no longer true; all other
        addresses may show any board. `first`: the pages to render before the change, by address:
        the name of the route, and what renders it.
        """
        rendered = {
            address: await asyncio.to_thread(self._render, data, name, render)
            for address, (name, render) in first.items()
        }
        prefixes = tuple(changed)
        self.data = data
        for address in list(self._kept):
            if not address.startswith("/b/") or address.startswith(prefixes):
                self._drop(address)
        for address, page in rendered.items():
            self._keep(address, page)

    async def _rendered(self, address: str, name: str, render: Render) -> Page:
        data = self.data
        page = await asyncio.to_thread(self._render, data, name, render)
        # Not kept if the data changed meanwhile; errors are cheap, and hostile ones are many.
        if data is self.data and page.status == 200:
            self._keep(address, page)
        return page

    def _render(self, data: SiteData, name: str, render: Render) -> Page:
        try:
            return page_of(render(data), name)
        except Problem as problem:
            return page_of(self._problem_page(data, problem), name)

    def _keep(self, address: str, page: Page) -> None:
        self._drop(address)
        self._kept[address] = page
        self._bytes += page.size
        while self._bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, address: str) -> None:
        if page := self._kept.pop(address, None):
            self._bytes -= page.size
