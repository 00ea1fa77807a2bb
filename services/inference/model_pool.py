"""The pool of loaded models: loading by digest, unloading, eviction of the least recently used.

Models are loaded in threads, so the event loop is not blocked. What these threads share has a lock;
everything else runs in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Histogram

from cxreval import model_interface
from cxreval.errors import CxrevalError, ModelNotFound
from services.inference.backends.model_host import HostLimits, LoadRequirements
from services.inference.backends.onnx_model import OnnxModel
from services.inference.backends.priority import can_restore, niceness
from services.inference.backends.session import PROVIDERS
from services.inference.batching import Batcher, BatchMetrics, Limits
from services.inference.model_cache import ModelCache
from services.inference.openings import MOST_LOADS, Openings, stopping

_log = logging.getLogger(__name__)

_LARGE_IMAGES = 4
_REMEMBERED_FAILURES = 100
_WATCH_SECONDS = 0.25
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


OpenModel = Callable[..., OnnxModel]
"""Makes an `OnnxModel` of a file and requirements; blocks."""


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

    A model without an `interface` takes tensors only. `nbytes` is the size of its file. `empty`
    returns an array for images, which a run need not copy. Where the sizes of images differ, a
    request waits for `large` before it makes a tensor of one, so that only a few are in memory.
    """

    def __init__(self, digest: str, nbytes: int, runtime: OnnxModel, batcher: Batcher) -> None:
        self.digest = digest
        self.nbytes = nbytes
        self.signature = runtime.signature
        self.columns = runtime.columns
        self.max_batch = runtime.max_batch
        self.on_gpu = runtime.provider != PROVIDERS["cpu"]
        self.interface = runtime.interface
        self.interface_digest = runtime.interface.digest if runtime.interface else ""
        self.files, self.ensemble = runtime.files, runtime.ensemble
        self.empty = runtime.empty
        self.host = runtime.host
        self.batcher = batcher
        self.large = asyncio.Semaphore(_LARGE_IMAGES)
        try:
            self._exit = os.pidfd_open(runtime.host.process.pid)
        except ProcessLookupError:
            raise runtime.host.failure() from None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def meets(self, requirements: LoadRequirements) -> bool:
        """Returns whether the model meets the requirements of another load."""
        wanted, columns = requirements.interface, requirements.columns
        return (
            (wanted is None or wanted.digest == self.interface_digest)
            and columns in (None, self.columns)
            and (requirements.files, requirements.ensemble) == (self.files, self.ensemble)
        )

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

    def when_host_ends(self, call: Callable[[], None]) -> None:
        """Calls `call` in the event loop when the host's process ends, until `close`."""
        asyncio.get_running_loop().add_reader(self._exit, call)

    async def close(self) -> None:
        """Waits for running requests, then ends the model's thread and host."""
        asyncio.get_running_loop().remove_reader(self._exit)
        await self._unused.wait()
        os.close(self._exit)
        self.batcher.close(self.host.close)


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
        host_limits: HostLimits,
        open_model: OpenModel,
        announce: Announce,
    ) -> None:
        self._cache = cache
        self._host_limits = host_limits
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
        self._loaders = ThreadPoolExecutor(MOST_LOADS, thread_name_prefix="load")
        self._openings = Openings()
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def load(self, digest: str, requirements: LoadRequirements, owner: str = "") -> None:
        """Loads a model of an owner, unless it is loaded and meets the requirements.

        Concurrent calls with equal requirements share one load. A load continues when its caller
        cancels. If it fails, a model that was ready before stays ready.

        Raises:
            SubmissionFault: the file is unfit; see `cxreval.onnx_file` and `backends`.
            ServiceOverloaded: too many models are being loaded, or memory does not suffice for
                one more.
            ServiceUnavailable: the service stops.
            CxrevalError: the file cannot be fetched; see `model_cache`.
        """
        while load := self._loads.get(digest):
            if load.requirements == requirements:
                return await asyncio.shield(load.task)
            await asyncio.wait([load.task])
        model = self._ready.get(digest)
        if model and model.meets(requirements):
            return self._ready.move_to_end(digest)
        if self._watching is None:
            self._watching = asyncio.create_task(self._keep_watching())
        task = asyncio.create_task(self._load(digest, requirements, owner))
        self._loads[digest] = _Load(requirements, task)
        return await asyncio.shield(task)

    async def load_file(self, name: str, file: Path, preset: str = "") -> None:
        """Loads a file and gives it a name, for a preset: the one that its metadata name, or this.

        Raises:
            OSError: the file cannot be read.
            CxrevalError: as `load`.
        """
        digest = await asyncio.to_thread(self._cache.add, file)
        self._names[name] = digest
        interface = model_interface.preset(preset) if preset else None
        await self.load(digest, LoadRequirements(interface, named_profile=not preset))

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
        """Whether models can be loaded: its cache directory is there."""
        return await asyncio.to_thread(self._cache.is_writable)

    def stop_loading(self) -> None:
        """Ends the loads that are running, and later ones at once."""
        self._openings.stop()

    def close(self) -> None:
        """Ends all hosts, whatever they do."""
        self.stop_loading()
        for model in self._ready.values():
            model.host.kill(stopping())

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

    async def _load(self, digest: str, requirements: LoadRequirements, owner: str) -> None:
        start = time.perf_counter()
        outcome = "failed"
        try:
            # In the context of the call, whose request id the download of the file has.
            run = contextvars.copy_context().run
            runtime, nbytes = await asyncio.get_running_loop().run_in_executor(
                self._loaders, run, self._open, digest, requirements, owner
            )
            self._admit(digest, nbytes, runtime)
            outcome = "loaded"
            await self._announce_all(digest)
        except CxrevalError as error:
            self._remember_failure(digest, error)
            raise
        finally:
            del self._loads[digest]
            self._metrics.load_seconds.labels(outcome).observe(time.perf_counter() - start)

    def _open(
        self, digest: str, requirements: LoadRequirements, owner: str
    ) -> tuple[OnnxModel, int]:
        """Fetches and opens a model; blocks."""
        limits = self._host_limits
        with self._cache.file(digest) as file:
            nbytes = file.stat().st_size
            with self._openings.reserved(limits.hosts * limits.of(file), owner) as started:
                runtime = self._open_model(file, requirements, limits=limits, started=started)
        if problem := runtime.host.unprotected:
            _log.warning("a model runs without full protection", extra={"problem": problem})
        return runtime, nbytes

    def _admit(self, digest: str, nbytes: int, runtime: OnnxModel) -> None:
        """Makes a loaded model ready, then evicts others: a failed load must not evict a model."""
        if digest in self._ready:
            self._retire(digest)
        batcher = Batcher(
            runtime.run, runtime.max_batch, self._limits, self._batch_metrics, runtime.image_seconds
        )
        model = self._ready[digest] = Model(digest, nbytes, runtime, batcher)
        model.when_host_ends(lambda: self._host_ended(model))
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
            len(self._ready) > 1
            and sum(model.nbytes for model in self._ready.values()) > self._max_bytes
        ):
            self._retire(next(iter(self._ready)))
        self._metrics.loaded.set(len(self._ready))

    def _host_ended(self, model: Model) -> None:
        """Unloads a model whose host has ended."""
        error = model.host.failure()
        _log.warning("a model's process ended", extra={"model": model.digest, "problem": error})
        if self._ready.get(model.digest) is model:
            self._retire(model.digest)
            self._remember_failure(model.digest, error)

    async def _keep_watching(self) -> None:
        """Lets the hosts yield that are busy for long, so that they do not slow the others down."""
        restorable = can_restore()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            ready = [model.host for model in self._ready.values()]
            slow = {*self._openings.hosts(), *(host for host in ready if host.busy_seconds() > 1)}
            owners = Counter(host.owner for host in slow)
            for host in slow.union(ready):
                together = owners[host.owner] if host in slow else 1
                wanted = niceness(host.busy_seconds(), together, restorable=restorable)
                if wanted != host.niceness:
                    host.set_niceness(wanted)

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

    def _remember_failure(self, digest: str, error: CxrevalError) -> None:
        self._failures[digest] = f"{error.reason}: {error.message}"
        self._failures.move_to_end(digest)
        while len(self._failures) > _REMEMBERED_FAILURES:
            self._failures.popitem(last=False)
