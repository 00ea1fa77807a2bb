"""2,000 uploads without a header keep no other caller out."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from tests.support.access import ClosedRegistry
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
