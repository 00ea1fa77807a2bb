"""Work in threads of a pool of its own, so that what is slow there keeps only its own kind
waiting."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def start(pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Begins the work, which knows who calls and under which request id, as in
    `asyncio.to_thread`."""
    run = contextvars.copy_context().run
    return asyncio.get_running_loop().run_in_executor(pool, partial(run, work, *arguments))
