"""Starts a child process that opens strangers' files, and talks to it.

The child has limits, and is in the sandbox if this machine has one. Whatever a file does to it ends
at most the child.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import services
from cxreval import sandbox
from cxreval.errors import CxrevalError, SandboxUnavailable, ServiceUnavailable
from services.inference.backends.lockdown import system_call_filter
from services.inference.backends.messages import MESSAGE_BYTES, MOST_TEXT, NO_MEMORY, Message

_START_SECONDS = 60.0  # until Python has imported its packages; no stranger's file is involved
_EXIT_SECONDS = 10.0  # from the end of its socket to the end of the process
_ERROR_BYTES = 65536
_CREDENTIALS = struct.Struct("3i")
_PACKAGES = [Path(services.__file__).parent]


class Child(abc.ABC):
    """A running child process. One thread at a time may ask it; any thread may kill it.

    Attributes:
        module: what it runs.
        field: what its files are, in the field of an error.
        name: of the process, in messages.
        expected: of a file, in the error of one whose process ends.
        crash: error of a file whose process ends.
        slow: error of a file that exceeds a time limit.
        answers: errors that the process may answer.
        pid: the process that opens the file, a descendant of `process`.
        process: the child process: the sandbox, or the process itself.
        crashed: whether the process ended by itself or was killed by another process.
        unprotected: why it has no sandbox or no filter of system calls; empty if it has both.
    """

    module: ClassVar[str]
    field: ClassVar[str]
    name: ClassVar[str]
    expected: ClassVar[str]
    crash: ClassVar[type[CxrevalError]]
    slow: ClassVar[type[CxrevalError]]
    answers: ClassVar[tuple[type[CxrevalError], ...]]

    def __init__(self, file: Path | None = None, devices: Sequence[Path] = ()) -> None:
        """Starts `python -m module SOCKET FILE`, which may use the devices, and does not wait.

        Raises:
            ServiceUnavailable: this machine does not start another process.
        """
        self._failure: CxrevalError | None = None
        self._ending = threading.Lock()
        self._doing = "starting"
        self.crashed = False
        with self.starting(), contextlib.ExitStack() as failed:
            self._start(file, devices, failed)
            failed.pop_all()
        self.pid = self.process.pid

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Raises `ServiceUnavailable` for an `OSError` in the block: the machine has no room."""
        try:
            yield
        except OSError as error:
            raise ServiceUnavailable(f"a {self.name} did not start: {error.strerror}") from None

    def _start(
        self, file: Path | None, devices: Sequence[Path], failed: contextlib.ExitStack
    ) -> None:
        """Starts the process; `failed` closes what it has opened if it raises `OSError`."""
        self._errors, errors = os.pipe()
        failed.callback(os.close, self._errors)
        os.set_blocking(errors, False)  # what a child writes beyond the pipe's room is lost
        os.set_blocking(self._errors, False)
        with os.fdopen(errors, "wb") as stderr:
            self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(self._socket.close)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with end:
                command, self.unprotected = _command(self.module, end.fileno(), file, devices)
                self.process = subprocess.Popen(  # noqa: S603 -- the sandbox and this interpreter
                    command,
                    env=sandbox.interpreter_environment() | sandbox.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=[end.fileno()],
                    start_new_session=True,
                )

    def lock_down(self, memory_bytes: int, descriptors: Sequence[int] = (), *, gpu: bool) -> None:
        """Waits until the child has imported its packages and taken its limits.

        Args:
            memory_bytes: how much memory it may take beyond what it has then.
            descriptors: it gets them.
            gpu: whether it will use a GPU.

        Raises:
            ServiceUnavailable: it does not start, which is not the fault of a file.
        """
        try:
            program = self._started(gpu=gpu)
            request = {"memory_bytes": memory_bytes, "filter": program.hex(), "gpu": gpu}
            self._ask(request, _START_SECONDS, "starting", descriptors)
        except (CxrevalError, OSError, ValueError, KeyError, TypeError) as error:
            self.kill()
            problem = self._written() or error
            self._failure = ServiceUnavailable(f"a {self.name} did not start: {problem}")
            raise self._failure from None

    def _started(self, *, gpu: bool) -> bytes:
        """Waits for the child's first message; returns the filter of its system calls, or
        nothing."""
        self._socket.settimeout(_START_SECONDS)
        content, ancillary, _, _ = self._socket.recvmsg(
            MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
        )
        own_pid: int = json.loads(content)["pid"]
        (_, _, credentials), *_ = ancillary
        pid = _CREDENTIALS.unpack(credentials)[0]
        if pid <= 1:  # as a signal's target, these would be this process and many others
            raise ValueError(f"its process has the number {pid}")
        self.pid = pid
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        try:
            return system_call_filter(own_pid, gpu=gpu)
        except OSError as error:
            self.unprotected = self.unprotected or str(error)
            return b""

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
        """Ends the process and releases what belongs to it; nobody may use it any more."""
        self.kill()
        self._socket.close()
        os.close(self._errors)

    def failure(self) -> CxrevalError:
        """Returns why the process ended; waits for its end."""
        with self._ending:  # what the child has written can be read once
            if self._failure is None:
                self._failure = self._end()
            return self._failure

    def _ask(
        self, request: Message, seconds: float, doing: str, descriptors: Sequence[int] = ()
    ) -> Message:
        """Returns the child's answer to a request, with which it gets descriptors.

        Raises:
            CxrevalError: the child answered it, ended, or took more than `seconds`. After the last
                two, every later call raises the same error.
        """
        if self._failure:
            raise self._failure
        self._doing = doing
        try:
            self._socket.settimeout(seconds)
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            content = self._socket.recv(MESSAGE_BYTES)
        except TimeoutError:
            self.kill(self._too_slow(seconds, doing))
            raise self.failure() from None
        except OSError:
            raise self.failure() from None
        if not content:
            raise self.failure()
        try:
            message = json.loads(content)
            if not isinstance(message, dict):
                raise TypeError(message)
            error = self._told(message) if "reason" in message else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._untrustworthy() from None
        if error:
            raise error
        return message

    def _untrustworthy(self) -> CxrevalError:
        """Ends a child that has answered what it never answers, unless a file has taken it over;
        returns the error."""
        self.kill(
            self.crash(
                f"the {self.name} answered wrongly while {self._doing}",
                field=self.field,
                expected=self.expected,
            )
        )
        return self.failure()

    def _too_slow(self, seconds: float, doing: str) -> CxrevalError:
        return self.slow(
            f"{doing} took more than {seconds:.3g} s; the process was ended",
            field=self.field,
            expected=f"at most {seconds:.3g} s",
        )

    @abc.abstractmethod
    def _too_large(self, problem: str) -> CxrevalError:
        """Returns the error of a file for which the child's memory does not suffice."""

    def _told(self, message: Message) -> CxrevalError:
        """Returns the error that the child has answered.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is no error that a child answers.
        """
        if message["reason"] == NO_MEMORY:
            return self._too_large(f"no memory while {self._doing}")
        kind = CxrevalError.by_reason[message["reason"]]
        if not issubclass(kind, self.answers):
            raise TypeError(f"{kind.reason} is not among the errors that the process may answer")
        metadata = {text(key): text(value) for key, value in message["metadata"].items()}
        return kind(text(message["message"]), **metadata)

    def _end(self) -> CxrevalError:
        try:
            status = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.wait()
        written = self._written()
        if "bad_alloc" in written or "MemoryError" in written:
            return self._too_large(f"no memory while {self._doing}")
        self.crashed = True
        ended = _described(status)
        return self.crash(
            f"the {self.name} ended while {self._doing}: {ended}",
            field=self.field,
            expected=self.expected,
            found=ended,
        )

    def _written(self) -> str:
        """Returns the last line that the child has written to its standard error."""
        try:
            text = os.read(self._errors, _ERROR_BYTES).decode(errors="replace").strip()
        except OSError:
            return ""
        return text.rpartition("\n")[2]


def _command(
    module: str, fd: int, file: Path | None, devices: Sequence[Path]
) -> tuple[list[str], str]:
    """Returns the command that starts a child, and why it has no sandbox."""
    try:
        arguments = [str(fd), *([sandbox.INPUT] if file else [])]
        return sandbox.command(module, arguments, file, packages=_PACKAGES, devices=devices), ""
    except SandboxUnavailable as error:
        arguments = [str(fd), *([str(file)] if file else [])]
        return [sys.executable, "-s", "-m", module, *arguments], error.message


def text(value: object) -> str:
    """Returns a text that a child has answered. Raises `ValueError` for anything else."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise ValueError(value)
    value.encode()  # refuses lone surrogates
    return value


def _described(status: int) -> str:
    """Returns the end of a process in words; a sandbox reports a signal as 128 and its number."""
    number = -status if status < 0 else status - 128
    if number > 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(number).name
    return f"exit status {status}"
