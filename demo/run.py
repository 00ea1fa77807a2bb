"""Runs all of cxreval on one machine: `make demo` starts it, `make demo-stop` stops it.

Registry, inference, scoring, a worker and the public page run as separate processes with embedded
defaults: SQLite, a local artifact directory, the CPU. They evaluate three checkpoints on a
synthetic benchmark of phantoms, which are generated here and are not radiographs of patients. All
files are in `.demo/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxreval.cli import board_output, output
from cxreval.client import RegistryClient, Submission, SubmissionStatus, read_manifest
from cxreval.datasets import phantom
from cxreval.datasets.benchmark import image_list
from cxreval.datasets.benchmark_file import SPEC_FILE, load_spec

REPOSITORY = Path(__file__).parents[1]
HOME = REPOSITORY / ".demo"
DATA, STATE, PROCESSES = HOME / "phantom-cxr", HOME / "state", HOME / "processes.json"
CHECKPOINTS = REPOSITORY / "demo" / "checkpoints"
BENCHMARK = "phantom-cxr"
PATIENTS, SEED = 1500, 2017
PORTS = {"registry": 50051, "inference": 50052, "scoring": 50053}
PAGE_PORT = 8080
START_SECONDS = 30.0
ENDED = (SubmissionStatus.PUBLISHED, SubmissionStatus.FAILED)


def start() -> int:
    """Starts the services, submits every checkpoint and prints the board.

    Returns the exit status: 0 if every submission was published.
    """
    stop()
    began = time.monotonic()
    make_data()
    if STATE.exists():
        shutil.rmtree(STATE)
    STATE.mkdir(parents=True)
    address = {name: f"localhost:{free_port(port)}" for name, port in PORTS.items()}
    page = f"localhost:{free_port(PAGE_PORT)}"
    launch(address, page)
    for name in PORTS:
        wait_until_serving(name, address[name])
    with RegistryClient(address["registry"]) as registry:
        spec = registry.create_benchmark(load_spec(BENCHMARK, DATA))
        registry.record_image_list(BENCHMARK, image_list(spec, DATA))
        submissions = [
            registry.submit(BENCHMARK, read_manifest(manifest), manifest.with_suffix(".onnx"))
            for manifest in sorted(CHECKPOINTS.glob("*.yaml"))
        ]
        submissions = watch(registry, submissions)
        board, steps = registry.leaderboard(BENCHMARK), list(registry.sota_steps(BENCHMARK))
        board_output.print_board(registry.get_benchmark(BENCHMARK), board, steps)
    for submission in submissions:
        if submission.failure:
            output.print_submission(submission)
    option = (
        ""
        if address["registry"].endswith(f":{PORTS['registry']}")
        else f" --registry {address['registry']}"
    )
    output.console.print(
        f"{time.monotonic() - began:.0f} s. The registry serves gRPC at {address['registry']}: try "
        f"`.venv/bin/cxreval leaderboard{option}` for the claims that it contains. "
        "Logs: .demo/state/*.log. Stop it with `make demo-stop`.",
    )
    wait_for_page(page)
    output.console.print(f"The board as visitors see it: http://{page}/b/{BENCHMARK}", style="bold")
    return (
        0
        if all(submission.status is SubmissionStatus.PUBLISHED for submission in submissions)
        else 1
    )


def stop() -> int:
    """Stops the processes that an earlier start left running."""
    if not PROCESSES.exists():
        return 0
    for pid, started in json.loads(PROCESSES.read_text()).items():
        # The pid may have been reused; the start time identifies the process.
        if process_start(int(pid)) == started:
            os.kill(int(pid), signal.SIGTERM)
    PROCESSES.unlink()
    return 0


def make_data() -> None:
    """Generates the test images, unless they exist from an earlier start."""
    if (DATA / SPEC_FILE).exists():
        return
    with output.progress_bars() as bars:
        task = bars.add_task("generating phantoms", total=None)
        phantom.generate(
            DATA,
            patients=PATIENTS,
            seed=SEED,
            only="test",
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )


def launch(address: dict[str, str], page: str) -> None:
    """Starts the three services, the worker and the public page in the background."""
    service = {
        "registry": [
            "--database-url", f"sqlite:///{STATE}/registry.db",
            "--artifact-store", f"{STATE}/artifacts", "--signing-key", f"{STATE}/signing-key.pem",
            "--token-key", f"{STATE}/token-key", "--access", "open",
        ],
        "inference": ["--registry", address["registry"], "--model-cache-dir", f"{STATE}/models"],
        "scoring": ["--data", f"{BENCHMARK}={DATA}"],
    }  # fmt: skip
    commands = {
        name: [sys.executable, "-m", f"services.{name}", "--listen", address[name], *arguments]
        for name, arguments in service.items()
    }
    targets = [argument for name in PORTS for argument in (f"--{name}", address[name])]
    worker = ["worker", *targets, "--data", f"{BENCHMARK}={DATA}", "--poll-seconds", "0.5"]
    commands["worker"] = [sys.executable, "-m", "cxreval.cli.app", *worker]
    commands["leaderboard"] = [
        sys.executable, "-m", "services.leaderboard", "--listen", page,
        "--registry", address["registry"], "--data-dir", f"{STATE}/leaderboard",
    ]  # fmt: skip
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("CXREVAL_")
    }
    running = {}
    for name, command in commands.items():
        with (STATE / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the commands are the ones above
                command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip
        running[str(process.pid)] = process_start(process.pid)
        PROCESSES.write_text(json.dumps(running))


def wait_until_serving(name: str, address: str) -> None:
    """Waits until the service is healthy; on failure exits with the end of its log."""
    deadline = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(
        address, options=[("grpc.max_reconnect_backoff_ms", 100)]
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.05)
    stop()
    log = STATE / f"{name}.log"
    sys.exit(
        f"{name} did not start within {START_SECONDS:.0f} s; the end of {log}:\n"
        f"{log.read_text()[-2000:]}"
    )


def wait_for_page(address: str) -> None:
    """Waits until the public page shows the boards."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(f"http://{address}/healthz", timeout=1):
            return
        time.sleep(0.1)
    stop()
    sys.exit(f"the public page did not start; see {STATE / 'leaderboard.log'}")


def watch(registry: RegistryClient, submissions: list[Submission]) -> list[Submission]:
    """Shows each submission's progress until all are published or failed, and returns them."""
    with output.progress_bars() as bars:
        tasks = [
            bars.add_task(each.manifest.model, total=each.images_total) for each in submissions
        ]
        while any(submission.status not in ENDED for submission in submissions):
            time.sleep(0.2)
            submissions = [registry.get_submission(submission.name) for submission in submissions]
            for task, submission in zip(tasks, submissions, strict=True):
                bars.update(task, completed=submission.images_done)
    return submissions


def free_port(wanted: int) -> int:
    """Returns `wanted`, or a free port if `wanted` is in use."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("localhost", wanted))
        except OSError:
            listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def process_start(pid: int) -> str:
    """Returns when a process started, in clock ticks since boot, or "" if it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # Field 22 of proc(5). Field 2, the name in parentheses, may contain spaces.
    return stat.rpartition(")")[2].split()[19]


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop}[sys.argv[1]]())
