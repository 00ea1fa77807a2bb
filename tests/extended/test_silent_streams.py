"""2,000 uploads without a header keep no other caller out; connections that never speak end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.access import ClosedRegistry
from tests.support.registry import registry_service
from tests.support.silent import UPLOAD, SilentStreams

COUNT = 2000


def test_2000_uploads_without_a_header_end_and_others_submit_meanwhile(tmp_path: Path) -> None:
    with ClosedRegistry(tmp_path, "sqlite", "--stream-idle-seconds=10") as registry:

        async def attack() -> float:
            address, key = registry.service.address, registry.keys["acme/submitter"]
            async with SilentStreams(address, key) as streams:
                await streams.open(UPLOAD, COUNT)
                start = time.monotonic()
                call = registry.stubs("rival/submitter")
                submitted = await asyncio.to_thread(
                    call.submit, "nih-chestxray14", os.urandom(1 << 20)
                )
                seconds = time.monotonic() - start
                assert submitted.name
                assert await streams.reasons() == {"STREAM_IDLE": 1000, "SERVICE_OVERLOADED": 1000}
                return seconds

        assert asyncio.run(asyncio.wait_for(attack(), 120)) < 20
        assert registry.stubs("acme/submitter").submit("nih-chestxray14", b"model").name


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_a_connection_that_does_not_become_http2_is_closed(tmp_path: Path, sent: bytes) -> None:
    with registry_service(tmp_path) as service:
        host, _, port = service.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(sent)
            while connection.recv(1 << 16):  # the server's settings, then the end
                pass
