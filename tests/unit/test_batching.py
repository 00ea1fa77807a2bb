"""The batcher uses no timer, is bounded and fair, and never runs a cancelled request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry

from cxreval.errors import DeadlineExceeded, ModelUnsupported, ServiceOverloaded
from services.inference.batching import Batcher, BatchMetrics, Limits

Array = npt.NDArray[np.float32]
ROOMY = Limits(100, 1 << 20)


class Doubler:
    """A model with one column that doubles its input.

    It waits at a gate and records the batches that it ran.
    """

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate = threading.Event()
        self.started = threading.Event()

    def run(self, pieces: Sequence[Array]) -> Array:
        images = np.concatenate(pieces)
        self.batches.append(images.ravel().tolist())
        self.started.set()
        assert self.gate.wait(10)
        if np.isnan(images).any():
            raise ModelUnsupported("the runtime failed")
        return images.reshape(-1, 1) * 2


class Bench:
    """A batcher of a `Doubler`."""

    def __init__(self, limits: Limits) -> None:
        self.registry = CollectorRegistry()
        self.model = Doubler()
        self.batcher = Batcher(self.model.run, 4, limits, BatchMetrics(self.registry))

    async def ask(self, *values: float, seconds_left: float | None = None) -> list[float]:
        images = np.array(values, np.float32).reshape(-1, 1, 1, 1)
        with self.batcher.admit(len(images), images.nbytes, seconds_left) as admission:
            return (await self.batcher.infer(admission, images)).ravel().tolist()

    async def occupy(self) -> asyncio.Task[list[float]]:
        """Sends one image and returns when the model is running it."""
        task = asyncio.create_task(self.ask(0.5))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(self.model.started.wait, 10)
        return task

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"cxreval_inference_{name}", labels) or 0.0


def in_loop(test: Callable[[Bench], Awaitable[None]], limits: Limits = ROOMY) -> None:
    async def run() -> None:
        made = Bench(limits)
        try:
            await test(made)
        finally:
            made.model.gate.set()
            made.batcher.close(lambda: None)

    asyncio.run(run())


def test_idle_model_runs_a_request_at_once() -> None:
    async def test(made: Bench) -> None:
        made.model.gate.set()
        assert await made.ask(1) == [2]
        assert made.model.batches == [[1]]

    in_loop(test)


def test_requests_that_wait_for_a_busy_model_share_a_batch_and_get_their_own_answers() -> None:
    async def test(made: Bench) -> None:
        first = await made.occupy()
        waiting = [asyncio.create_task(made.ask(value)) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        made.model.gate.set()
        assert await asyncio.gather(first, *waiting) == [[1], [2], [4], [6]]
        assert made.model.batches == [[0.5], [1, 2, 3]]
        assert made.figure("batch_images_sum") == 4
        assert made.figure("batch_images_count") == 2
        assert made.figure("queue_seconds_count") == 4

    in_loop(test)


def test_request_larger_than_a_batch_is_split_and_answered_whole_in_order() -> None:
    async def test(made: Bench) -> None:
        made.model.gate.set()
        values = list(range(11))
        assert await made.ask(*values) == [2 * value for value in values]
        assert [len(batch) for batch in made.model.batches] == [4, 4, 3]

    in_loop(test)


def test_batches_are_filled_across_requests_without_mixing_answers() -> None:
    async def test(made: Bench) -> None:
        first = await made.occupy()
        requests = [(1, 2, 3), (4, 5, 6), (7,), (8, 9, 10, 11, 12, 13)]
        waiting = [asyncio.create_task(made.ask(*values)) for values in requests]
        await asyncio.sleep(0)
        made.model.gate.set()
        await first
        assert await asyncio.gather(*waiting) == [
            [2 * value for value in values] for values in requests
        ]
        assert [len(batch) for batch in made.model.batches] == [1, 4, 4, 4, 1]

    in_loop(test)


def test_cancelled_requests_never_reach_the_model() -> None:
    async def test(made: Bench) -> None:
        first = await made.occupy()
        doomed = [asyncio.create_task(made.ask(100 + index)) for index in range(20)]
        kept = asyncio.create_task(made.ask(1))
        await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        made.model.gate.set()
        assert (await first, await kept) == ([1], [2])
        await asyncio.wait(doomed)
        assert made.model.batches == [[0.5], [1]]
        assert made.figure("dropped_images_total") == 20
        assert made.figure("images_total", outcome="cancelled") == 20
        assert made.figure("images_total", outcome="answered") == 2

    in_loop(test)


def test_rest_of_a_split_request_is_dropped_when_it_is_cancelled_half_way() -> None:
    async def test(made: Bench) -> None:
        task = asyncio.create_task(made.ask(*range(10)))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(made.model.started.wait, 10)
        task.cancel()
        await asyncio.wait([task])
        made.model.gate.set()
        assert await made.ask(50) == [100]
        assert [len(batch) for batch in made.model.batches] == [4, 1]
        assert made.figure("dropped_images_total") == 6

    in_loop(test)


@pytest.mark.parametrize(
    ("limits", "unit"), [(Limits(3, 1 << 20), "images"), (Limits(100, 12), "bytes")]
)
def test_full_queue_refuses_at_once_and_takes_again_when_there_is_room(
    limits: Limits, unit: str
) -> None:
    async def test(made: Bench) -> None:
        first = await made.occupy()
        second = asyncio.create_task(made.ask(1, 2))
        await asyncio.sleep(0)
        with pytest.raises(ServiceOverloaded, match=rf"^\d+ {unit} wait"):
            await made.ask(3)
        made.model.gate.set()
        await asyncio.gather(first, second)
        assert await made.ask(3) == [6]
        assert made.figure("images_total", outcome="refused") == 1
        assert made.figure("admitted_images") == 0

    in_loop(test, limits)


def test_failing_run_fails_its_requests_and_not_the_next() -> None:
    async def test(made: Bench) -> None:
        made.model.gate.set()
        with pytest.raises(ModelUnsupported):
            await made.ask(1, 2, 3, float("nan"), 5)
        assert await made.ask(4) == [8]
        assert made.figure("images_total", outcome="failed") == 5

    in_loop(test)


def test_deadline_that_the_queue_ahead_overruns_is_refused_and_a_later_one_is_not() -> None:
    async def test(made: Bench) -> None:
        made.batcher.statistics.image_seconds = 0.5
        first = await made.occupy()
        second = asyncio.create_task(made.ask(1, 2, seconds_left=0.6))
        await asyncio.sleep(0)
        with pytest.raises(
            DeadlineExceeded,
            match=r"^3 images ahead take the model about 1.5 s; the deadline is in 1.4 s",
        ):
            await made.ask(3, seconds_left=1.4)
        third = asyncio.create_task(made.ask(3, seconds_left=1.6))
        await asyncio.sleep(0)
        made.model.gate.set()
        assert await asyncio.gather(first, second, third) == [[1], [2, 4], [6]]
        assert made.figure("images_total", outcome="too_late") == 1

    in_loop(test)


def test_refusal_says_how_long_the_model_needs_to_make_room() -> None:
    async def test(made: Bench) -> None:
        made.batcher.statistics.image_seconds = 0.25
        first = await made.occupy()
        with pytest.raises(ServiceOverloaded) as refusal:
            await made.ask(1, 2, 3)
        made.model.gate.set()
        await first
        assert refusal.value.metadata["retry_seconds"] == "0.75"

    in_loop(test, Limits(3, 1 << 20))


def test_statistics_follow_every_request_and_run() -> None:
    async def test(made: Bench) -> None:
        first = await made.occupy()
        doomed = asyncio.create_task(made.ask(7))
        waiting = [asyncio.create_task(made.ask(*values)) for values in ((1, 2, 3), (4, 5))]
        await asyncio.sleep(0)
        doomed.cancel()
        made.model.gate.set()
        await asyncio.gather(first, *waiting)
        with pytest.raises(ModelUnsupported):
            await made.ask(float("nan"))
        found = made.batcher.statistics
        assert {size: runs.count for size, runs in found.batches.items()} == {1: 2, 4: 1}
        assert found.images == 6
        assert (found.success.count, found.failure.count) == (3, 2)
        assert [part.count for part in (found.input, found.queue, found.run, found.output)] == [
            3,
            3,
            3,
            3,
        ]
        assert 0 < found.run.ns <= found.success.ns
        assert found.image_seconds > 0

    in_loop(test)
