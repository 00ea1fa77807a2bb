"""Inference is healthy while it can load, run and decode, even if one model or image hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from services.inference import preprocessing
from services.inference.preprocessing import Preprocessor


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_decoding_is_unhealthy_only_while_every_thread_hangs(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def healths() -> list[bool]:
        preprocessor = Preprocessor(2, None, CollectorRegistry())
        tasks, seen = [], [preprocessor.is_healthy()]
        for _ in range(2):
            tasks.append(asyncio.create_task(preprocessor.apply([b"image"], {})))
            await asyncio.sleep(0.2)
            seen.append(preprocessor.is_healthy())
        release.set()
        await asyncio.gather(*tasks)
        preprocessor.close()
        return [*seen, preprocessor.is_healthy()]

    monkeypatch.setattr(preprocessing, "_HUNG_SECONDS", 0.05)
    monkeypatch.setattr(Preprocessor, "_preprocess", lambda *_: release.wait(10))
    assert asyncio.run(healths()) == [True, True, False, True]
