"""Preprocesses encoded images in threads, each of which has a decoder: a process of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram

from cxreval.errors import CxrevalError, ImageNotCached, ServiceUnavailable
from cxreval.imaging.cache import ImageCache, image_digest
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import Preprocessing
from services.inference.backends.image_decoder import ImageDecoder

_log = logging.getLogger(__name__)

_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)

Images = npt.NDArray[Any]  # float32, float16 or uint8


T = TypeVar("T")


class Preprocessor:
    """A pool of decoding threads for all models, with a cache of preprocessed images.

    A thread starts its decoder with its first image, and a new one after the decoder's end.
    """

    def __init__(self, threads: int, cache: ImageCache | None, metrics: CollectorRegistry) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._decoders: dict[int, ImageDecoder] = {}  # by thread
        self._starting = threading.Lock()
        self._stopped = False
        self._cache = cache
        self._cache_works = True
        self._seconds = Histogram(
            "cxreval_inference_preprocess_seconds",
            "Time to preprocess an image for the models of a request; it is decoded unless all "
            "are cached.",
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._cached = Counter(
            "cxreval_inference_cached_images_total",
            "Look-ups in the cache of preprocessed images, one a profile, by outcome: hit, miss.",
            ("outcome",),
            registry=metrics,
        )

    async def apply(
        self, images: Sequence[bytes | str], tensors: Mapping[Preprocessing, Images]
    ) -> None:
        """Applies each preprocessing to each image; an image is decoded once.

        If the call is cancelled, images that no thread has started are skipped.

        Args:
            images: each the bytes of a file, or the sha256 (64 lower-case hex characters) of a
                cached image.
            tensors: an array (N * crops, *shape) for each preprocessing, to be filled; the crops of
                an image are consecutive.

        Raises:
            ImageUnreadable, ImageTooLarge, ImageNotCached, InvalidTensor: for the first faulty
                image; the field has its index.
            ServiceUnavailable: the service stops, or a decoder does not start.
        """
        stacked = {
            preprocessing: tensor.reshape(len(images), -1, *tensor.shape[1:])
            for preprocessing, tensor in tensors.items()
        }
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(
                self._threads,
                self._one,
                image,
                {preprocessing: tensor[index] for preprocessing, tensor in stacked.items()},
            )
            for index, image in enumerate(images)
        ]
        try:
            for index, job in enumerate(jobs):
                await _located(job, index)
        finally:
            for job in jobs:
                job.cancel()

    async def tensors(self, image: bytes | str, index: int, preprocessing: Preprocessing) -> Images:
        """Returns the tensors (crops, *shape) of an image whose size they depend on.

        They are not cached: they may be as large as the image.

        Args:
            image: the bytes of a file; the sha256 of an image is never that of a cached one.
            index: its place in the request, for the field of an error.
            preprocessing: what is applied.

        Raises:
            CxrevalError: as `apply`.
        """
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, self._sized, image, preprocessing)
        return await _located(job, index)

    def stop(self) -> None:
        """Ends the decoders; running and later calls that need one raise `ServiceUnavailable`."""
        with self._starting:
            self._stopped = True
        for decoder in list(self._decoders.values()):
            decoder.kill(_stopping())

    def close(self) -> None:
        """Ends the decoders and the threads."""
        self.stop()
        self._threads.shutdown()  # no thread waits any more for a decoder
        for decoder in self._decoders.values():
            decoder.close()

    def _one(self, image: bytes | str, outs: Mapping[Preprocessing, Images]) -> None:
        start = time.perf_counter()
        if self._cache is None:
            digest, missing = "", list(outs)
        else:
            digest = image if isinstance(image, str) else image_digest(image)
            missing = [
                preprocessing
                for preprocessing, out in outs.items()
                if not self._read(self._cache, preprocessing, digest, out)
            ]
        if missing and isinstance(image, str):
            raise _not_cached(image, missing[0])
        if missing and not isinstance(image, str):
            self._decode(image, {preprocessing: outs[preprocessing] for preprocessing in missing})
            if self._cache:
                for preprocessing in missing:
                    self._write(self._cache, preprocessing, digest, outs[preprocessing])
        self._seconds.observe(time.perf_counter() - start)

    def _sized(self, image: bytes | str, preprocessing: Preprocessing) -> Images:
        if isinstance(image, str):
            raise _not_cached(image, preprocessing)
        start = time.perf_counter()
        (tensors,) = self._decode(image, {preprocessing: None})
        self._seconds.observe(time.perf_counter() - start)
        return tensors

    def _decode(self, image: bytes, outs: Mapping[Preprocessing, Images | None]) -> list[Images]:
        """Decodes an image, once more if the decoder ends, which need not be the image's fault."""
        decoder = self._decoder()
        try:
            return decoder.decode(image, outs)
        except CxrevalError as error:
            if not decoder.crashed:
                raise
            _log.warning("an image's decoder ended", extra={"problem": error})
            return self._decoder().decode(image, outs)

    def _decoder(self) -> ImageDecoder:
        """Returns this thread's decoder, a new one if it has ended."""
        thread = threading.get_ident()
        decoder = self._decoders.get(thread)
        if decoder and decoder.ready:
            return decoder
        with self._starting:
            if self._stopped:
                raise _stopping()
            if decoder:
                self._decoders.pop(thread).close()
            decoder = self._decoders[thread] = ImageDecoder()
        decoder.prepare()
        if problem := decoder.unprotected:
            _log.warning("images are decoded without full protection", extra={"problem": problem})
        return decoder

    def _read(
        self, cache: ImageCache, preprocessing: Preprocessing, digest: str, out: Images
    ) -> bool:
        try:
            hit = cache.read(profile_of(preprocessing), digest, out)
        except OSError as error:
            self._report(error)
            hit = False
        self._cached.labels("hit" if hit else "miss").inc()
        return hit

    def _write(
        self, cache: ImageCache, preprocessing: Preprocessing, digest: str, tensor: Images
    ) -> None:
        """Stores a tensor; a disk that is full or missing does not fail the request."""
        try:
            cache.write(profile_of(preprocessing), digest, tensor)
            self._cache_works = True
        except OSError as error:
            self._report(error)

    def _report(self, error: OSError) -> None:
        """Logs that the cache does not work, once until it works again."""
        if self._cache_works:
            self._cache_works = False
            _log.warning(
                "the cache of preprocessed images does not work", extra={"problem": error.strerror}
            )


async def _located(job: asyncio.Future[T], index: int) -> T:
    """Returns the result of a job; its error names the image of the request."""
    try:
        return await job
    except CxrevalError as error:
        metadata = error.metadata | {"field": f"inputs[0].contents[{index}]"}
        raise type(error)(f"image {index} of the request: {error.message}", **metadata) from None


def _not_cached(image: str, preprocessing: Preprocessing) -> ImageNotCached:
    name = preprocessing.name
    return ImageNotCached(
        f"image {image} is not cached for profile {name}; send its bytes",
        expected="sha256 of a cached image",
        image=image,
        profile=name,
    )


def _stopping() -> ServiceUnavailable:
    return ServiceUnavailable("this server stops and decodes no images any more; try another one")
