"""Runs blocking work in a pool of its own, so that slow work delays only work of its kind."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def start(pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Starts work in the pool, in the caller's context as `asyncio.to_thread` does."""
    run = contextvars.copy_context().run
    return asyncio.get_running_loop().run_in_executor(pool, partial(run, work, *arguments))
