"""A loaded model: its host, and the batch size and run time that its warm-up measured.

`cxreval.onnx_file` has checked the file in the host. A warm-up on two generated images shows what
only a run can show: how wide the output is, and which batch is worth running.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval.errors import (
    CxrevalError,
    ModelOutputMismatch,
    ModelTooLarge,
    ModelTooSlow,
    ServiceOverloaded,
)
from cxreval.onnx_file.signature import check_columns
from services.inference.backends.model_host import HostLimits, LoadRequirements, ModelHost
from services.inference.backends.precision import check_half_precision, phantoms
from services.inference.backends.session import AS_SAVED, PROVIDERS, Execution

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32, float16 or uint8

_GENERATED_SIDE = 512
_WORTH_IT = 0.9  # a larger batch must take less than this share of the time per image
_HARMLESS_SECONDS = 0.005  # a run this short delays no other request noticeably


class OnnxModel:
    """A warmed-up model in a host of its own.

    `columns` is the width of its output. `alone` says whether each image is run alone, so that an
    answer cannot depend on the other images of its batch: on a CPU always, where a batch saves
    hardly any time, unless the file fixes its size. `max_batch` is the most images that are sent to
    the host at once: the number that the file fixes; else the largest up to the setting that saves
    time, or takes negligible time, in the warm-up. `image_seconds` is the run time per image in the
    warm-up.
    """

    def __init__(
        self,
        file: Path,
        requirements: LoadRequirements,
        *,
        threads: int,
        max_batch: int,
        limits: HostLimits,
        execution: Execution = AS_SAVED,
        started: Callable[[ModelHost], None] = lambda _: None,
    ) -> None:
        """Starts the host, which takes seconds, and runs the warm-up.

        Half precision is checked on phantoms, preprocessed as declared. Without an interface it is
        checked on noise, which is a weak check: many networks are certain about noise, and rounding
        does not change their answers. `started` is called with the host before it opens the file.

        Raises:
            CxrevalError: as `inspect` and `OnnxSession` raise.
            ModelUnsupported: a run fails, or in half precision the answers differ by more than
                `FP16_TOLERANCE`.
            ModelOutputMismatch: the output is not one row of floats per image.
            ModelCrashed, ModelTooSlow, ModelTooLarge: the host ended or met a limit.
        """
        self.host = ModelHost(file, limits, execution, threads)
        try:
            started(self.host)
            self.host.open(max_batch, requirements)
            self.signature = self.host.signature
            self.provider = self.host.provider
            self.interface = self.host.interface
            self.files, self.ensemble = requirements.files, requirements.ensemble
            self._limits = limits
            self._warm_up_end: float | None = time.monotonic() + limits.warm_up_seconds
            self.columns = 0
            self.alone, self.max_batch = True, 1
            answers = self.each(self._generated())
            self.columns = answers.shape[1]
            check_columns(self.columns, requirements.columns)
            if execution.fp16:
                self._check_half_precision(file, threads, started)
            self.image_seconds = self._seconds(self._generated()[:1])
            self._choose_batch(answers)
            self._warm_up_end = None
        except BaseException:
            self.host.close()
            raise

    def empty(self, count: int) -> Images:
        """Returns an array for images (count, C, H, W), which `run` need not copy."""
        return self.host.empty(count)

    def run(self, pieces: Sequence[Images]) -> Array:
        """Runs pieces of images (n, C, H, W) as one batch.

        Returns:
            (sum of n, columns), the rows in the order of the images.

        Raises:
            ModelUnsupported: the run fails.
            ModelTooLarge: memory does not suffice even for one image.
            ServiceOverloaded: the GPU's memory does not suffice, which need not be the model's
                fault.
            ModelOutputMismatch: the output is not one row of 1 to `MAX_COLUMNS` columns per image.
            ModelCrashed, ModelTooSlow: the host ended, or the run exceeded its time limit.
        """
        count = sum(map(len, pieces))
        try:
            rows = self._run(pieces, count)
        except (ModelTooLarge, ServiceOverloaded):
            if count == 1 or self.alone or self.signature.batch is not None:
                raise
            images, half = np.concatenate(pieces), count // 2
            return np.concatenate([self.run([images[:half]]), self.run([images[half:]])])
        if self.columns not in (0, rows.shape[1]):
            expected = f"{self.columns} columns"
            raise ModelOutputMismatch(
                f"the model returned {rows.shape[1]} columns; expected {expected}, as before",
                field="model.outputs",
                expected=expected,
                found=str(rows.shape[1]),
            )
        return rows

    def each(self, images: Images) -> Array:
        """Runs each of the images (n, C, H, W) alone; returns (n, columns)."""
        return np.concatenate([self.run([image[np.newaxis]]) for image in images])

    def _run(self, pieces: Sequence[Images], count: int) -> Array:
        doing, seconds = f"running a batch of {count}", self._limits.run_seconds
        if self._warm_up_end is not None:
            doing = "warming up"
            seconds = min(seconds, self._warm_up_end - time.monotonic())
            if seconds <= 0:
                limit = f"at most {self._limits.warm_up_seconds:g} s"
                raise ModelTooSlow(
                    f"warming up took too long; expected {limit}", field="model", expected=limit
                )
        return self.host.run(pieces, alone=self.alone, doing=doing, seconds=seconds)

    def _generated(self) -> Images:
        """Returns two images of noise; of `_GENERATED_SIDE` where sizes differ."""
        generator = np.random.default_rng(0)
        shape = (2, *(size or _GENERATED_SIDE for size in self.signature.image_shape))
        if self.signature.dtype == np.uint8:
            return generator.integers(0, 256, shape, np.uint8)
        return generator.standard_normal(shape, np.float32).astype(self.signature.dtype, copy=False)

    def _check_half_precision(
        self, file: Path, threads: int, started: Callable[[ModelHost], None]
    ) -> None:
        """Raises `ModelUnsupported` if half precision changes the answers too much."""
        interface = self.interface
        images = phantoms(interface.preprocessing) if interface else self._generated()
        requirements = LoadRequirements(interface, files=self.files, ensemble=self.ensemble)
        full = OnnxModel(
            file,
            requirements,
            threads=threads,
            max_batch=1,
            limits=self._limits,
            started=started,
        )
        try:
            check_half_precision(self.each(images), full.each(images))
        finally:
            full.host.close()

    def _choose_batch(self, answers: Array) -> None:
        """Sets `alone` and `max_batch`."""
        exact = self.provider == PROVIDERS["cpu"]
        if self.signature.batch or not exact:
            self.alone = not self._run_together_equal(answers, exact=exact)
        if self.signature.batch:
            self.max_batch = 1 if self.alone else self.signature.batch
        else:
            self.max_batch = self._useful_batch()

    def _run_together_equal(self, answers: Array, *, exact: bool) -> bool:
        """Returns whether two images run together give the answers of each alone.

        Some exported graphs declare a free batch dimension and do not support it, and an answer
        must not depend on the other images of its batch.
        """
        if self.host.max_batch < len(answers):
            return False
        self.alone = False
        try:
            together = self.run([self._generated()])
        except CxrevalError:
            return False
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-4}
        return np.allclose(together, answers, **tolerance, equal_nan=True)

    def _useful_batch(self) -> int:
        """Returns the largest batch worth running; doubles the size while that saves time."""
        images, useful = self._generated(), 1
        for size in itertools.takewhile(
            lambda size: size <= self.host.max_batch, (2**power for power in itertools.count(1))
        ):
            seconds = self._seconds(np.resize(images, (size, *images.shape[1:])))
            if seconds > _HARMLESS_SECONDS and seconds / size > _WORTH_IT * self.image_seconds:
                break
            useful, self.image_seconds = size, min(self.image_seconds, seconds / size)
        return useful

    def _seconds(self, images: Images) -> float:
        """Returns the shorter duration of two runs."""
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            self.run([images])
            taken.append(time.perf_counter() - start)
        return min(taken)
