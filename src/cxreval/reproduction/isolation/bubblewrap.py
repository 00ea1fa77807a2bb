"""Runs a script with bubblewrap, a filter of system calls and a control group, on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxreval import sandbox
from cxreval.cgroups import ControlGroup, ControlGroups
from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation import inside
from cxreval.reproduction.isolation.contract import Ended, Limits, Outcome, Progress, Run, Usage
from cxreval.reproduction.isolation.ending import outcome
from cxreval.reproduction.isolation.frames import Frames
from cxreval.reproduction.isolation.local import LocalSandbox

_PYTHON = "/python"  # where an interpreter is that does not come with the system
_SYSTEM = Path("/usr")
_EXTRA_PROCESSES = 2  # bubblewrap and the supervisor
# Root needs no user namespace, and would be the user behind each one. The supervisor becomes
# another user before it starts the script.
_AS_ROOT = (
    "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
    "--new-session", "--die-with-parent", "--cap-drop", "ALL", "--cap-add", "CAP_SETUID",
    "--cap-add", "CAP_SETGID", "--hostname", "sandbox", "--clearenv",
)  # fmt: skip
_NOBODY = "65534"
# There is no other file in /proc: it would show the paths of the mounts on the host.
_FILES = (
    "--dev", "/dev", "--perms", "0755", "--dir", inside.MODEL, "--perms", "0755", "--dir", "/proc",
    "--ro-bind-try", "/proc/cpuinfo", "/proc/cpuinfo",
)  # fmt: skip
_START_SECONDS = 30.0
_FEWEST_USERS = 1 << 15
_CHECK_SECONDS = 30.0
_CHECK = Limits(
    memory_bytes=128 << 20,
    cpu_seconds=_CHECK_SECONDS,
    wall_seconds=_CHECK_SECONDS,
    processes=4,
    scratch_bytes=1 << 20,
)


class Bubblewrap:
    """Runs scripts in bubblewrap, each in a control group of its own.

    A worker that is root runs each script as a user of its own, which no other process has.
    Groups that a killed worker has left are removed.

    Raises:
        SandboxUnavailable: this machine has no bubblewrap that works, no libseccomp, or no control
            group with limits on memory and processes.
    """

    name = "bubblewrap"

    def __init__(self) -> None:
        sandbox.check()
        self._binary = sandbox.binary()
        self._groups = ControlGroups()

    def check(self, interpreter: Path) -> None:
        """Raises `SandboxUnavailable` unless a script of one line runs with this interpreter."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            directory.chmod(0o755)
            script = "import os; open(os.environ['CXREVAL_OUT'], 'w').write('works')"
            (directory / "check.py").write_text(script)
            run = Run(
                source=directory,
                entry_point="check.py",
                environment=None,
                interpreter=interpreter,
                images=directory,
                list_file=directory / "check.py",
                seed=0,
                limits=_CHECK,
            )
            came = self.run(run)
        if came.output != b"works":
            expected = "a script of one line to run"
            problem = f"{came.detail}: {came.log.strip()}"
            message = f"no sandbox: {problem}; expected {expected}"
            raise SandboxUnavailable(message, expected=expected, found=problem)

    def run(self, run: Run, progress: Progress | None = None) -> Outcome:
        """Runs a script, as `Isolation.run` describes."""
        run.check()
        limits, frames = run.limits, Frames(run.limits)
        started = time.monotonic()
        group = self._groups.create(
            memory_bytes=limits.memory_bytes, processes=limits.processes + _EXTRA_PROCESSES
        )
        try:
            running = self._start(run, group, frames)
            try:
                limit = running.follow(limits, lambda: _exceeded(group, limits), progress)
            finally:
                group.kill()
                running.end()
            usage = Usage(
                wall_seconds=time.monotonic() - started,
                cpu_seconds=group.cpu_seconds(),
                peak_memory_bytes=group.peak_memory_bytes(),
                output_bytes=0,
            )
            return outcome(frames, limit or _at_end(group, limits, frames), limits, usage)
        finally:
            group.remove()

    def _start(self, run: Run, group: ControlGroup, frames: Frames) -> LocalSandbox:
        """Starts the sandbox, and lets its first process run when it is in the group."""
        with contextlib.ExitStack() as stack:

            def pipe() -> tuple[int, int]:
                ends = os.pipe()
                for end in ends:
                    stack.callback(os.close, end)
                return ends

            (told, tells), (waits, go) = pipe(), pipe()
            words = ["--info-fd", str(tells), "--block-fd", str(waits), *self._arguments(run)]
            running = LocalSandbox([self._binary, *words], frames, [tells, waits])
            try:
                group.add(running.process.pid)
                if child := _child(told, running.process):
                    group.add(child)
                    os.write(go, b"\n")
                else:
                    running.process.kill()  # else it would go on when the pipe is closed
            except BaseException:
                group.kill()
                running.end()
                raise
            return running

    def _arguments(self, run: Run) -> list[str]:
        """Returns the arguments of bubblewrap, with the command inside."""
        limits, pairs = run.limits, inside.mounts(run)
        interpreter = run.interpreter.resolve()
        prefix = interpreter.parents[1]
        python, libraries = str(interpreter), ""
        if prefix != _SYSTEM:
            pairs.append((prefix, _PYTHON))
            python, libraries = f"{_PYTHON}/bin/{interpreter.name}", f"{_PYTHON}/lib"
        user = _free_user()
        if user:
            _check_readable(pairs)
        words = [*(_AS_ROOT if user else sandbox.ISOLATION), *sandbox.system_mounts()]
        words += _FILES
        for path, name in pairs:
            words += ["--ro-bind", str(path), name]
        for name in _other_packages(prefix):
            words += ["--tmpfs", name, "--remount-ro", name]
        for size, name in (
            (limits.scratch_bytes, inside.SHARED_MEMORY),
            (limits.scratch_bytes, inside.SCRATCH),
            (limits.output_bytes, inside.OUTPUT),
        ):
            words += ["--perms", "1777", "--size", str(size), "--tmpfs", name]
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--as-pid-1"]
        if not user:
            words += ["--uid", _NOBODY, "--gid", _NOBODY]
        if libraries:
            words += ["--setenv", "LD_LIBRARY_PATH", libraries]
        return [*words, "--", *inside.supervised(run, python, libraries, user)]


def _exceeded(group: ControlGroup, limits: Limits) -> Ended | None:
    """Returns the limit that the counters of a group show as exceeded.

    The status of the script does not say so: it may go on when the kernel has killed one of its
    children, and RLIMIT_CPU is a limit of each process alone.
    """
    if group.killed_for_memory():
        return Ended.MEMORY
    return Ended.CPU_TIME if group.cpu_seconds() > limits.cpu_seconds else None


def _at_end(group: ControlGroup, limits: Limits, frames: Frames) -> Ended | None:
    """Returns the limit that a run exceeded, after it has ended by itself."""
    if limit := _exceeded(group, limits):
        return limit
    failed = frames.end is not None and frames.end.status != 0
    return Ended.PROCESSES if failed and group.refused_processes() else None


def _child(told: int, process: subprocess.Popen[bytes]) -> int | None:
    """Returns the first process of the sandbox, as bubblewrap tells it; None if it has ended."""
    text = b""
    until = time.monotonic() + _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(told, selectors.EVENT_READ)
        while time.monotonic() < until:
            if selector.select(0.05):
                text += os.read(told, 4096)
                with contextlib.suppress(ValueError):
                    return int(json.loads(text)["child-pid"])
            elif process.poll() is not None:
                return None
    return None


def _free_user() -> int | None:
    """Returns the number of a user that has no process and no name; None if this process is not
    root, and so cannot start a process of another user.

    Raises:
        SandboxUnavailable: this process is root where there are few users, such as in a user
            namespace, so that a script would run as root.
    """
    if os.geteuid() != 0:
        return None
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, size = map(int, line.split())
        last = min(first + size, 1 << 31)
        if last - first >= _FEWEST_USERS:
            return last - 1 - secrets.randbelow((last - first) // 2)
    expected = "an ordinary user, or root with users to choose from"
    message = f"no sandbox: this process is root and the only user; expected {expected}"
    raise SandboxUnavailable(message, expected=expected)


def _check_readable(pairs: Sequence[tuple[Path, str]]) -> None:
    """Raises `SandboxUnavailable` for a file or directory that not every user may read."""
    for path, name in pairs:
        needed = 0o005 if path.is_dir() else 0o004
        if path.stat().st_mode & needed != needed:
            expected = "files and directories that every user may read"
            message = f"no sandbox: {name} of the run is closed to other users; expected {expected}"
            raise SandboxUnavailable(message, expected=expected, found=str(path))


def _other_packages(prefix: Path) -> Iterator[str]:
    """Yields the directories of packages that come with an interpreter or the system; a script
    has the packages of its lock and no others."""
    for path in prefix.glob("lib/python3*/*-packages"):
        yield str(path) if prefix == _SYSTEM else f"{_PYTHON}/{path.relative_to(prefix)}"
    for path in (_SYSTEM / "local").glob("lib/python3*/*-packages"):
        yield str(path)
