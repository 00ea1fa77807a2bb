"""The pool of loaded models: loading by digest, unloading, eviction of the least recently used.

Models are loaded in threads, so the event loop is not blocked. Everything else runs in the event
loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Histogram

from cxreval.errors import CxrevalError, ModelNotFound, ServiceOverloaded
from cxreval.imaging.preprocess import PROFILES, Profile
from cxreval.onnx_file.reading import profile_name
from cxreval.onnx_file.signature import Signature, check_columns, inspect
from services.inference.backends.session import PROVIDERS, OnnxModel, watchdog
from services.inference.batching import Batcher, BatchMetrics, Limits
from services.inference.model_cache import ModelCache

_log = logging.getLogger(__name__)

_CONCURRENT_LOADS = 2  # a load takes several times the model's size in memory
_WAITING_LOADS = 32
_HUNG_SECONDS = 1800.0  # a load that has held a slot this long will not end
_REMEMBERED_FAILURES = 100
_SHA256_LENGTH = 64

Announce = Callable[[str], Awaitable[None]]
"""Called with the name of a model after it was loaded or unloaded."""

_LOAD_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PoolMetrics:
    """The metrics of the pool."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.load_seconds = Histogram(
            "cxreval_inference_model_load_seconds",
            "Time to load a model (fetch, verify, inspect, open, warm up), by outcome: loaded, "
            "failed.",
            ("outcome",),
            buckets=_LOAD_BUCKETS,
            registry=registry,
        )
        self.loaded = Gauge(
            "cxreval_inference_models_loaded", "Models that are loaded.", registry=registry
        )


OpenModel = Callable[[Path, Signature, Profile | None], OnnxModel]
"""Opens a session and warms it up; blocks."""


@dataclass(frozen=True, slots=True)
class LoadRequirements:
    """Profile and number of columns that a load requires; None for any."""

    profile: Profile | None = None
    columns: int | None = None

    def met_by(self, model: Model) -> bool:
        """Whether a loaded model meets the requirements."""
        return self.profile in (None, model.profile) and self.columns in (None, model.columns)


class State(Enum):
    """State of a model, as the Open Inference Protocol's repository index spells it."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry of the index."""

    digest: str
    state: State
    reason: str = ""


class Model:
    """A loaded model with its batcher.

    `profile` preprocesses encoded images; a model without one takes tensors only. `nbytes` is the
    size of its file.
    """

    def __init__(
        self,
        digest: str,
        nbytes: int,
        runtime: OnnxModel,
        profile: Profile | None,
        batcher: Batcher,
    ) -> None:
        self.digest = digest
        self.nbytes = nbytes
        self.signature = runtime.signature
        self.columns = runtime.columns
        self.max_batch = runtime.max_batch
        self.on_gpu = runtime.provider != PROVIDERS["cpu"]
        self.profile = profile
        self.batcher = batcher
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Model]:
        """Keeps the model open while the context lasts."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Waits for running requests, then ends the model's thread."""
        await self._unused.wait()
        self.batcher.close()


@dataclass(frozen=True, slots=True)
class _Load:
    requirements: LoadRequirements
    task: asyncio.Task[None]


class ModelPool:
    """Holds at most `max_loaded` models of at most `max_bytes` in total, by the sha256 of the file.

    Models that are served from the start also have a name.
    """

    def __init__(
        self,
        cache: ModelCache,
        limits: Limits,
        metrics: CollectorRegistry,
        *,
        max_loaded: int,
        max_bytes: int,
        open_model: OpenModel,
        announce: Announce,
    ) -> None:
        self._cache = cache
        self._limits = limits
        self._max_loaded = max_loaded
        self._max_bytes = max_bytes
        self._open_model = open_model
        self._announce = announce
        self._names: dict[str, str] = {}
        self._metrics = PoolMetrics(metrics)
        self._batch_metrics = BatchMetrics(metrics)
        self._ready: OrderedDict[str, Model] = OrderedDict()  # least recently used first
        self._loads: dict[str, _Load] = {}
        self._failures: OrderedDict[str, str] = OrderedDict()
        self._load_slots = asyncio.Semaphore(_CONCURRENT_LOADS)
        self._load_starts: list[float] = []  # of the loads that hold a slot
        self._closing: set[asyncio.Task[None]] = set()

    async def load(self, digest: str, requirements: LoadRequirements) -> None:
        """Loads a model, unless it is loaded and meets the requirements.

        Concurrent calls with equal requirements share one load. A load continues when its caller
        cancels. If it fails, a model that was ready before stays ready.

        Raises:
            SubmissionFault: the file is unfit; see `cxreval.onnx_file` and `backends.session`.
            ServiceOverloaded: too many loads wait.
            CxrevalError: the file cannot be fetched; see `model_cache`.
        """
        while load := self._loads.get(digest):
            if load.requirements == requirements:
                return await asyncio.shield(load.task)
            await asyncio.wait([load.task])
        model = self._ready.get(digest)
        if model and requirements.met_by(model):
            return self._ready.move_to_end(digest)
        if len(self._loads) >= _WAITING_LOADS:
            raise ServiceOverloaded(
                f"{_WAITING_LOADS} models are loading already; try again later",
                limit=_WAITING_LOADS,
            )
        task = asyncio.create_task(self._load(digest, requirements))
        self._loads[digest] = _Load(requirements, task)
        return await asyncio.shield(task)

    async def load_file(self, name: str, file: Path) -> None:
        """Loads a file and gives it a name, for the profile in the file's metadata.

        Raises:
            OSError: the file cannot be read.
            CxrevalError: as `load`.
        """
        digest = await asyncio.to_thread(self._cache.add, file)
        self._names[name] = digest
        await self.load(
            digest, LoadRequirements(PROFILES.get(await asyncio.to_thread(profile_name, file)))
        )

    def use(self, name: str) -> contextlib.AbstractContextManager[Model]:
        """Returns the model, open while the context lasts. Raises `ModelNotFound`."""
        model = self.get(name)
        self._ready.move_to_end(model.digest)
        return model.in_use()

    def get(self, name: str) -> Model:
        """Returns the model, for reading its attributes. Raises `ModelNotFound`."""
        digest = self._digest(name)
        self._check_ready(digest)
        return self._ready[digest]

    async def is_healthy(self) -> bool:
        """Whether models can be loaded and run; one bad model does not make the pool unhealthy.

        It is unhealthy if its cache directory is gone, if time limits are no longer enforced, or
        if a hung load occupies every slot.
        """
        hung = [start for start in self._load_starts if time.monotonic() - start > _HUNG_SECONDS]
        if len(hung) >= _CONCURRENT_LOADS or not watchdog.alive:
            return False
        return await asyncio.to_thread(self._cache.is_writable)

    def is_ready(self, name: str) -> bool:
        """Whether the model accepts requests."""
        return self._digest(name) in self._ready

    def ready(self) -> list[str]:
        """Returns the digests of the models that accept requests, sorted."""
        return sorted(self._ready)

    async def unload(self, name: str) -> None:
        """Stops new requests for the model, then waits for running ones.

        Raises:
            ModelNotFound: the model is not loaded.
        """
        digest = self._digest(name)
        while load := self._loads.get(digest):
            await asyncio.wait([load.task])
        if self._failures.pop(digest, None) is not None and digest not in self._ready:
            return
        self._check_ready(digest)
        await asyncio.shield(self._retire(digest))

    def index(self) -> list[Listing]:
        """Returns every model that is ready, loading or failed to load, sorted by digest."""
        listings = {
            digest: Listing(digest, State.UNAVAILABLE, reason)
            for digest, reason in self._failures.items()
        }
        listings |= {digest: Listing(digest, State.LOADING) for digest in self._loads}
        listings |= {digest: Listing(digest, State.READY) for digest in self._ready}
        return [listings[digest] for digest in sorted(listings)]

    def _digest(self, name: str) -> str:
        return self._names.get(name, name)

    def _check_ready(self, digest: str) -> None:
        if digest not in self._ready:
            shown = digest[:_SHA256_LENGTH]
            raise ModelNotFound(
                f"model {shown!r} is not loaded here; load it with RepositoryModelLoad first",
                field="model_name",
                expected="sha256 of a loaded model",
                model=shown,
            )

    async def _load(self, digest: str, requirements: LoadRequirements) -> None:
        start = time.perf_counter()
        outcome = "failed"
        try:
            async with self._load_slots:
                self._load_starts.append(began := time.monotonic())
                try:
                    runtime, nbytes = await asyncio.to_thread(self._open, digest, requirements)
                finally:
                    self._load_starts.remove(began)
            self._admit(digest, nbytes, runtime, requirements.profile)
            outcome = "loaded"
            await self._announce_all(digest)
        except CxrevalError as error:
            self._remember_failure(digest, error)
            raise
        finally:
            del self._loads[digest]
            self._metrics.load_seconds.labels(outcome).observe(time.perf_counter() - start)

    def _open(self, digest: str, requirements: LoadRequirements) -> tuple[OnnxModel, int]:
        """Fetches, inspects and opens a model; blocks."""
        file = self._cache.file(digest)
        shape = requirements.profile.shape if requirements.profile else None
        signature = inspect(file, shape, requirements.columns)
        runtime = self._open_model(file, signature, requirements.profile)
        check_columns(runtime.columns, requirements.columns)
        return runtime, file.stat().st_size

    def _admit(self, digest: str, nbytes: int, runtime: OnnxModel, profile: Profile | None) -> None:
        """Makes a loaded model ready, then evicts others: a failed load must not evict a model."""
        if digest in self._ready:
            self._retire(digest)
        batcher = Batcher(
            runtime.run, runtime.max_batch, self._limits, self._batch_metrics, runtime.image_seconds
        )
        self._ready[digest] = Model(digest, nbytes, runtime, profile, batcher)
        self._failures.pop(digest, None)
        _log.info(
            "model loaded",
            extra={
                "model": digest,
                "provider": runtime.provider,
                "max_batch": runtime.max_batch,
                "image_seconds": round(runtime.image_seconds, 6),
            },
        )
        while len(self._ready) > self._max_loaded or (
            len(self._ready) > 1 and self._bytes() > self._max_bytes
        ):
            self._retire(next(iter(self._ready)))
        self._metrics.loaded.set(len(self._ready))

    def _retire(self, digest: str) -> asyncio.Task[None]:
        """Stops new requests for a model; the task ends after its running requests."""
        model = self._ready.pop(digest)
        self._metrics.loaded.set(len(self._ready))
        _log.info("model unloaded", extra={"model": digest})
        task = asyncio.create_task(self._close(model))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _close(self, model: Model) -> None:
        await self._announce_all(model.digest)
        await model.close()

    async def _announce_all(self, digest: str) -> None:
        """Announces a model under its digest and its names."""
        for name in (digest, *(name for name, known in self._names.items() if known == digest)):
            await self._announce(name)

    def _bytes(self) -> int:
        return sum(model.nbytes for model in self._ready.values())

    def _remember_failure(self, digest: str, error: CxrevalError) -> None:
        self._failures[digest] = f"{error.reason}: {error.message}"
        self._failures.move_to_end(digest)
        while len(self._failures) > _REMEMBERED_FAILURES:
            self._failures.popitem(last=False)
