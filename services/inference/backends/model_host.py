"""Starts a model host, and talks to it: the process in which one model runs.

A host is a child process with limits, in the sandbox if this machine has one. Whatever its model
does ends at most the host. One thread at a time may open or run it; any thread may kill it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import services
from cxreval import sandbox
from cxreval.errors import (
    CxrevalError,
    ModelCrashed,
    ModelTooLarge,
    ModelTooSlow,
    SandboxUnavailable,
    ServiceOverloaded,
    ServiceUnavailable,
    SubmissionFault,
)
from cxreval.imaging.preprocess import PROFILES, Profile
from cxreval.onnx_file.signature import MAX_COLUMNS, MAX_RUN_BYTES, Signature
from services.inference.backends import host
from services.inference.backends.lockdown import system_call_filter
from services.inference.backends.session import PROVIDERS, Execution
from services.inference.backends.shared_memory import SHARED_BYTES, SharedImages, SharedRows

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32 or uint8

_START_SECONDS = 60.0  # until Python and onnxruntime are imported; no model is involved
_EXIT_SECONDS = 10.0  # from the end of its socket to the end of the process
_COPIES = 3  # of a model's file in memory while it is opened: parsed, as tensors, as laid out
_ERROR_BYTES = 65536
_CREDENTIALS = struct.Struct("3i")
_PACKAGES = Path(services.__file__).parent


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


class ModelHost:
    """A running model host.

    Attributes:
        pid: the process that runs the model, a descendant of `process`.
        process: the child process: the sandbox, or the host itself.
        niceness: that of its threads.
        owner: whose model it runs.
        memory_bytes: how much memory it may take.
        unprotected: why it has no sandbox or no filter of system calls; empty if it has both.
    """

    def __init__(self, file: Path, limits: HostLimits, execution: Execution, threads: int) -> None:
        """Starts the process.

        Raises:
            ServiceUnavailable: it does not start, which is not the model's fault.
        """
        self._limits = limits
        self._execution = execution
        self._threads = threads
        self._failure: CxrevalError | None = None
        self._ending = threading.Lock()
        self._doing = "starting"
        self._busy_since: float | None = None
        self.niceness = 0
        self.owner = ""
        self.memory_bytes = limits.of(file)
        self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._errors, errors = os.pipe()
        os.set_blocking(errors, False)  # what a host writes beyond the pipe's room is lost
        os.set_blocking(self._errors, False)
        with end, os.fdopen(errors, "wb") as stderr:
            command, self.unprotected = self._command(file, end.fileno())
            self.process = subprocess.Popen(  # noqa: S603 -- the sandbox and this interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[end.fileno()],
                start_new_session=True,
            )
        self.pid, own_pid = self._started()
        try:
            self._filter = system_call_filter(own_pid, gpu=execution.gpu)
        except OSError as error:
            self._filter = b""
            self.unprotected = self.unprotected or str(error)

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
            "filter": self._filter.hex(),
        }
        opened = self._ask(request, self._limits.open_seconds, "opening the file")
        try:
            self.signature = _signature(opened)
            self.provider: str = _one_of(PROVIDERS.values(), opened["provider"])
            named = PROFILES.get(opened["profile"])
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None
        self.profile = named if requirements.named_profile else profile
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
        answer = self._ask(request, seconds, doing)
        try:
            rows, columns = map(_count, answer["shape"])
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None
        if rows != count or columns > MAX_COLUMNS:
            raise self._untrustworthy()
        return self._rows.copy(rows, columns)

    def kill(self, failure: CxrevalError | None = None) -> None:
        """Ends the process now; running and later calls raise `failure`."""
        self._failure = self._failure or failure
        if self.process.poll() is None:
            for pid in {self.process.pid, self.pid}:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_SECONDS)

    def close(self) -> None:
        """Ends the process and releases what belongs to it; nobody may use the host any more."""
        self.kill()
        self._socket.close()
        os.close(self._errors)

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

    def _command(self, file: Path, fd: int) -> tuple[list[str], str]:
        """Returns the command that starts the host, and why it has no sandbox."""
        devices = sorted(Path("/dev").glob("nvidia*")) if self._execution.gpu else []
        try:
            return sandbox.command(
                host.__name__, [str(fd), sandbox.INPUT], file, packages=[_PACKAGES], devices=devices
            ), ""
        except SandboxUnavailable as error:
            return [sys.executable, "-s", "-m", host.__name__, str(fd), str(file)], error.message

    def _started(self) -> tuple[int, int]:
        """Waits until the host has imported its packages; returns its pid here and in its own
        namespace."""
        try:
            self._socket.settimeout(_START_SECONDS)
            content, ancillary, _, _ = self._socket.recvmsg(
                host.MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
            own_pid: int = json.loads(content)["pid"]
            (_, _, credentials), *_ = ancillary
        except (OSError, ValueError) as error:
            self.pid = self.process.pid
            self.kill()
            problem = self._written() or error
            raise ServiceUnavailable(f"a model's process did not start: {problem}") from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return _CREDENTIALS.unpack(credentials)[0], own_pid

    def _ask(self, request: host.Message, seconds: float, doing: str) -> host.Message:
        if self._failure:
            raise self._failure
        self._doing, self._busy_since = doing, time.monotonic()
        try:
            self._socket.settimeout(seconds)
            self._socket.send(json.dumps(request).encode())
            content = self._socket.recv(host.MESSAGE_BYTES)
        except TimeoutError:
            self.kill(self._too_slow(seconds, doing))
            raise self.failure() from None
        except OSError:
            raise self.failure() from None
        finally:
            self._busy_since = None
        if not content:
            raise self.failure()
        try:
            message = json.loads(content)
        except (ValueError, RecursionError):
            raise self._untrustworthy() from None
        if not isinstance(message, dict):
            raise self._untrustworthy()
        if "reason" in message:
            raise self._told(message)
        return message

    def _untrustworthy(self) -> CxrevalError:
        """Ends a host that has answered what it never answers, unless a model has taken it over;
        returns the error."""
        self.kill(
            ModelCrashed(
                f"the model's process answered wrongly while {self._doing}",
                field="model",
                expected="a model that leaves its process alone",
            )
        )
        return self.failure()

    def _too_slow(self, seconds: float, doing: str) -> ModelTooSlow:
        return ModelTooSlow(
            f"{doing} took more than {seconds:.3g} s; the process was ended",
            field="model",
            expected=f"at most {seconds:.3g} s",
        )

    def _told(self, message: host.Message) -> CxrevalError:
        """Returns the error that the host has answered."""
        try:
            kind = CxrevalError.by_reason[message["reason"]]
            metadata = {_text(key): _text(value) for key, value in message["metadata"].items()}
            error = kind(_text(message["message"]), **metadata)
        except (KeyError, TypeError, ValueError, AttributeError):
            return self._untrustworthy()
        if isinstance(error, ModelTooLarge):
            return self._too_large(error.message)
        if isinstance(error, SubmissionFault | ServiceUnavailable):
            return error
        if isinstance(error, ServiceOverloaded):
            return ServiceOverloaded(error.message, unit="memory")
        return self._untrustworthy()

    def _too_large(self, problem: str) -> ModelTooLarge:
        mib = self.memory_bytes >> 20
        expected = f"at most {mib} MiB: {self._limits.memory_bytes >> 20} and 3 times its file"
        return ModelTooLarge(
            f"{problem}: the model may take {expected}", field="model", expected=expected
        )

    def failure(self) -> CxrevalError:
        """Returns why the host ended; waits for its end."""
        with self._ending:  # what the host has written can be read once
            if self._failure is None:
                self._failure = self._end()
            return self._failure

    def _end(self) -> CxrevalError:
        try:
            status = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.wait()
        written = self._written()
        if "bad_alloc" in written or "MemoryError" in written:
            return self._too_large(f"no memory while {self._doing}")
        ended = _described(status)
        return ModelCrashed(
            f"the model's process ended while {self._doing}: {ended}",
            field="model",
            expected="a model whose process does not end",
            found=ended,
        )

    def _written(self) -> str:
        """Returns the last line that the host has written to its standard error."""
        try:
            text = os.read(self._errors, _ERROR_BYTES).decode(errors="replace").strip()
        except OSError:
            return ""
        return text.rpartition("\n")[2]


def _signature(opened: host.Message) -> Signature:
    """Returns the signature that a host has answered. Raises `ValueError`, `TypeError` or
    `KeyError` if there is no such signature."""
    channels, height, width = map(_count, opened["image_shape"])
    signature = Signature(
        _text(opened["input_name"]),
        (channels, height, width),
        None if opened["batch"] is None else _count(opened["batch"]),
        _text(opened["output_name"]),
        np.dtype(_one_of(("<f4", "|u1"), opened["dtype"])),
    )
    if (signature.batch or 1) * signature.image_bytes > MAX_RUN_BYTES:
        raise ValueError(opened)
    return signature


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > host.MOST_TEXT:
        raise ValueError(value)
    value.encode()  # refuses lone surrogates
    return value


def _one_of(values: Iterable[str], value: object) -> str:
    if value not in (known := tuple(values)):
        raise ValueError(value)
    return known[known.index(value)]


def _described(status: int) -> str:
    """Returns the end of a process in words; a sandbox reports a signal as 128 and its number."""
    number = -status if status < 0 else status - 128
    if number > 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(number).name
    return f"exit status {status}"
