"""The first process of a sandbox: it runs a script and writes on its output what comes of it.

It is sent as the text of `python -I -S -c`, so it imports the standard library only, and nothing
of this package. The script cannot end it, because the kernel drops signals to the first process of
a process namespace, and cannot reach its descriptors, because it is not dumpable.

Its output is lines of JSON, each an object with one key: `started`; `log`, base64; `rows`, how many
lines the table has after its first; `output`, base64 of the next piece of the zlib stream that
holds the table; and at last `end`, with the status of the script.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import resource
import select
import signal
import stat
import sys
import time
import zlib
from typing import Any

PIECE_BYTES = 8192  # of a line; container runtimes split lines of 16 KiB
POLL_MILLISECONDS = 50
ROWS_SECONDS = 0.5
ROWS_BYTES = 4 << 20  # read of the table at a time
REAP_SECONDS = 5.0
CAPABILITY_VERSION = 0x20080522
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SockFprog(ctypes.Structure):
    """`struct sock_fprog` of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def main(plan: dict[str, Any]) -> None:
    """Runs the script of a plan, as `inside.supervised` describes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel drops only signals without a handler, and Python has one of this signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if plan["user"] is not None:
        os.setgroups([])
        os.setresgid(plan["user"], plan["user"], plan["user"])
        os.setresuid(plan["user"], plan["user"], plan["user"])
        # The capabilities to do so are gone, but could still be inherited.
        none = (ctypes.c_uint32 * 6)()
        libc.capset(ctypes.byref((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)), ctypes.byref(none))
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    reader, writer = os.pipe()
    script = os.fork()
    if script == 0:
        become_script(plan, writer, libc)
    os.close(writer)
    os.set_blocking(reader, False)
    tell("started", value=True)
    log = Log(reader, plan["log_bytes"])
    status = supervise(script, log, Table(plan["output"], plan["output_bytes"]))
    end_others()
    log.drain()
    size = send_output(plan["output"], plan["output_bytes"]) if status == 0 else None
    full = [name for name, paths in plan["volumes"].items() if any(map(is_full, paths))]
    tell("end", value={"status": status, "size": size, "full": full, "killed": killed_for_memory()})


def become_script(plan: dict[str, Any], log: int, libc: ctypes.CDLL) -> None:
    """Turns this process, a child, into the script; it has no other descriptor than its log."""
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1 << 16)
        os.umask(0o022)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python
            signal.signal(ignored, signal.SIG_DFL)
        for kind, limit in (
            # The kernel starts no handler of core dumps at 1, which it would at 0.
            (resource.RLIMIT_CORE, 1),
            (resource.RLIMIT_FSIZE, plan["file_bytes"]),
            (resource.RLIMIT_NOFILE, plan["open_files"]),
            # Above the limit of a control group, which counts what it refuses.
            (resource.RLIMIT_NPROC, plan["processes"] + 8),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            hard = resource.getrlimit(kind)[1]
            lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (lower, lower))
        os.chdir(plan["directory"])
        program = base64.b64decode(plan["filter"])
        code = ctypes.create_string_buffer(program)
        filter_ = SockFprog(len(program) // 8, ctypes.addressof(code))
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if libc.syscall(plan["seccomp"], 1, 0, ctypes.byref(filter_)) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")
        os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001 -- this process must not return to the caller
        os.write(2, f"the script did not start: {error}\n".encode())
    finally:
        os._exit(127)


def supervise(script: int, log: Log, table: Table) -> int:
    """Returns the status of the script when it has ended, minus the number for a signal."""
    next_rows = 0.0
    while True:
        log.wait()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == script:
                table.tell_rows()
                return os.waitstatus_to_exitcode(status)
            if pid == 0:
                break
        if time.monotonic() >= next_rows:
            table.tell_rows()
            next_rows = time.monotonic() + ROWS_SECONDS


def end_others() -> None:
    """Ends what the script has started and left; nobody changes the table after that."""
    until = time.monotonic() + REAP_SECONDS
    while time.monotonic() < until:
        try:
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except (ChildProcessError, ProcessLookupError):
            return
        time.sleep(0.005)


class Log:
    """Standard output and standard error of the script, told up to a number of bytes and read
    beyond it, because a script whose output is closed would end."""

    def __init__(self, reader: int, most_bytes: int) -> None:
        self.reader, self.left, self.open = reader, most_bytes, True
        self.poll = select.poll()
        self.poll.register(reader, select.POLLIN)
        self.poll.register(1, 0)

    def wait(self) -> None:
        """Waits for output for a moment and tells it; ends the sandbox if it is not followed any
        more, because its runner was killed."""
        milliseconds = POLL_MILLISECONDS if self.open else POLL_MILLISECONDS // 5
        ready = dict(self.poll.poll(milliseconds))
        if 1 in ready:
            os._exit(1)
        if self.reader in ready:
            self.read()
            if not self.open:
                self.poll.unregister(self.reader)

    def drain(self) -> None:
        """Tells what is left, when no process writes any more."""
        while self.open and self.read():
            pass

    def read(self) -> bool:
        """Tells a piece; returns whether there was one."""
        try:
            data = os.read(self.reader, 1 << 16)
        except BlockingIOError:
            return False
        self.open = bool(data)
        kept, self.left = data[: self.left], max(0, self.left - len(data))
        for start in range(0, len(kept), PIECE_BYTES):
            tell("log", value=base64.b64encode(kept[start : start + PIECE_BYTES]).decode())
        return self.open


class Table:
    """Counts the lines of the table while the script writes it."""

    def __init__(self, path: str, most_bytes: int) -> None:
        self.path, self.left = path, most_bytes
        self.inode, self.offset, self.lines, self.told = 0, 0, 0, 0

    def tell_rows(self) -> None:
        """Tells the number of rows, if it is another than before."""
        descriptor = open_table(self.path)
        if descriptor is None:
            return
        try:
            state = os.fstat(descriptor)
            if state.st_ino != self.inode or state.st_size < self.offset:
                self.inode, self.offset, self.lines = state.st_ino, 0, 0
            data = os.pread(descriptor, min(ROWS_BYTES, max(self.left, 0)), self.offset)
        finally:
            os.close(descriptor)
        self.offset += len(data)
        self.left -= len(data)
        self.lines += data.count(b"\n")
        if self.lines - 1 > self.told:
            self.told = self.lines - 1
            tell("rows", value=self.told)


def open_table(path: str) -> int | None:
    """Opens the table; None if there is no regular file of that name, such as for a link."""
    try:
        descriptor = os.open(path, OPEN)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def send_output(path: str, most_bytes: int) -> int | None:
    """Sends the table; returns its size, or None if there is none. A larger one than
    `most_bytes` is not sent."""
    descriptor = open_table(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            return size
        stream, waiting = zlib.compressobj(1), b""
        while True:
            data = file.read(1 << 16)
            waiting += stream.compress(data) if data else stream.flush()
            while len(waiting) >= PIECE_BYTES or (waiting and not data):
                tell("output", value=base64.b64encode(waiting[:PIECE_BYTES]).decode())
                waiting = waiting[PIECE_BYTES:]
            if not data:
                return size


def is_full(path: str) -> bool:
    """Returns whether a file system in memory has no room left."""
    try:
        return os.statvfs(path).f_bavail == 0
    except OSError as error:
        return error.errno == errno.ENOSPC


def killed_for_memory() -> int:
    """Returns how many processes the kernel killed at the container's limit, where that can be
    read inside; else 0."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            with open(f"/sys/fs/cgroup/{name}") as file:  # noqa: PTH123 -- imports are few
                fields = dict(line.split() for line in file)
            return int(fields["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def tell(key: str, *, value: object) -> None:
    """Writes a line of the output."""
    line = json.dumps({key: value}).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
