"""Dynamic batching without a timer, with one batcher for each model.

An idle model runs a request at once. While it is busy, requests queue and form the next batch. So
no request waits for a batch to fill, and batches grow only when the model is the bottleneck. The
number of admitted requests is bounded: a request that does not fit, or that cannot be answered
before its deadline, is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cxreval.errors import DeadlineExceeded, ServiceOverloaded
from services.inference.statistics import Statistics

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32, float16 or uint8

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WAIT_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class BatchMetrics:
    """The metrics of all batchers of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_images = Histogram(
            "cxreval_inference_batch_images",
            "Images per run of a model; the sum is the number of images that reached a model.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "cxreval_inference_queue_seconds",
            "Time a request waited for the model.",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self.images = Counter(
            "cxreval_inference_images_total",
            "Images by outcome: answered, failed, cancelled (by the caller), refused (overload), "
            "too_late (refused, because the deadline could not be met).",
            ("outcome",),
            registry=registry,
        )
        self.dropped = Counter(
            "cxreval_inference_dropped_images_total",
            "Images of cancelled requests that were dropped before they reached the model.",
            registry=registry,
        )
        self.admitted = Gauge(
            "cxreval_inference_admitted_images",
            "Images admitted and not answered.",
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Most images, and most bytes of images, that may be admitted and not answered."""

    images: int
    nbytes: int


@dataclass(slots=True, eq=False)
class Admission:
    """An admitted request: its size, how many images have reached the model, and its times."""

    images: int
    nbytes: int
    taken: int = 0
    admitted_ns: int = field(default_factory=time.perf_counter_ns)
    queued_ns: int = 0
    started_ns: int = 0
    run_ns: int = 0
    finished_ns: int = 0


@dataclass(slots=True, eq=False)
class _Request:
    admission: Admission
    images: Images
    future: asyncio.Future[Array]
    taken: int = 0
    answers: list[Array] = field(default_factory=list)

    def take(self, most: int) -> Images:
        """Takes the next images, at most `most`."""
        piece = self.images[self.taken : self.taken + most]
        self.taken += len(piece)
        self.admission.taken += len(piece)
        return piece

    @property
    def all_taken(self) -> bool:
        return self.taken == len(self.images)

    def accept(self, rows: Array, ns: int) -> None:
        """Adds the rows of the oldest unanswered images; their run took `ns` nanoseconds."""
        self.answers.append(rows)
        self.admission.run_ns += ns
        if sum(map(len, self.answers)) == len(self.images) and not self.future.done():
            self.admission.finished_ns = time.perf_counter_ns()
            self.future.set_result(
                self.answers[0] if len(self.answers) == 1 else np.concatenate(self.answers)
            )

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """Runs one model on many requests.

    All methods run in the event loop; the model runs in its own thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Images]], Array],
        max_batch: int,
        limits: Limits,
        metrics: BatchMetrics,
        image_seconds: float = 0.0,
    ) -> None:
        """Makes a batcher.

        `run` takes the pieces of a batch and returns one row per image, in order. `image_seconds`
        is the first estimate of the run time per image; each run updates it.
        """
        self._run = run
        self._max_batch = max_batch
        self._limits = limits
        self._metrics = metrics
        self._queue: deque[_Request] = deque()
        self._busy = False
        self._admitted_images = 0
        self._admitted_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.statistics = Statistics(image_seconds=image_seconds)

    @contextlib.contextmanager
    def admit(
        self, images: int, nbytes: int, seconds_left: float | None = None
    ) -> Iterator[Admission]:
        """Admits a request; it counts against the limits while the context lasts.

        Args:
            images: how many it has.
            nbytes: how much memory they take.
            seconds_left: time until its deadline; None if it has none.

        Raises:
            ServiceOverloaded: a limit is reached.
            DeadlineExceeded: the requests admitted before keep the model busy until after the
                deadline.
        """
        self._check_room(images, nbytes)
        self._check_time(images, seconds_left)
        admission = Admission(images, nbytes)
        self._admitted_images += images
        self._admitted_bytes += nbytes
        self._metrics.admitted.inc(images)
        outcome = "failed"
        try:
            yield admission
            outcome = "answered"
        except asyncio.CancelledError:
            outcome = "cancelled"
            self._metrics.dropped.inc(images - admission.taken)
            raise
        finally:
            self._admitted_images -= images
            self._admitted_bytes -= nbytes
            self._metrics.admitted.dec(images)
            self._metrics.images.labels(outcome).inc(images)
            self._count(admission, answered=outcome == "answered")

    def _count(self, admission: Admission, *, answered: bool) -> None:
        """Counts all steps of a request together; monitoring tools expect equal counts."""
        statistics, now = self.statistics, time.perf_counter_ns()
        if not answered:
            statistics.failure.add(now - admission.admitted_ns)
            return
        statistics.success.add(now - admission.admitted_ns)
        statistics.input.add(admission.queued_ns - admission.admitted_ns)
        statistics.queue.add(admission.started_ns - admission.queued_ns)
        statistics.run.add(admission.run_ns)
        statistics.output.add(now - admission.finished_ns)

    def _check_room(self, images: int, nbytes: int) -> None:
        for unit, admitted, asked, limit in (
            ("images", self._admitted_images, images, self._limits.images),
            ("bytes", self._admitted_bytes, nbytes, self._limits.nbytes),
        ):
            if admitted + asked > limit:
                self._metrics.images.labels("refused").inc(images)
                raise ServiceOverloaded(
                    f"{admitted} {unit} wait for the model and {asked} more do not fit; the limit "
                    f"is {limit}: send fewer at a time or try again later",
                    retry_seconds=self._seconds(images),
                    limit=limit,
                    waiting=admitted,
                    asked=asked,
                    unit=unit,
                )

    def _check_time(self, images: int, seconds_left: float | None) -> None:
        ahead = self._seconds(self._admitted_images)
        if seconds_left is not None and ahead > seconds_left:
            self._metrics.images.labels("too_late").inc(images)
            raise DeadlineExceeded(
                f"{self._admitted_images} images ahead take the model about {ahead:.3g} s; the "
                f"deadline is in {seconds_left:.3g} s",
                waiting=self._admitted_images,
            )

    def _seconds(self, images: int) -> float:
        """Returns the expected run time of so many images."""
        return images * self.statistics.image_seconds

    async def infer(self, admission: Admission, images: Images) -> Array:
        """Runs images (N, C, H, W); returns (N, columns), row i for image i.

        N is as admitted, or all calls with an admission have so many images together. If the call
        is cancelled, images that have not reached the model are dropped.
        """
        request = _Request(admission, images, asyncio.get_running_loop().create_future())
        admission.queued_ns = admission.queued_ns or time.perf_counter_ns()
        self._queue.append(request)
        if not self._busy:
            self._run_next()
        try:
            return await request.future
        finally:
            if not request.all_taken:  # cancelled or failed on the way
                with contextlib.suppress(ValueError):
                    self._queue.remove(request)

    def close(self, then: Callable[[], None]) -> None:
        """Ends the model's thread after its current run and a call of `then`.

        No request may be admitted any more.
        """
        self._thread.submit(then)
        self._thread.shutdown(wait=False)

    def _run_next(self) -> None:
        batch = self._next_batch()
        self._busy = bool(batch)
        if not batch:
            return
        self._metrics.batch_images.observe(sum(len(piece) for _, piece in batch))
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._thread, self._timed_run, [piece for _, piece in batch])
        job.add_done_callback(lambda done: self._hand_out(batch, done))

    def _timed_run(self, pieces: Sequence[Images]) -> tuple[Array, int]:
        """Returns the rows and the run time in nanoseconds; called in the model's thread."""
        start = time.perf_counter_ns()
        return self._run(pieces), time.perf_counter_ns() - start

    def _next_batch(self) -> list[tuple[_Request, Images]]:
        """Returns pieces of the oldest requests, at most `max_batch` images together.

        Cancelled requests are skipped.
        """
        batch: list[tuple[_Request, Images]] = []
        room = self._max_batch
        while self._queue and room:
            request = self._queue[0]
            if not request.future.done():
                if request.admission.taken == 0:
                    request.admission.started_ns = time.perf_counter_ns()
                    waited = request.admission.started_ns - request.admission.queued_ns
                    self._metrics.queue_seconds.observe(waited / 1e9)
                piece = request.take(room)
                room -= len(piece)
                batch.append((request, piece))
            if request.future.done() or request.all_taken:
                self._queue.popleft()
        return batch

    def _hand_out(
        self, batch: list[tuple[_Request, Images]], job: asyncio.Future[tuple[Array, int]]
    ) -> None:
        if error := job.exception():
            for request, _ in batch:
                request.fail(error)
        else:
            rows, ns = job.result()
            self.statistics.count_run(len(rows), ns)
            start = 0
            for request, piece in batch:
                request.accept(rows[start : start + len(piece)], ns)
                start += len(piece)
        self._run_next()
