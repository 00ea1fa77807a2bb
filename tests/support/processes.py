"""Services as processes on free ports: start, wait until healthy, stop, kill, restart."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxreval.wire.channel import TlsFiles, connect

REPOSITORY = Path(__file__).parents[2]


# Below the system's ephemeral ports, in another range for each test process, and never twice: a
# port that was returned may not be bound yet.
_PORTS = iter(range(10_000 + os.getpid() % 20 * 1_000, 32_000))


def free_port() -> int:
    """Returns a free loopback port that this process has not returned before."""
    for port in _PORTS:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Gives processes that are started in the block SIGINT's default action.

    A shell starts its background jobs with SIGINT ignored, which their children inherit.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def descendants(pid: int) -> dict[int, str]:
    """Returns the command lines of all processes that a process has started, by their pid.

    A process comes before its own descendants.
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    pids = list(children.get(pid, ()))
    for child in pids:
        pids += children.get(child, ())
    return {child: _command_line(child) for child in pids}


def is_running(pid: int) -> bool:
    """Returns whether a process exists and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return ""


class Service:
    """A `python -m services.NAME` process. A restart keeps address and arguments.

    `environment` is added to that of this process.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, tls: TlsFiles | None = None
    ) -> None:
        self._tls = tls
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.log = log
        self._command = [
            sys.executable, "-m", f"services.{name}", "--listen", self.address,
            "--metrics-listen", self.metrics_address, *arguments,
        ]  # fmt: skip
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait_seconds: float = 30.0) -> Service:
        """Starts the process and waits until its health is SERVING."""
        process = self.launch()
        deadline = time.monotonic() + wait_seconds
        with connect(self.address, self._tls) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise RuntimeError(f"{self._command} ended: {self.log.read_text()[-4000:]}")
                try:
                    answer = stub.Check(
                        health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True
                    )
                except grpc.RpcError:
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return self
                time.sleep(0.05)
        raise TimeoutError(f"{self._command} is not serving: {self.log.read_text()[-4000:]}")

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the process and returns it at once."""
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("CXREVAL_")
        } | self.environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=REPOSITORY, stderr=log, stdout=log, env=environment
            )
        return self.process

    def metrics(self) -> dict[str, float]:
        """Returns the values of /metrics by name with labels, in Prometheus' notation."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=5) as answer:
            lines = io.TextIOWrapper(answer).read().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """Sends SIGKILL and waits."""
        assert self.process
        self.process.kill()
        self.process.wait(timeout=60)

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
