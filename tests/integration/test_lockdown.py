"""A process that opens a stranger's file can do nothing but read it, compute and answer."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import services
from cxreval import sandbox
from services.inference.backends.lockdown import system_call_filter
from tests.support import attempts
from tests.support.processes import REPOSITORY

MODULE = attempts.__name__
SECONDS = 60.0
PID_IN_SANDBOX = 2  # its first process is bubblewrap
PACKAGES = [Path(services.__file__).parent, REPOSITORY / "tests"]


def outcome_of(command: Sequence[str], **environment: str) -> str:
    """Returns what an attempt printed, or the signal that ended it."""
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=SECONDS, env=os.environ | environment,
    )  # fmt: skip
    number = -ended.returncode if ended.returncode < 0 else ended.returncode - 128
    if number > 0:
        return signal.Signals(number).name
    return ended.stdout.strip() or ended.stderr[-2000:]


def locked(name: str, file: Path, *, sandboxed: bool) -> str:
    """Returns what comes of an attempt after the lock-down."""
    if not sandboxed:
        return outcome_of([sys.executable, "-m", MODULE, "own", name, str(file)])
    # The sandbox has no libseccomp; the service makes the filter, too.
    program = system_call_filter(PID_IN_SANDBOX, gpu=False).hex()
    arguments = [program, name, sandbox.INPUT]
    return outcome_of(sandbox.command(MODULE, arguments, file, packages=PACKAGES))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return path


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandbox", "no sandbox"])
def test_the_filter_refuses_what_no_model_needs(file: Path, sandboxed: bool) -> None:
    ended = json.loads(locked("all", file, sandboxed=sandboxed))
    assert ended == dict.fromkeys(attempts.REFUSED, "EPERM")


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandbox", "no sandbox"])
def test_the_limits_hold_and_what_a_model_needs_works(file: Path, sandboxed: bool) -> None:
    expected = {name: end for name, (_, end) in attempts.OTHERS.items()}
    if platform.machine() != "x86_64":
        del expected["x32"]
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda name: locked(name, file, sandboxed=sandboxed), expected)
        assert dict(zip(expected, ends, strict=True)) == expected


def test_the_sandbox_alone_has_no_other_file_no_network_and_no_secret(file: Path) -> None:
    other = file.with_name("other.onnx")
    other.write_bytes(b"another model")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        expected = {
            ("read", "/etc/passwd"): "ENOENT",
            ("read", str(other)): "ENOENT",
            ("read", str(file)): "ENOENT",  # it has another name there
            ("read", f"/proc/{os.getpid()}/environ"): "ENOENT",
            ("connect to", port): "ECONNREFUSED",
            ("environment", "CXREVAL_SECRET"): "KeyError",
            ("processes", "2"): "done",  # the sandbox's first process and the attempt
            ("write", sandbox.INPUT): "EROFS",
            ("write", "/usr/attempt"): "EROFS",
            ("write", "/attempt"): "EROFS",
            ("read", sandbox.INPUT): "done",
        }

        def attempt(pair: tuple[str, str]) -> str:
            command = sandbox.command(MODULE, ["open", *pair], file, packages=PACKAGES)
            return outcome_of(command, CXREVAL_SECRET="secret")

        with ThreadPoolExecutor(4) as pool:
            ended = dict(zip(expected, pool.map(attempt, expected), strict=True))
    assert ended == expected
