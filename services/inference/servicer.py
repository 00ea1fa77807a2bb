"""The Open Inference Protocol v2 and `CapabilitiesService`, on top of the model pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import grpc.aio
import numpy as np

from cxreval import build_info
from cxreval.api.inference.v1 import capabilities_service_pb2 as capabilities_pb
from cxreval.api.inference.v1 import capabilities_service_pb2_grpc as capabilities_grpc
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.api.oip import grpc_predict_v2_pb2_grpc as oip_grpc
from cxreval.errors import CxrevalError, InternalError, InvalidTensor, ServiceUnavailable
from cxreval.files import MAX_ARTIFACT_BYTES
from cxreval.imaging.decode import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import PRESETS, Preprocessing
from cxreval.wire.limits import MAX_MESSAGE_BYTES
from services.chassis.interceptors.idle import answering
from services.inference import convert, convert_models
from services.inference.batching import Admission, Limits
from services.inference.model_pool import Model, ModelPool
from services.inference.preprocessing import Preprocessor

_log = logging.getLogger(__name__)

STREAM_WINDOW = 16
"""Most requests of one stream that run at once; the next is read when one is answered."""

_EXTENSIONS = ("model_repository", "model_configuration", "statistics")

Context = grpc.aio.ServicerContext[Any, Any]
_Answer = asyncio.Task[pb.ModelStreamInferResponse]
_Started = asyncio.Queue[_Answer | None]


class InferenceServicer(oip_grpc.GRPCInferenceServiceServicer):
    """`inference.GRPCInferenceService`."""

    def __init__(self, pool: ModelPool, preprocessor: Preprocessor, limits: Limits) -> None:
        self._pool = pool
        self._preprocessor = preprocessor
        self._limits = limits
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = asyncio.Event()

    async def drain(self, seconds: float) -> None:
        """Refuses new requests; returns when the running ones are answered.

        After so many seconds, the models and decoders are ended that still run, so that their
        callers get a named error before the server ends.
        """
        self._draining.set()
        self._pool.stop_loading()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            self._preprocessor.stop()
            self._pool.close()
            await self._idle.wait()

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        """Returns true."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        """Returns false while the server drains."""
        return pb.ServerReadyResponse(ready=not self._draining.is_set())

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """Returns name, version and extensions."""
        return pb.ServerMetadataResponse(
            name="cxreval", version=version("cxreval"), extensions=_EXTENSIONS
        )

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        """Returns whether the model accepts requests now."""
        known_version = request.version in ("", convert.VERSION)
        ready = known_version and self._pool.is_ready(request.name) and not self._draining.is_set()
        return pb.ModelReadyResponse(ready=ready)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Returns inputs and outputs of a loaded model."""
        convert.check_version(request.name, request.version)
        with self._pool.use(request.name) as model:
            return convert_models.to_metadata(request.name, model)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        """Returns the configuration of a loaded model."""
        convert.check_version(request.name, request.version)
        with self._pool.use(request.name) as model:
            return convert_models.to_config(request.name, model)

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Returns the statistics of one loaded model, or of all."""
        convert.check_version(request.name, request.version)
        names = [request.name] if request.name else self._pool.ready()
        return convert_models.to_statistics((name, self._pool.get(name)) for name in names)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """Runs one request."""
        with self._accepted():
            return await self._infer(request, context.time_remaining())

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Runs the requests of a stream, up to `STREAM_WINDOW` at once; answers in order.

        When the server drains, the stream answers the requests it has read and ends with
        `ServiceUnavailable`.
        """
        started = _Started()
        window = asyncio.Semaphore(STREAM_WINDOW)
        reader = asyncio.create_task(self._read_stream(requests, started, window))
        task: _Answer | None = None
        try:
            with self._accepted():
                while task := await started.get():
                    yield await task
                    window.release()
            await reader
        finally:
            reader.cancel()
            while task or not started.empty():
                if task:
                    task.cancel()
                task = None if started.empty() else started.get_nowait()

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """Lists models that are loaded, loading, or failed to load."""
        convert_models.check_repository(request.repository_name)
        return convert_models.to_index(self._pool.index(), only_ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model; returns when it is ready."""
        digest, requirements, owner = convert_models.to_load(request)
        with self._accepted():
            await self._pool.load(digest, requirements, owner)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model; returns when its running requests are answered."""
        await self._pool.unload(convert_models.to_unload(request))
        return pb.RepositoryModelUnloadResponse()

    async def _infer(
        self, request: pb.ModelInferRequest, seconds_left: float | None = None
    ) -> pb.ModelInferResponse:
        with contextlib.ExitStack() as stack:
            models = [
                stack.enter_context(self._pool.use(name))
                for name in convert.to_model_names(request)
            ]
            content = convert.to_input(request, models)
            rows = await self._run(models, content, seconds_left)
            return convert.to_response(request, models, rows)

    async def _run(
        self,
        models: Sequence[Model],
        content: convert.Images | convert.Encoded,
        seconds_left: float | None,
    ) -> list[convert.Array]:
        """Returns (N, columns) of each model for the N images of a request."""
        if not isinstance(content, convert.Encoded):
            (model,) = models
            with self._admit(model, content, seconds_left) as admission:
                return [await model.batcher.infer(admission, content)]
        with contextlib.ExitStack() as stack:
            admissions = [
                stack.enter_context(self._admit(model, content, seconds_left)) for model in models
            ]
            wanted = [
                (model, admission, model.interface.preprocessing)
                for model, admission in zip(models, admissions, strict=True)
                if model.interface
            ]
            tensors: dict[Preprocessing, convert.Images] = {}
            for model, _, steps in wanted:
                if not model.signature.sizes_differ and steps not in tensors:
                    tensors[steps] = model.empty(len(content) * profile_of(steps).crops)
            if tensors:
                await self._preprocessor.apply(content.images, tensors)
            return await _all(
                _infer_crops(model, admission, tensors[steps])
                if steps in tensors
                else self._infer_each(model, admission, steps, content.images)
                for model, admission, steps in wanted
            )

    async def _infer_each(
        self,
        model: Model,
        admission: Admission,
        steps: Preprocessing,
        images: Sequence[bytes | str],
    ) -> convert.Array:
        """Returns (N, columns) for N images whose tensors have sizes of their own.

        Each is run alone; at most so many as `model.large` allows are in memory.
        """

        async def one(index: int, image: bytes | str) -> convert.Array:
            async with model.large:
                tensors = await self._preprocessor.tensors(image, index, steps)
                return await _infer_crops(model, admission, tensors)

        return np.concatenate(await _all(one(*numbered) for numbered in enumerate(images)))

    def _admit(
        self, model: Model, content: convert.Images | convert.Encoded, seconds_left: float | None
    ) -> contextlib.AbstractContextManager[Admission]:
        """Admits a request's images to a model; each crop counts as an image.

        The tensors of images whose sizes differ are limited by `model.large` instead.
        """
        images, nbytes = len(content), content.nbytes
        if isinstance(content, convert.Encoded):
            images *= _crops(model)
            if not model.signature.sizes_differ:
                nbytes += images * model.signature.image_bytes
        self._check_size(images)
        return model.batcher.admit(images, nbytes, seconds_left)

    def _check_size(self, images: int) -> None:
        """Raises `InvalidTensor` for a request that could never be admitted."""
        if images > self._limits.images:
            expected = f"at most {self._limits.images} images"
            message = f"the request has {images} images; expected {expected}"
            raise InvalidTensor(message, field="inputs[0].shape", expected=expected, found=images)

    async def _read_stream(
        self,
        requests: AsyncIterator[pb.ModelInferRequest],
        started: _Started,
        window: asyncio.Semaphore,
    ) -> None:
        """Starts a task for each request, and puts None after the last.

        Raises:
            ServiceUnavailable: the server drains.
        """
        draining = asyncio.create_task(self._draining.wait())
        incoming = aiter(requests)
        try:
            while True:
                await window.acquire()
                message = asyncio.ensure_future(anext(incoming, None))
                await asyncio.wait((message, draining), return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    message.cancel()
                    break
                if (request := message.result()) is None:
                    return
                started.put_nowait(asyncio.create_task(self._answer(request)))
        finally:
            draining.cancel()
            started.put_nowait(None)
        raise _draining()

    async def _answer(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        """Returns the answer to one request of a stream; an error is text after its reason."""
        try:
            with answering():
                return pb.ModelStreamInferResponse(infer_response=await self._infer(request))
        except CxrevalError as raised:
            error = raised
        except Exception:  # noqa: BLE001 - logged in full; the caller gets a fixed text
            _log.exception("unexpected error in a stream")
            error = InternalError(
                "internal error; the service's log has the cause under this request id"
            )
        return pb.ModelStreamInferResponse(
            error_message=f"{error.reason}: {error.message}",
            infer_response=pb.ModelInferResponse(id=request.id),
        )

    @contextlib.contextmanager
    def _accepted(self) -> Iterator[None]:
        """Counts a call as running. Raises `ServiceUnavailable` while the server drains."""
        if self._draining.is_set():
            raise _draining()
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()


def _crops(model: Model) -> int:
    return profile_of(model.interface.preprocessing).crops if model.interface else 1


async def _infer_crops(
    model: Model, admission: Admission, tensors: convert.Images
) -> convert.Array:
    """Returns the mean over the crops of each image: (N, columns) for (N * crops, C, H, W)."""
    rows, crops = await model.batcher.infer(admission, tensors), _crops(model)
    if crops == 1:
        return rows
    of_images = rows.reshape(-1, crops, rows.shape[1])
    return np.asarray(of_images.mean(axis=1, dtype=np.float64), np.float32)


async def _all(answers: Iterable[Coroutine[Any, Any, convert.Array]]) -> list[convert.Array]:
    """Waits for all answers; cancels the others if one fails or the caller cancels."""
    tasks = [asyncio.create_task(answer) for answer in answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _draining() -> ServiceUnavailable:
    return ServiceUnavailable(
        "this server is draining and accepts no new requests; try another one"
    )


class CapabilitiesServicer(capabilities_grpc.CapabilitiesServiceServicer):
    """`cxreval.api.inference.v1.CapabilitiesService`.

    `runtime` describes the runtime; `repeat_tolerance` is the largest difference that is expected
    of two answers to one image; `device` and `threads` say where and with how many threads models
    run.
    """

    def __init__(self, runtime: str, repeat_tolerance: float, device: str, threads: int) -> None:
        self._runtime = runtime
        self._repeat_tolerance = repeat_tolerance
        self._device = device
        self._threads = threads

    async def GetCapabilities(
        self, request: capabilities_pb.GetCapabilitiesRequest, context: Context
    ) -> capabilities_pb.GetCapabilitiesResponse:
        """Returns profiles, limits, runtime, device, repeat tolerance and versions."""
        return capabilities_pb.GetCapabilitiesResponse(
            profiles=[
                capabilities_pb.PreprocessingProfile(
                    name=name,
                    digest=steps.digest,
                    shape=[size or -1 for size in profile_of(steps).shape],
                    description=profile_of(steps).description,
                )
                for name, steps in sorted(PRESETS.items())
            ],
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_image_bytes=MAX_IMAGE_BYTES,
            max_image_pixels=MAX_IMAGE_PIXELS,
            max_model_bytes=MAX_ARTIFACT_BYTES,
            runtime=self._runtime,
            repeat_tolerance=self._repeat_tolerance,
            device=self._device,
            threads=self._threads,
            **build_info(),
        )
