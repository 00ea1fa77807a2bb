"""What a stranger's model might attempt if it took over its process.

    python -m tests.support.attempts FILTER NAME [ARGUMENT]

It prints what came of the attempt NAME: `done`, or the name of the error; `all` prints that of each
of `REFUSED`. FILTER is the filter of system calls in hex; `own` makes one, and `open` makes the
attempt without `lock_down`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from services.inference.backends.lockdown import lock_down, system_call_filter

MEMORY_BYTES = 64 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FIOSETOWN = 0x8901
_CLONE_NEWUSER = 0x10000000
_X32 = 0x40000000


def _libc(name: str, *arguments: object) -> None:
    """Calls a function of the C library that returns a negative number on failure."""
    if getattr(_LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _number(number: int) -> Callable[[], None]:
    """A system call by its number, which is the same on all processors; its arguments are wrong."""
    return lambda: _libc("syscall", number, -1, -1, -1, -1, -1)


def _write_a_byte() -> None:
    os.write(os.memfd_create("test"), b"x")


def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join(10)


def _raise(kind: int) -> None:
    """Raises a limit; Python reports a refusal of the kernel as `ValueError`."""
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(errno.EPERM, str(error)) from None


REFUSED: dict[str, Callable[[], object]] = {
    "socket": socket.socket,
    "socket pair": socket.socketpair,
    "connect": lambda: _libc("connect", -1, None, 0),
    "run a program": lambda: os.execv("/usr/bin/true", ["true"]),
    "spawn a program": lambda: os.posix_spawn("/usr/bin/true", ["true"], {}),
    "fork": os.fork,
    "new namespace": lambda: _libc("unshare", _CLONE_NEWUSER),
    "signal to the parent": lambda: os.kill(os.getppid(), 0),
    "signal to all": lambda: os.kill(-1, 0),
    "signal to a thread of the parent": lambda: _libc("tgkill", os.getppid(), os.getppid(), 0),
    "to outlive the service": lambda: _libc("prctl", 1, 0),
    "signals of a file to the parent": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    "signals of a socket to the parent": lambda: fcntl.ioctl(0, _FIOSETOWN, b"\1\0\0\0"),
    "another session": os.setsid,
    "write a file": lambda: os.open("/tmp/attempt", os.O_WRONLY),
    "read and write a file": lambda: os.open("/tmp/attempt", os.O_RDWR),
    "make a file": lambda: os.open("/tmp/attempt", os.O_RDONLY | os.O_CREAT),
    "empty a file": lambda: os.open("/tmp/attempt", os.O_RDONLY | os.O_TRUNC),
    "remove a file": lambda: Path("/tmp/attempt").unlink(),
    "rename a file": lambda: Path("/tmp/attempt").rename("/tmp/attempt2"),
    "link a file": lambda: Path("/tmp/attempt").symlink_to("/tmp"),
    "truncate a file": lambda: os.truncate("/tmp/attempt", 0),
    "change a mode": lambda: Path("/tmp").chmod(0o777),
    "change a mode by a new call": _number(452),
    "change an attribute": lambda: os.setxattr("/tmp", "user.x", b""),
    "change an attribute by a new call": _number(463),
    "change a time": lambda: os.utime("/tmp"),
    "make a directory": lambda: Path("/tmp/attempt").mkdir(),
    "trace": lambda: _libc("ptrace", 0, 0, 0, 0),
    "read another process's memory": lambda: _libc(
        "process_vm_readv", os.getppid(), None, 0, None, 0, 0
    ),
    "type into the terminal": lambda: fcntl.ioctl(0, _TIOCSTI, b"x"),
    "select in the terminal": lambda: fcntl.ioctl(0, _TIOCLINUX, b"\x02"),
    "raise the limit of memory": lambda: _raise(resource.RLIMIT_AS),
    "raise the limit of files": lambda: _raise(resource.RLIMIT_FSIZE),
    "limit another process": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)),
    "become another user": lambda: os.setuid(1),
    "run with another name": lambda: _libc("sethostname", b"x", 1),
    "mount": lambda: _libc("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "io_uring": _number(425),
    "process by descriptor": _number(434),
    "advice on memory of others": _number(440),
}
"""Attempts that the filter refuses with EPERM."""

OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "memory beyond the limit": (lambda: bytearray(2 * MEMORY_BYTES), "MemoryError"),
    "a file that is too large": (_write_a_byte, "EFBIG"),
    "clone3": (_number(435), "ENOSYS"),  # the C library then uses clone, which the filter reads
    "openat2": (_number(437), "ENOSYS"),
    "x32": (_number(_X32 | 41), "SIGSYS"),
    "many open files": (lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(1000)], "EMFILE"),
    "memory within the limit": (lambda: bytearray(MEMORY_BYTES // 4), "done"),
    "a thread": (_thread, "done"),
    "read its file": (lambda: Path(sys.argv[3]).read_bytes(), "done"),
    "abort": (os.abort, "SIGABRT"),
}
"""Further attempts, and what comes of each."""


def _connect(port: str) -> None:
    socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()


WITH_ARGUMENT: dict[str, Callable[[str], object]] = {
    "read": lambda path: Path(path).read_bytes(),
    "connect to": _connect,
    "environment": lambda name: os.environ[name],
    "processes": lambda most: [] if len(_processes()) <= int(most) else 1 / 0,
    "write": lambda path: Path(path).write_bytes(b"x"),
}
"""Attempts against the sandbox alone."""


def _processes() -> list[str]:
    return [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]


def outcome(attempt: Callable[[], object]) -> str:
    """Returns `done`, or the name of the error."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except Exception as error:  # noqa: BLE001 - its name is the answer
        return type(error).__name__
    return "done"


def main() -> None:
    """Makes the attempt that the command line names, or all of `REFUSED`."""
    program, name, *arguments = sys.argv[1:]
    if program == "own":
        program = system_call_filter(os.getpid(), gpu=False).hex()
    if program != "open":
        lock_down(MEMORY_BYTES, bytes.fromhex(program), gpu=False)
    if name == "all":
        answer = json.dumps({name: outcome(attempt) for name, attempt in REFUSED.items()})
    elif name in OTHERS:
        answer = outcome(OTHERS[name][0])
    else:
        answer = outcome(lambda: WITH_ARGUMENT[name](*arguments))
    sys.stdout.write(answer)


if __name__ == "__main__":
    main()
