"""A TCP proxy before a service that cuts connections at a given byte."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType


class Proxy:
    """Forwards bytes to `host:port`; a context manager. Clients connect to `address`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut_after: list[int] = []
        """Number of bytes to the service after which each connection in turn is cut."""
        self.connections = 0

    def __enter__(self) -> Proxy:
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=60)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        left = (
            self.cut_after[self.connections] if self.connections < len(self.cut_after) else 1 << 62
        )
        self.connections += 1
        pair = {writer}
        with contextlib.suppress(OSError):
            back, forth = await asyncio.open_connection(host, int(port))
            pair.add(forth)
            self._writers |= pair
            await asyncio.wait(
                [
                    asyncio.ensure_future(_pass(reader, forth, left)),
                    asyncio.ensure_future(_pass(back, writer, 1 << 62)),
                ]
            )
        for end in pair:
            end.transport.abort()
        self._writers -= pair


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    """Forwards until either side ends or nothing is left, then closes the other direction, too."""
    with contextlib.suppress(OSError):
        while left > 0 and (data := await reader.read(min(left, 1 << 16))):
            left -= len(data)
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
