"""Encoded images to a model's tensor, in threads: neither decoding nor resizing may hold the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Histogram

from cxreval.errors import CxrevalError
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import Profile

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Preprocessor:
    """A pool of decoding threads for all models."""

    def __init__(self, threads: int, metrics: CollectorRegistry) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._seconds = Histogram(
            "cxreval_inference_preprocess_seconds",
            "Time to decode and preprocess an image.",
            buckets=_BUCKETS,
            registry=metrics,
        )

    async def apply(self, profile: Profile, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Decodes PNG or JPEG files and applies the profile; (N, C, H, W). Cancelled, it drops what has not begun.

        Raises:
            ImageUnreadable, ImageTooLarge, InvalidTensor: the first image at fault; the field says which it is.
        """
        tensors = np.empty((len(images), *profile.shape), np.float32)
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(self._threads, self._one, profile, image, tensors[index])
            for index, image in enumerate(images)
        ]
        try:
            for index, job in enumerate(jobs):
                await _located(job, index)
        finally:
            for job in jobs:
                job.cancel()
        return tensors

    def close(self) -> None:
        """Ends the threads after what they do now."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _one(self, profile: Profile, image: bytes, out: npt.NDArray[np.float32]) -> None:
        start = time.perf_counter()
        out[...] = profile.apply(decode(image))
        self._seconds.observe(time.perf_counter() - start)


async def _located(job: asyncio.Future[None], index: int) -> None:
    """The job's end; an error says which image of the request it is about."""
    try:
        await job
    except CxrevalError as error:
        metadata = error.metadata | {"field": f"inputs[0].contents[{index}]"}
        raise type(error)(f"image {index} of the request: {error.message}", **metadata) from None
