"""Starts a model host, and talks to it: the process in which one model runs.

One thread at a time may open or run it; any thread may kill it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval import model_interface
from cxreval.bundle import Ensemble, SubmittedFile, sections
from cxreval.errors import (
    CxrevalError,
    ModelCrashed,
    ModelTooLarge,
    ModelTooSlow,
    ServiceOverloaded,
    ServiceUnavailable,
    SubmissionFault,
)
from cxreval.imaging.preprocess import profile_of
from cxreval.model_interface import MAX_COLUMNS, ModelInterface
from cxreval.onnx_file.signature import MAX_BATCH, MAX_RUN_BYTES, Signature
from cxreval.preprocessing import PRESETS, Activation
from services.inference.backends import host
from services.inference.backends.child import Child, text
from services.inference.backends.messages import Message
from services.inference.backends.session import PROVIDERS, Execution
from services.inference.backends.shared_memory import SHARED_BYTES, SharedImages, SharedRows

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32, float16 or uint8

_COPIES = 3  # of a model's file in memory while it is opened: parsed, as tensors, as laid out


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Limits of a model host.

    `memory_bytes` is what a model may take beyond three times the size of its file. `open_seconds`
    limits opening the file, `warm_up_seconds` all runs of the warm-up together, and `run_seconds`
    each run. `hosts` is how many hosts a model has while it is opened: in half precision a second
    one, to compare with.
    """

    memory_bytes: int
    open_seconds: float
    warm_up_seconds: float
    run_seconds: float
    hosts: int = 1

    def of(self, file: Path) -> int:
        """Returns how much memory the host of a file may take, in bytes."""
        return self.memory_bytes + _COPIES * file.stat().st_size


@dataclass(frozen=True, slots=True)
class LoadRequirements:
    """Interface and number of columns that a load requires; None for any.

    With `named_profile` the interface is that of the preset that the file names. With `files` the
    model's file is the archive of these, and with `ensemble` several of them are models.
    """

    interface: ModelInterface | None = None
    columns: int | None = None
    named_profile: bool = False
    files: tuple[SubmittedFile, ...] = ()
    ensemble: Ensemble | None = None


class ModelHost(Child):
    """A running model host.

    Attributes:
        niceness: that of its threads.
        owner: whose model it runs.
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
        self._file = file
        self._limits = limits
        self._execution = execution
        self._threads = threads
        self._busy_since: float | None = None
        self.niceness = 0
        self.owner = ""
        self.memory_bytes = limits.of(file)
        devices = sorted(Path("/dev").glob("nvidia*")) if execution.gpu else []
        super().__init__(file, devices)
        try:
            self.lock_down(self.memory_bytes + SHARED_BYTES, gpu=execution.gpu)
        except CxrevalError:
            self.close()
            raise

    def open(self, max_batch: int, requirements: LoadRequirements) -> None:
        """Opens the file and makes the shared memory.

        It sets the attributes `signature`, `provider`, `interface`, and `max_batch`: the most
        images of one run, which is at most the argument.

        Raises:
            BundleInvalid: the file is not the archive of the required files.
            CxrevalError: as `inspect`, `inspect_bundle` and `OnnxSession` raise.
            ModelCrashed, ModelTooSlow: the host ended, or exceeded its time limit.
        """
        interface, files = requirements.interface, requirements.files
        places = sections(self._file, files) if files else {}
        request = {
            "interface": interface.json if interface else "",
            "columns": requirements.columns,
            "named_profile": requirements.named_profile,
            "files": {name: (place.start, place.nbytes) for name, place in places.items()},
            "ensemble": requirements.ensemble,
            "threads": self._threads,
            "provider": self._execution.provider,
            "fp16": self._execution.fp16,
        }
        opened = self._ask(request, self._limits.open_seconds, "opening the file")
        try:
            named = text(opened["profile"])
            if requirements.named_profile:
                interface = model_interface.preset(named) if named in PRESETS else None
            self.interface = interface
            self.signature = _signature(opened, interface)
            self.provider: str = _one_of(PROVIDERS.values(), opened["provider"])
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None
        fitting = max(1, MAX_RUN_BYTES // self.signature.image_bytes)
        self.max_batch = min(self.signature.batch or max_batch, fitting)
        if self.signature.sizes_differ:
            self.max_batch = 1
        self._share()

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
        answer = self._ask(request, seconds, doing)
        try:
            rows, columns = map(_count, answer["shape"])
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None
        if rows != count or columns > MAX_COLUMNS:
            raise self._untrustworthy()
        return self._rows.copy(rows, columns)

    def busy_seconds(self) -> float:
        """Returns how long it has been opening the file, or been busy with a run; 0 if it waits."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

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
        self._busy_since = time.monotonic()
        try:
            return super()._ask(request, seconds, doing, descriptors)
        finally:
            self._busy_since = None

    def _share(self) -> None:
        """Makes the shared memory and gives it to the host."""
        with self.starting(), contextlib.ExitStack() as descriptors:
            self._images = SharedImages(self.max_batch, self.signature)
            descriptors.callback(os.close, self._images.fd)
            self._rows = SharedRows(self.max_batch)
            descriptors.callback(os.close, self._rows.fd)
            shared = (self._images.fd, self._rows.fd)
            self._ask({}, self._limits.open_seconds, "opening the file", shared)

    def _told(self, message: Message) -> CxrevalError:
        error = super()._told(message)
        if message["reason"] == ModelTooLarge.reason:
            return self._too_large(error.message)
        if isinstance(error, ServiceOverloaded):
            return ServiceOverloaded(error.message, unit="memory")
        return error

    def _too_large(self, problem: str) -> ModelTooLarge:
        mib = self.memory_bytes >> 20
        expected = f"at most {mib} MiB: {self._limits.memory_bytes >> 20} and 3 times its file"
        return ModelTooLarge(
            f"{problem}: the model may take {expected}", field="model", expected=expected
        )


def _signature(opened: Message, interface: ModelInterface | None) -> Signature:
    """Returns the signature that a host has answered. Raises `ValueError`, `TypeError` or
    `KeyError` if no model of the interface has it."""
    first, second, third = (
        None if size is None else _count(size) for size in opened["image_shape"]
    )
    signature = Signature(
        text(opened["input_name"]),
        (first, second, third),
        None if opened["batch"] is None else _count(opened["batch"]),
        text(opened["output_name"]),
        np.dtype(_one_of(("<f4", "<f2", "|u1"), opened["dtype"])),
        interface.outputs.activation if interface else Activation.NONE,
    )
    if interface:
        profile = profile_of(interface.preprocessing)
        meant = (signature.image_shape, signature.dtype) == (profile.shape, profile.dtype)
    else:
        meant = not signature.sizes_differ
    batch = signature.batch or 1
    if not meant or batch > MAX_BATCH or batch * signature.image_bytes > MAX_RUN_BYTES:
        raise ValueError(opened)
    return signature


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value


def _one_of(values: Container[str], value: object) -> str:
    if not isinstance(value, str) or value not in values:
        raise ValueError(value)
    return value
