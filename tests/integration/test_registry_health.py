"""A registry that cannot read or record is not SERVING, and says why; afterwards it works again."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

from cxreval.api.registry.v1 import artifact_service_pb2, submission_service_pb2
from cxreval.errors import DatabaseDamaged, ServiceUnavailable, StorageFull
from cxreval.wire.limits import CHUNK_BYTES, MIB
from cxreval.wire.status import from_rpc_error
from services.chassis.health import Unhealthy
from services.registry.__main__ import UNHEALTHY, check_health
from services.registry.store.artifacts import UploadKey
from services.registry.store.database import Database
from services.registry.store.local_artifacts import LocalArtifacts
from tests.conftest import missing
from tests.support.processes import Service
from tests.support.registry import (
    DATABASES,
    Registry,
    fresh_database,
    migrated_database,
    registry_service,
    sqlite_url,
    upload_messages,
)

BENCHMARK = "nih-chestxray14"
PAGE = 4096


def reasons(service: Service) -> dict[str, float]:
    """Returns the gauge of each reason, none before the service listens."""
    try:
        page = urllib.request.urlopen(f"http://{service.metrics_address}/metrics", timeout=10)
    except OSError:
        return {}  # it is still starting
    pairs = (
        line.split('"')[1:] for line in page.read().decode().splitlines()
        if line.startswith("cxreval_unhealthy{")
    )  # fmt: skip
    return {reason: float(value.removeprefix("} ")) for reason, value in pairs}


def is_serving(service: Service, name: str = "") -> bool:
    with grpc.insecure_channel(service.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=name), timeout=10
        )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def becomes(expected: bool, state: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Returns whether a state becomes `expected` in time."""
    end = time.monotonic() + seconds
    while state() is not expected and time.monotonic() < end:
        time.sleep(0.1)
    return state() is expected


# --- damage ---------------------------------------------------------------------------------------


def root_page(file: Path, kind: str, table: str) -> int:
    """Returns the number of the first page of a table, or of its first index."""
    query = "SELECT rootpage FROM sqlite_master WHERE type = ? AND tbl_name = ? AND rootpage > 0"
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute(query, (kind, table)).fetchone()
    connection.close()
    return int(page)


def overwrite(file: Path, start: int, length: int) -> None:
    with file.open("r+b") as content:
        content.seek(start)
        content.write(os.urandom(length))


def damage_page(kind: str, table: str) -> Callable[[Path], None]:
    return lambda file: overwrite(file, (root_page(file, kind, table) - 1) * PAGE, PAGE)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 // PAGE * PAGE)


DAMAGES = [
    pytest.param(damage_page("table", "evaluations"), id="table page"),
    pytest.param(damage_page("index", "predictions"), id="index page"),
    pytest.param(damage_page("table", "organisations"), id="another table"),
    pytest.param(truncate, id="truncated"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_found_by_the_check_at_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    database = Database(migrated_database("sqlite", tmp_path))
    database.check_integrity()
    assert database.trouble() is None
    database.close()
    damage(tmp_path / "registry.db")
    database = Database(sqlite_url(tmp_path))
    try:
        database.check_integrity()
    except DatabaseDamaged as error:
        assert error.reason == "DATABASE_DAMAGED"  # noqa: PT017 -- it may raise or keep it
    assert isinstance(database.trouble(), DatabaseDamaged)
    with pytest.raises(Unhealthy, match="the registry's database is damaged") as caught:
        check_health(database, [], 0)
    assert caught.value.reason == "database_damaged"
    database.close()


def test_a_page_that_is_damaged_while_the_database_answers_turns_health(tmp_path: Path) -> None:
    database = Database(migrated_database("sqlite", tmp_path))
    assert check_health(database, [tmp_path], 0)
    database.close()
    damage_page("table", "evaluations")(tmp_path / "registry.db")
    database.ping()  # half of it answers
    assert check_health(database, [tmp_path], 0)
    with pytest.raises(DatabaseDamaged, match="malformed"):
        database.evaluations_by_state()
    with pytest.raises(Unhealthy):
        check_health(database, [tmp_path], 0)
    assert database.submissions_by_state()["published"] == 4  # what can be read is still read
    database.close()


def test_a_service_on_a_damaged_file_never_serves_and_says_why(tmp_path: Path) -> None:
    migrated_database("sqlite", tmp_path)
    damage_page("table", "evaluations")(tmp_path / "registry.db")
    service = registry_service(tmp_path)
    try:
        with pytest.raises(TimeoutError, match="is not serving"):
            service.start(wait_seconds=2)
        expected = dict.fromkeys(("probe_failed", *UNHEALTHY), 0.0) | {"database_damaged": 1.0}
        assert becomes(True, lambda: reasons(service) == expected)
        assert not is_serving(service)
        assert is_serving(service, "cxreval.live")  # a restart would not repair it
        lines = [line for line in service.log.read_text().splitlines() if "not healthy" in line]
        assert len(lines) == 1  # once per change, not at every probe
        assert "database is damaged" in lines[0]
    finally:
        service.kill()


@pytest.mark.parametrize("start", [0, 16], ids=["header", "page size"])
def test_a_file_that_is_no_database_is_refused_at_the_start(tmp_path: Path, start: int) -> None:
    migrated_database("sqlite", tmp_path)
    overwrite(tmp_path / "registry.db", start, 100)
    with pytest.raises(RuntimeError, match="is damaged"):
        registry_service(tmp_path).start()


def test_garbage_in_the_write_ahead_log_is_ignored(tmp_path: Path) -> None:
    migrated_database("sqlite", tmp_path)
    (tmp_path / "registry.db-wal").write_bytes(os.urandom(5 * PAGE))
    with registry_service(tmp_path) as service, Registry(service.address) as call:
        assert call.submit(BENCHMARK, b"model").name
        assert set(reasons(service).values()) == {0.0}


@pytest.mark.parametrize(
    ("state", "error", "reason"),
    [
        ("53100", StorageFull, "storage_full"),
        ("58030", ServiceUnavailable, "database_unavailable"),
        ("XX001", DatabaseDamaged, "database_damaged"),
        ("XX002", DatabaseDamaged, "database_damaged"),
    ],
)
def test_errors_of_postgresql_name_the_trouble(
    tmp_path: Path, state: str, error: type[Exception], reason: str
) -> None:
    database = Database(migrated_database("postgresql", tmp_path))
    statement = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"
    with pytest.raises(error), database.writing() as session:
        session.execute(text(statement))
    with pytest.raises(Unhealthy) as caught:
        check_health(database, [], 0)
    assert caught.value.reason == reason
    database.ping()
    database.close()


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_without_the_schema_is_unhealthy_by_name(kind: str, tmp_path: Path) -> None:
    database = Database(fresh_database(kind, tmp_path))
    with pytest.raises(Unhealthy) as caught:
        check_health(database, [], 0)
    assert caught.value.reason == "schema_outdated"
    database.close()


# --- full disks -----------------------------------------------------------------------------------


@contextmanager
def small_disk(directory: Path, mib: int) -> Iterator[Path]:
    """Mounts a file system of so many MiB."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(directory)]
    if subprocess.run(command, check=False, capture_output=True, timeout=20).returncode:
        missing("this user may not mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


@contextmanager
def filled(directory: Path, leave: int = 0) -> Iterator[None]:
    """Fills the disk of a directory, but for `leave` bytes, until the block ends."""
    ballast = directory / "ballast"
    disk = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)
    try:
        yield
    finally:
        ballast.unlink()


def test_a_full_disk_is_named_stops_no_reads_and_ends_when_there_is_space(tmp_path: Path) -> None:
    content = os.urandom(4 * CHUNK_BYTES)
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        registry_service(disk, "--disk-reserve-mib=2") as service,
        Registry(service.address) as call,
    ):
        waiting = call.create_submission(BENCHMARK, content).name
        with filled(disk):
            assert becomes(False, lambda: is_serving(service))
            assert reasons(service)["storage_full"] == 1
            for number in range(3):
                with pytest.raises(grpc.RpcError) as caught:
                    call.create_submission(BENCHMARK, bytes(number))
                error = from_rpc_error(caught.value)
                assert type(error) is StorageFull, error
                assert "no space left" in error.message
            request = submission_service_pb2.ListSubmissionsRequest(
                parent=f"benchmarks/{BENCHMARK}"
            )
            rows = call.submissions.ListSubmissions(request, timeout=20).submissions
            assert waiting in {row.name for row in rows}
        with filled(disk, leave=CHUNK_BYTES * 3 // 2):
            with pytest.raises(grpc.RpcError) as caught:
                call.artifacts.UploadArtifact(upload_messages(waiting, content), timeout=20)
            assert type(from_rpc_error(caught.value)) is StorageFull
        request = artifact_service_pb2.GetUploadRequest(submission=waiting)
        received = call.artifacts.GetUpload(request, timeout=20).received_bytes
        messages = upload_messages(waiting, content, offset=received)
        assert call.artifacts.UploadArtifact(messages, timeout=20).submission.name == waiting
        assert call.submit(BENCHMARK, b"another model").name
        assert becomes(True, lambda: is_serving(service))
        assert set(reasons(service).values()) == {0.0}


def test_uploads_cannot_make_a_registry_unhealthy(tmp_path: Path) -> None:
    """An organisation without a quota uploads until it is refused; others read, and upload when
    there is space."""
    content = os.urandom(2 * MIB)
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        registry_service(disk, "--disk-reserve-mib=4") as service,
        Registry(service.address) as call,
    ):
        stored = call.submit(BENCHMARK, content)
        waiting = ""

        def fill() -> None:
            nonlocal waiting
            for number in range(12):
                more = bytes([number]) + content
                waiting = call.create_submission(BENCHMARK, more).name
                call.artifacts.UploadArtifact(upload_messages(waiting, more), timeout=20)

        with pytest.raises(grpc.RpcError) as caught:
            fill()
        error = from_rpc_error(caught.value)
        assert type(error) is StorageFull
        assert f"no space left on the service's disk for {2 * MIB + 1} more bytes" in error.message
        assert str(disk) not in error.message
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        assert 4 * MIB < free < 12 * MIB
        assert not becomes(False, lambda: is_serving(service), seconds=3)
        request = submission_service_pb2.GetSubmissionRequest(name=stored.name)
        assert call.submissions.GetSubmission(request, timeout=20).name == stored.name
        request = artifact_service_pb2.GetUploadRequest(submission=waiting)
        assert call.artifacts.GetUpload(request, timeout=20).received_bytes == 0
        small = call.create_submission(BENCHMARK, b"small")
        messages = upload_messages(small.name, b"small")
        assert call.artifacts.UploadArtifact(messages, timeout=20).submission.name == small.name
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=20)
        fill()


def test_uploads_at_once_leave_the_reserve_together(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        artifacts = LocalArtifacts(disk, reserve=4 * MIB)
        keys = [UploadKey(digit * 32, digit * 64) for digit in "01"]
        with artifacts.receive(keys[0]) as first, artifacts.receive(keys[1]) as second:
            for upload in (first, second):
                upload.begin(0, 3 * MIB)
                upload.write(bytes(MIB))
            first.write(bytes(MIB))
            with pytest.raises(StorageFull, match=r"no space left .* for 2097152 more bytes"):
                second.write(bytes(2 * MIB))
        assert [artifacts.received(key) for key in keys] == [2 * MIB, MIB]
        with artifacts.receive(keys[1]) as second:
            with pytest.raises(StorageFull, match=r"no space left .* for 2097152 more bytes"):
                second.begin(MIB, 2 * MIB)
            subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True, timeout=20)
            second.begin(MIB, 2 * MIB)
            second.write(bytes(2 * MIB))


def test_a_database_file_that_may_not_grow_is_named_as_full(tmp_path: Path) -> None:
    database = Database(migrated_database("sqlite", tmp_path))

    def grow(limit: int) -> None:
        with database.writing() as session:
            session.execute(text(f"PRAGMA max_page_count = {limit}"))
            session.execute(text("CREATE TABLE more (content BLOB)"))
            session.execute(text("INSERT INTO more VALUES (randomblob(1000000))"))

    with pytest.raises(
        StorageFull, match="no space left on the service's disk for the registry's database"
    ):
        grow(1)
    with pytest.raises(Unhealthy) as caught:
        check_health(database, [], 0)
    assert caught.value.reason == "storage_full"
    grow(1 << 30)
    database.close()


def test_an_artifact_that_may_not_grow_is_named_and_resumes(tmp_path: Path) -> None:
    artifacts, key = LocalArtifacts(tmp_path), UploadKey("0" * 32, "0" * 64)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with artifacts.receive(key) as upload:
        upload.begin(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + 100, limits[1]))
        try:
            upload.write(bytes(MIB))
            with pytest.raises(StorageFull, match=r"no space left .* for artifacts"):
                upload.write(bytes(MIB))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    received = artifacts.received(key)
    assert received == MIB + 100
    with artifacts.receive(key) as upload:
        upload.begin(received)
        upload.write(b"rest")
    assert artifacts.received(key) == received + 4


def test_disks_on_which_nothing_can_be_recorded_are_named(tmp_path: Path) -> None:
    database = Database(migrated_database("sqlite", tmp_path))
    assert check_health(database, [tmp_path], 1)
    with pytest.raises(Unhealthy, match="MiB free; expected") as caught:
        check_health(database, [tmp_path], 1 << 60)
    assert caught.value.reason == "storage_full"
    with pytest.raises(Unhealthy, match="gone cannot be used: No such file") as caught:
        check_health(database, [tmp_path / "gone"], 0)
    assert caught.value.reason == "storage_unusable"
    with small_disk(tmp_path / "disk", 8) as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=20)
        with pytest.raises(Unhealthy, match="is read-only") as caught:
            check_health(database, [disk], 0)
    assert caught.value.reason == "storage_unusable"
    database.close()
