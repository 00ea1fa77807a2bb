"""Starts a model host, and talks to it: the process in which one model runs.

One thread at a time may open or run it; any thread may kill it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval.errors import (
    CxrevalError,
    ModelCrashed,
    ModelTooLarge,
    ModelTooSlow,
    ServiceOverloaded,
    ServiceUnavailable,
    SubmissionFault,
)
from cxreval.imaging.preprocess import PROFILES, Profile
from cxreval.onnx_file.signature import MAX_COLUMNS, MAX_RUN_BYTES, Signature
from services.inference.backends import host
from services.inference.backends.child import Child
from services.inference.backends.messages import Message
from services.inference.backends.session import Execution
from services.inference.backends.shared_memory import SHARED_BYTES, SharedImages, SharedRows

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32 or uint8

_COPIES = 3  # of a model's file in memory while it is opened: parsed, as tensors, as laid out


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Limits of a model host.

    `memory_bytes` is what a model may take beyond three times the size of its file. `open_seconds`
    limits opening the file, `warm_up_seconds` all runs of the warm-up together, and `run_seconds`
    each run.
    """

    memory_bytes: int
    open_seconds: float
    warm_up_seconds: float
    run_seconds: float

    def of(self, file: Path) -> int:
        """Returns how much memory the host of a file may take, in bytes."""
        return self.memory_bytes + _COPIES * file.stat().st_size


@dataclass(frozen=True, slots=True)
class LoadRequirements:
    """Profile and number of columns that a load requires; None for any.

    With `named_profile` the profile is the one that the file names.
    """

    profile: Profile | None = None
    columns: int | None = None
    named_profile: bool = False


class ModelHost(Child):
    """A running model host.

    Attributes:
        busy_since: when the file began to be opened, or the running run began, by
            `time.monotonic`; None while the host waits.
        niceness: that of its threads.
        memory_bytes: how much memory it may take.
    """

    module = host.__name__
    field = "model"
    name = "model's process"
    expected = "a model whose process does not end"
    crash = ModelCrashed
    slow = ModelTooSlow
    answers = (SubmissionFault, ServiceOverloaded, ServiceUnavailable)

    def __init__(self, file: Path, limits: HostLimits, execution: Execution, threads: int) -> None:
        """Starts the process.

        Raises:
            ServiceUnavailable: it does not start, which is not the model's fault.
        """
        self._limits = limits
        self._execution = execution
        self._threads = threads
        self.busy_since: float | None = None
        self.niceness = 0
        self.memory_bytes = limits.of(file)
        devices = sorted(Path("/dev").glob("nvidia*")) if execution.gpu else []
        super().__init__(file, devices)
        self._filter = self.start(gpu=execution.gpu)

    def open(self, max_batch: int, requirements: LoadRequirements) -> None:
        """Opens the file and makes the shared memory.

        It sets the attributes `signature`, `provider`, `profile`, and `max_batch`: the most images
        of one run, which is at most the argument.

        Raises:
            CxrevalError: as `inspect` and `OnnxSession` raise.
            ModelCrashed, ModelTooSlow: the host ended, or exceeded its time limit.
        """
        profile = requirements.profile
        request = {
            "shape": profile.shape if profile else None,
            "columns": requirements.columns,
            "named_profile": requirements.named_profile,
            "threads": self._threads,
            "provider": self._execution.provider,
            "fp16": self._execution.fp16,
            "memory_bytes": self.memory_bytes + SHARED_BYTES,
            "filter": self._filter,
        }
        opened = self._ask(request, self._limits.open_seconds, "opening the file")
        self.signature = Signature(
            opened["input_name"],
            tuple(opened["image_shape"]),
            opened["batch"],
            opened["output_name"],
            np.dtype(opened["dtype"]),
        )
        self.provider: str = opened["provider"]
        self.profile = PROFILES.get(opened["profile"]) if requirements.named_profile else profile
        fitting = max(1, MAX_RUN_BYTES // self.signature.image_bytes)
        self.max_batch = min(self.signature.batch or max_batch, fitting)
        self._images = SharedImages(
            self.max_batch, self.signature.image_shape, self.signature.dtype
        )
        self._rows = SharedRows(self.max_batch)
        try:
            socket.send_fds(self._socket, [b"\0"], [self._images.fd, self._rows.fd])
        except OSError:
            raise self.failure() from None
        finally:
            os.close(self._images.fd)
            os.close(self._rows.fd)

    def empty(self, count: int) -> Images:
        """Returns an array for `count` images, in shared memory if there is room."""
        return self._images.empty(count)

    def run(self, pieces: Sequence[Images], *, alone: bool, doing: str, seconds: float) -> Array:
        """Runs pieces of images (n, C, H, W), together at most `max_batch` images.

        Args:
            pieces: the images; those that are not from `empty` are copied.
            alone: whether each image is run alone, or all as one batch.
            doing: what is run, for the message of an error.
            seconds: the time limit.

        Returns:
            (sum of n, columns), the rows in the order of the images.

        Raises:
            CxrevalError: as `OnnxSession.run` raises.
            ModelCrashed, ModelTooSlow: the host ended, or exceeded its time limit. Every later
                call raises the same error.
        """
        count = sum(map(len, pieces))
        request = {"pieces": self._images.place(pieces), "alone": alone}
        shape = self._ask(request, seconds, doing)["shape"]
        if len(shape) != 2 or shape[0] != count or not 0 < shape[1] <= MAX_COLUMNS:
            self.kill(ModelCrashed(f"the model's process answered rows of shape {shape}"))
            raise self.failure()
        return self._rows.copy(*shape)

    def set_niceness(self, niceness: int) -> None:
        """Sets the niceness of all threads of the host, if this process may."""
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, os.getpgid(self.pid), niceness)
            self.niceness = niceness
            # Where the kernel groups the threads of a session, their group has a niceness as well.
            Path(f"/proc/{self.pid}/autogroup").write_text(str(niceness))

    def resident_bytes(self) -> int:
        """Returns how much memory the host has now, without files; 0 after its end."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")

    def _ask(
        self, request: Message, seconds: float, doing: str, descriptors: Sequence[int] = ()
    ) -> Message:
        self.busy_since = time.monotonic()
        try:
            return super()._ask(request, seconds, doing, descriptors)
        finally:
            self.busy_since = None

    def _told(self, message: Message) -> CxrevalError:
        if message["reason"] == ModelTooLarge.reason:
            return self._too_large(message["message"])
        return super()._told(message)

    def _too_large(self, problem: str) -> ModelTooLarge:
        mib = self.memory_bytes >> 20
        expected = f"at most {mib} MiB: {self._limits.memory_bytes >> 20} and 3 times its file"
        return ModelTooLarge(
            f"{problem}: the model may take {expected}", field="model", expected=expected
        )
