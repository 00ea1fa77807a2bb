"""Inference is healthy while it can load, run and decode, even if one model or image hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cxreval.errors import ModelUnsupported
from services.inference import model_pool, preprocessing
from services.inference.backends.watchdog import Watchdog
from services.inference.batching import Limits
from services.inference.model_cache import ModelCache
from services.inference.model_pool import LoadRequirements, ModelPool
from services.inference.preprocessing import Preprocessor
from tests.support import onnx_models


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def nowhere(digest: str) -> Iterator[bytes]:
    raise AssertionError(f"{digest} is in the cache")


def test_the_pool_is_unhealthy_only_while_every_load_hangs(
    tmp_path: Path, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object) -> Any:
        release.wait(10)
        raise ModelUnsupported("it never opened")

    async def announce(name: str) -> None: ...

    async def healths() -> list[bool]:
        pool = ModelPool(
            ModelCache(tmp_path, 1 << 30, nowhere),
            Limits(1, 1),
            CollectorRegistry(),
            max_loaded=1,
            max_bytes=1 << 30,
            open_model=hang,
            announce=announce,
        )
        loads, seen = [], [await pool.is_healthy()]
        for seed in (0, 1):
            digest = onnx_models.classifier(tmp_path, seed=seed)
            loads.append(asyncio.create_task(pool.load(digest, LoadRequirements())))
            await asyncio.sleep(0.2)
            seen.append(await pool.is_healthy())
        release.set()
        await asyncio.gather(*loads, return_exceptions=True)
        return [*seen, await pool.is_healthy()]

    monkeypatch.setattr(model_pool, "_HUNG_SECONDS", 0.05)
    assert asyncio.run(healths()) == [True, True, False, True]


def test_decoding_is_unhealthy_only_while_every_thread_hangs(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def healths() -> list[bool]:
        preprocessor = Preprocessor(2, None, CollectorRegistry())
        tasks, seen = [], [preprocessor.is_healthy()]
        for _ in range(2):
            tasks.append(asyncio.create_task(preprocessor.apply([], [b"image"])))
            await asyncio.sleep(0.2)
            seen.append(preprocessor.is_healthy())
        release.set()
        await asyncio.gather(*tasks)
        preprocessor.close()
        return [*seen, preprocessor.is_healthy()]

    monkeypatch.setattr(preprocessing, "_HUNG_SECONDS", 0.05)
    monkeypatch.setattr(Preprocessor, "_preprocess", lambda *_: release.wait(10))
    assert asyncio.run(healths()) == [True, True, False, True]


def test_time_limits_need_their_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watchdog, "_check", lambda _: None)
    watchdog = Watchdog()
    assert watchdog.alive
    watchdog.watch(object(), 1.0)
    assert watchdog._thread
    watchdog._thread.join(timeout=60)
    assert not watchdog.alive
