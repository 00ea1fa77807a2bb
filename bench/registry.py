"""Benchmark of the registry: leases, a board of 1,000 rows, and 1,000 watchers.

    .venv/bin/python -m bench.registry [leases] [board] [watchers]

`leases`: 8 workers, threads of one process with a connection each, empty a queue of 10,000
submissions on PostgreSQL. The baseline is the same number of workers that claim rows of a bare
table with psycopg and SKIP LOCKED, in one transaction each. `board`: the first page, and a page
from the middle, of a board of 1,000 rows with 100 metric values each, over gRPC, after a first
read. `watchers`: the memory that 1,000 open WatchSubmission calls add to the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, text

from cxreval.api.registry.v1 import leaderboard_service_pb2, lifecycle_service_pb2, submission_pb2
from cxreval.audit.receipts import Signer
from cxreval.resource_names import BenchmarkName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY
from services.registry import migrations
from services.registry.convert import submissions
from services.registry.store import records
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.models import EvaluationRow, ReplicateRow, ReportRow, SubmissionRow
from services.registry.store.submissions import Submissions
from tests.support.registry import (
    Registry,
    fresh_database,
    manifest_message,
    registry_service,
    report_message,
    small_spec,
)

WORKERS, QUEUED, ROWS, WATCHERS = 8, 10_000, 1_000, 1_000
SPEC = small_spec("bench")
MANIFEST = submissions.manifest(manifest_message(b"artifact"))
SIGNER = Signer(Ed25519PrivateKey.generate())


def main() -> None:
    """Runs the cases named on the command line; default: all."""
    logging.disable(logging.WARNING)
    for name in sys.argv[1:] or CASES:
        print(f"\n{name}")
        with tempfile.TemporaryDirectory() as scratch:
            CASES[name](Path(scratch))


def now() -> datetime:
    """Returns the current time."""
    return datetime.now(UTC)


def stored(directory: Path, kind: str, count: int, state: str) -> tuple[str, Database, list[str]]:
    """Returns the URL of a database, the database, and the ids of its submissions.

    The submissions are inserted in bulk, each with an evaluation.
    """
    url = fresh_database(kind, directory)
    database = Database(url)
    migrations.upgrade(database.engine)
    Benchmarks(database, now).create(SPEC)
    Submissions(database, now, SIGNER).create(BenchmarkName(SPEC.name), MANIFEST, "", EVERYBODY)
    manifest, moment = records.to_json(MANIFEST), now()
    ids = [uuid.uuid4().hex for _ in range(count)]
    with database.writing() as session:
        common = {"create_time": moment, "update_time": moment}
        session.execute(
            insert(SubmissionRow),
            [
                common | {
                    "number": number, "id": identifier, "benchmark_number": 1, "kind": "checkpoint",
                    "manifest": manifest, "note": "", "corrections": {}, "superseded_by": "",
                    "version": 1, "tier": "executed",
                    "state": "published" if state == "succeeded" else state,
                }
                for number, identifier in enumerate(ids, start=2)
            ],
        )  # fmt: skip
        session.execute(
            insert(EvaluationRow),
            [
                common | {
                    "number": number, "id": uuid.uuid4().hex, "submission_number": number,
                    "state": state, "attempt": 0, "stalled_attempts": 0, "worker": "",
                    "images_done": 0, "images_before": 0, "provenance": {},
                }
                for number in range(2, count + 2)
            ],
        )  # fmt: skip
    if not database.embedded:
        with database.writing() as session:
            session.execute(text("ANALYZE"))  # autovacuum would do it within a minute
    return url, database, ids


def case_leases(directory: Path) -> None:
    """8 workers lease 10,000 submissions."""
    url, database, _ = stored(directory, "postgresql", QUEUED, "queued")
    bare_url = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(bare_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (number bigint PRIMARY KEY, state text, worker text)")
        connection.execute(
            f"INSERT INTO bare SELECT n, 'queued', '' FROM generate_series(1, {QUEUED}) n"
        )
        connection.execute("CREATE INDEX ON bare (state, number)")

    def bare(worker: int) -> list[Any]:
        taken = []
        with psycopg.connect(bare_url) as connection:
            while True:
                with connection.transaction():
                    row = connection.execute(
                        "SELECT number FROM bare WHERE state = 'queued' "
                        "ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED"
                    ).fetchone()
                    if row is None:
                        return taken
                    connection.execute(
                        "UPDATE bare SET state = 'running', worker = %s WHERE number = %s",
                        (str(worker), row[0]),
                    )
                    taken.append(row[0])

    evaluations = Evaluations(database, now, SIGNER, 3600, 3)

    def ours(worker: int) -> list[Any]:
        taken = []
        while lease := evaluations.lease(f"worker {worker}", [BenchmarkName(SPEC.name)], EVERYBODY):
            taken.append(lease.evaluation.id)
        return taken

    rates = {}
    for name, work in (("bare SKIP LOCKED loop", bare), ("leases", ours)):
        start = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            taken = [item for part in pool.map(work, range(WORKERS)) for item in part]
        rates[name] = len(taken) / (time.perf_counter() - start)
        assert len(set(taken)) == len(taken) == QUEUED, "leased twice, or lost"
        print(f"  {name:<24} {rates[name]:8.0f} a second, {len(taken)} of {QUEUED}, none twice")
    print(f"  ratio {rates['leases'] / rates['bare SKIP LOCKED loop']:.2f}")
    database.close()


def case_board(directory: Path) -> None:
    """Pages of a board of 1,000 rows with 100 values each."""
    _, database, _ = stored(directory, "sqlite", ROWS, "succeeded")
    report = reports.report(report_message(SPEC, 0.8))
    template = records.report_json(report)
    template["metrics"] = [copy.deepcopy(template["metrics"][index % 15]) for index in range(100)]
    random = np.random.default_rng(0)
    with database.writing() as session:
        for number in range(2, ROWS + 2):
            score = float(random.uniform(0.6, 0.9))
            vector = (
                np.clip(random.normal(score, 0.01, SPEC.replicates), 0, 1).astype("<f8").tobytes()
            )
            session.add(ReportRow(evaluation_number=number, report=template, create_time=now()))
            session.add(
                ReplicateRow(
                    evaluation_number=number,
                    place=14,
                    metric="auroc",
                    finding="",
                    score=score,
                    vector=vector,
                )
            )
    database.close()
    with registry_service(directory) as service, Registry(service.address) as call:
        request = leaderboard_service_pb2.ListLeaderboardEntriesRequest(
            parent=f"benchmarks/{SPEC.name}", page_size=50
        )
        start = time.perf_counter()
        first = call.leaderboard.ListLeaderboardEntries(request)
        print(f"  first read, which ranks {ROWS} rows: {time.perf_counter() - start:.2f} s")
        middle = first.next_page_token
        for page_size, token in ((10, ""), (50, ""), (50, middle), (500, "")):
            request.page_size, request.page_token = page_size, token
            times = []
            call.leaderboard.ListLeaderboardEntries(request)
            for _ in range(100):
                start = time.perf_counter()
                call.leaderboard.ListLeaderboardEntries(request)
                times.append(time.perf_counter() - start)
            page = "second page" if token else "first page"
            print(
                f"  {page_size:>3} rows, {page:<11}  p50 {statistics.median(times) * 1e3:6.1f} ms, "
                f"p99 {np.percentile(times, 99) * 1e3:6.1f} ms"
            )


def case_watchers(directory: Path) -> None:
    """Memory of 1,000 open WatchSubmission calls."""
    _, database, ids = stored(directory, "sqlite", WATCHERS, "queued")
    database.close()
    with registry_service(directory) as service:
        assert service.process
        pid = service.process.pid
        before, after = asyncio.run(_watch(service.address, ids, lambda: _resident_kib(pid)))
    print(f"  {before / 1024:.0f} MiB with 10 watchers, {after / 1024:.0f} MiB with {WATCHERS}: "
          f"{(after - before) / (WATCHERS - 10):.1f} KiB a watcher")  # fmt: skip


async def _watch(address: str, ids: list[str], memory: Callable[[], int]) -> tuple[int, int]:
    async with grpc.aio.insecure_channel(address) as channel:
        watch = channel.unary_stream(
            "/cxreval.api.registry.v1.LifecycleService/WatchSubmission",
            lifecycle_service_pb2.WatchSubmissionRequest.SerializeToString,
            submission_pb2.Submission.FromString,
        )
        calls, resident = [], []
        for share in (ids[:10], ids[10:WATCHERS]):
            for identifier in share:
                name = str(SubmissionName(SPEC.name, identifier))
                call = watch(lifecycle_service_pb2.WatchSubmissionRequest(name=name))
                assert (await call.read()).name == name
                calls.append(call)
            await asyncio.sleep(5)
            resident.append(memory())
        for call in calls:
            call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
    return resident[0], resident[1]


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


CASES: dict[str, Callable[[Path], None]] = {
    "leases": case_leases,
    "board": case_board,
    "watchers": case_watchers,
}

if __name__ == "__main__":
    main()
