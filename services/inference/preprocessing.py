"""Preprocesses encoded images in threads, because decoding and resizing block."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram

from cxreval.errors import CxrevalError, ImageNotCached
from cxreval.imaging.cache import ImageCache, image_digest
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import Profile

_log = logging.getLogger(__name__)

_HUNG_SECONDS = 60.0  # an image that has been decoded for this long will not end

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

Array = npt.NDArray[np.float32]


class Preprocessor:
    """A pool of decoding threads for all models, with a cache of preprocessed images."""

    def __init__(self, threads: int, cache: ImageCache | None, metrics: CollectorRegistry) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._thread_count = threads
        self._starts: dict[int, float] = {}  # of the images being decoded, by thread
        self._cache = cache
        self._cache_works = True
        self._seconds = Histogram(
            "cxreval_inference_preprocess_seconds",
            "Time to preprocess an image for the profiles of a request; it is decoded unless all "
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

    async def apply(self, images: Sequence[bytes | str], tensors: Mapping[Profile, Array]) -> None:
        """Applies each profile to each image; an image is decoded once.

        If the call is cancelled, images that no thread has started are skipped.

        Args:
            images: each the bytes of a file, or the sha256 (64 lower-case hex characters) of a
                cached image.
            tensors: an array (N * crops, C, H, W) for each profile, to be filled; the crops of an
                image are consecutive.

        Raises:
            ImageUnreadable, ImageTooLarge, ImageNotCached, InvalidTensor: for the first faulty
                image; the field has its index.
        """
        stacked = {
            profile: tensor.reshape(len(images), *profile.tensor_shape)
            for profile, tensor in tensors.items()
        }
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(
                self._threads,
                self._one,
                image,
                {profile: tensor[index] for profile, tensor in stacked.items()},
            )
            for index, image in enumerate(images)
        ]
        try:
            for index, job in enumerate(jobs):
                await _located(job, index)
        finally:
            for job in jobs:
                job.cancel()

    def is_healthy(self) -> bool:
        """Whether images can be decoded: at least one thread has not hung."""
        now = time.monotonic()
        hung = sum(now - start > _HUNG_SECONDS for start in list(self._starts.values()))
        return hung < self._thread_count

    def close(self) -> None:
        """Ends the threads once they finish their current images."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _one(self, image: bytes | str, outs: Mapping[Profile, Array]) -> None:
        self._starts[threading.get_ident()] = time.monotonic()
        try:
            self._preprocess(image, outs)
        finally:
            del self._starts[threading.get_ident()]

    def _preprocess(self, image: bytes | str, outs: Mapping[Profile, Array]) -> None:
        start = time.perf_counter()
        if self._cache is None:
            digest, missing = "", list(outs)
        else:
            digest = image if isinstance(image, str) else image_digest(image)
            missing = [
                profile
                for profile, out in outs.items()
                if not self._read(self._cache, profile, digest, out)
            ]
        if missing and isinstance(image, str):
            raise ImageNotCached(
                f"image {image} is not cached for profile {missing[0].name}; send its bytes",
                expected="sha256 of a cached image",
                image=image,
                profile=missing[0].name,
            )
        if missing and not isinstance(image, str):
            decoded = decode(image)
            for profile in missing:
                outs[profile][...] = profile.apply(decoded)
                if self._cache:
                    self._write(self._cache, profile, digest, outs[profile])
        self._seconds.observe(time.perf_counter() - start)

    def _read(self, cache: ImageCache, profile: Profile, digest: str, out: Array) -> bool:
        try:
            hit = cache.read(profile, digest, out)
        except OSError as error:
            self._report(error)
            hit = False
        self._cached.labels("hit" if hit else "miss").inc()
        return hit

    def _write(self, cache: ImageCache, profile: Profile, digest: str, tensor: Array) -> None:
        """Stores a tensor; a disk that is full or missing does not fail the request."""
        try:
            cache.write(profile, digest, tensor)
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


async def _located(job: asyncio.Future[None], index: int) -> None:
    """Waits for a job; its error names the image of the request."""
    try:
        await job
    except CxrevalError as error:
        metadata = error.metadata | {"field": f"inputs[0].contents[{index}]"}
        raise type(error)(f"image {index} of the request: {error.message}", **metadata) from None
