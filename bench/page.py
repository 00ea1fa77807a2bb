"""Benchmark of the public page: visitors, memory, and changes of the registry.

    .venv/bin/python -m bench.page [visitors] [memory] [changes] [lighthouse] [--seconds 10]

`visitors`: k6 with 50 concurrent visitors asks one process for the page of a board of 1,000 rows,
100 of them a page, gzipped. The baseline is a Starlette application that does nothing but return
the same bytes. `memory`: of the process with 20 boards of 100 rows, and with 20 of 1,000, before
and after 100,000 requests.
`changes`: calls of the registry in a minute without a change, with visitors; and the time from a
published row to the page that shows it. `lighthouse`: its scores of the page on a phone
(tests/support/npm.py says how to install it).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cxreval.audit.chain import Head
from cxreval.client import WorkerClient
from services.leaderboard.store import Store
from tests.support.board_data import large_board
from tests.support.filled_registry import BOARD, FINDINGS, Filled
from tests.support.npm import lighthouse
from tests.support.processes import free_port
from tests.support.registry import registry_service

VISITORS = 50
ROWS = 1000
REQUESTS = 100_000
PAGE = "/b/board-0"

_SCRIPT = """
import http from "k6/http";
import {check} from "k6";
export const options = JSON.parse(__ENV.OPTIONS);
export default () => check(
  http.get(__ENV.ADDRESS, {headers: {"Accept-Encoding": "gzip"}}), {ok: (r) => r.status === 200});
"""


def k6(address: str, directory: Path, **options: object) -> dict[str, float]:
    """Returns pages a second, milliseconds and failures of visits of an address."""
    script, summary = directory / "visit.js", directory / "summary.json"
    script.write_text(_SCRIPT)
    settings = {"summaryTrendStats": ["med", "p(99)", "max"], "vus": VISITORS, **options}
    subprocess.run(
        [Path(sys.executable).with_name("k6"), "run", "--quiet", "--no-usage-report",
         f"--summary-export={summary}", script],
        env=os.environ | {"OPTIONS": json.dumps(settings), "ADDRESS": address},
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    metrics = json.loads(summary.read_text())["metrics"]
    waits = metrics["http_req_duration"]
    return {
        "pages": metrics["http_reqs"]["rate"],
        "median": waits["med"],
        "p99": waits["p(99)"],
        "failures": metrics["checks"]["fails"],
    }


@contextlib.contextmanager
def page_service(directory: Path, registry: str) -> Iterator[tuple[str, str, int]]:
    """Runs the service; returns its address, that of its metrics, and the id of the process."""
    address, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        sys.executable, "-m", "services.leaderboard", f"--listen={address}",
        f"--metrics-listen={metrics}", f"--registry={registry}", f"--data-dir={directory}",
    ]  # fmt: skip
    with (directory.parent / "page.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(f"http://{address}/healthz", "ok")
        yield f"http://{address}", f"http://{metrics}", process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def bare_service(body: Path) -> Iterator[str]:
    """Runs an application that returns the compressed bytes of a file; returns its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.page", "--bare", body, str(port)])
    try:
        wait_until(f"http://127.0.0.1:{port}/", "")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=30)


def serve_bare(body: Path, port: int) -> None:
    """Serves the compressed bytes of a file until it is stopped."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/html; charset=utf-8"}
    content = gzip.compress(body.read_bytes(), 6)

    async def answer(_: Request) -> Response:
        return Response(content, headers=headers)

    application = Starlette(routes=[Route("/", answer)])
    uvicorn.run(application, port=port, log_config=None, access_log=False)


def wait_until(address: str, text: str, seconds: float = 60.0) -> float:
    """Returns the seconds until the page at an address contains a text."""
    start = time.perf_counter()
    while (waited := time.perf_counter() - start) < seconds:
        with contextlib.suppress(OSError):
            if text in get(address):
                return waited
        time.sleep(0.02)
    raise TimeoutError(f"{address} does not show {text!r} after {seconds:.0f} s")


def get(address: str) -> str:
    """Returns the text of a page."""
    with urllib.request.urlopen(address, timeout=30) as response:
        text: str = response.read().decode(errors="replace")
    return text


def stored(directory: Path, boards: int, rows: int = ROWS) -> Path:
    """Stores boards as the service keeps them; returns the directory."""
    kept = directory / f"kept-{rows}"
    names = [f"board-{number}" for number in range(boards)]
    Store(kept).save(Head(), [large_board(name, rows) for name in names], names)
    return kept


def resident(process: int) -> float:
    """Returns the memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1000


def case_visitors(directory: Path, seconds: int) -> None:
    """50 visitors of the page of a board of 1,000 rows."""
    away = f"127.0.0.1:{free_port()}"  # no registry: the service shows what it kept
    with page_service(stored(directory, 1), away) as (address, _, _):
        body = directory / "page.html"
        body.write_text(get(address + PAGE))
        ours = k6(address + PAGE, directory, duration=f"{seconds}s")
    with bare_service(body) as address:
        bare = k6(address, directory, duration=f"{seconds}s")
    size = len(body.read_bytes()) / 1000, len(gzip.compress(body.read_bytes(), 6)) / 1000
    print(f"  page of {size[0]:.0f} kB, {size[1]:.0f} kB gzipped")
    for name, figures in (("bare Starlette response", bare), ("page", ours)):
        print(
            f"  {name:<24} {figures['pages']:8.0f} pages a second, median {figures['median']:.0f} "
            f"ms, p99 {figures['p99']:.0f} ms, {figures['failures']:.0f} failures"
        )
    print(f"  ratio {ours['pages'] / bare['pages']:.2f}")


def case_memory(directory: Path, seconds: int) -> None:
    """Memory with 20 boards, before and after 100,000 requests."""
    requests = min(REQUESTS, seconds * REQUESTS // 10)
    away = f"127.0.0.1:{free_port()}"
    with page_service(stored(directory, 20, 100), away) as (_, _, process):
        print(f"  20 boards of 100 rows: {resident(process):.0f} MB")
    with page_service(stored(directory, 20), away) as (address, _, process):
        before = resident(process)
        k6(address + PAGE, directory, iterations=requests // 10, maxDuration="5m")
        warm = resident(process)
        k6(address + PAGE, directory, iterations=requests, maxDuration="5m")
        print(f"  20 boards of {ROWS} rows: {before:.0f} MB")
        print(f"  after {requests // 10} requests {warm:.0f} MB, {requests} more: ", end="")
        print(f"{resident(process):.0f} MB")


def case_changes(directory: Path, seconds: int) -> None:
    """Calls of the registry without a change, and the time until a change is shown."""
    with (
        registry_service(directory) as service,
        WorkerClient(service.address) as client,
    ):
        filled = Filled(directory, service.address, client)
        with page_service(directory / "kept", service.address) as (address, metrics, _):
            board = f"{address}/b/{BOARD.name}"
            wait_until(board, "no hernia")
            time.sleep(3)
            before, start = calls(metrics), time.perf_counter()
            k6(board, directory, duration=f"{6 * seconds}s")
            a_minute = (calls(metrics) - before) / (time.perf_counter() - start) * 60
            print(f"  {a_minute:.0f} calls of the registry a minute, with {VISITORS} visitors")
            waits = []
            for number in range(5):
                model = f"change number {number}"
                filled.publish(BOARD, model, 0.5, FINDINGS)
                waits.append(wait_until(board, model))
            print(
                f"  change to page: median {statistics.median(waits):.1f} s, most {max(waits):.1f}"
            )


def case_lighthouse(directory: Path, _: int) -> None:
    """Lighthouse's scores of a board of 1,000 rows."""
    away = f"127.0.0.1:{free_port()}"
    with page_service(stored(directory, 1), away) as (address, _, _):
        scores, lost = lighthouse(address + PAGE)
    print("  " + ", ".join(f"{name} {score * 100:.0f}" for name, score in scores.items()))
    print("".join(f"    {each}\n" for each in lost), end="")


def calls(metrics: str) -> float:
    """Returns how often the service called the registry."""
    found = re.findall(r"^cxreval_web_registry_calls_total\S* (\S+)$", get(metrics), re.MULTILINE)
    return sum(map(float, found))


CASES = {
    "visitors": case_visitors,
    "memory": case_memory,
    "changes": case_changes,
    "lighthouse": case_lighthouse,
}


def main() -> None:
    """Runs the cases that the command line names, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", metavar="|".join(CASES))
    parser.add_argument("--seconds", type=int, default=10)
    chosen = parser.parse_args()
    for name in chosen.cases or CASES:
        print(name)
        with tempfile.TemporaryDirectory() as scratch:
            CASES[name](Path(scratch), chosen.seconds)


if __name__ == "__main__":
    if "--bare" in sys.argv:  # the process of `bare_service`
        serve_bare(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
