"""What standard tools meet in every service: an IPv6 address, reflection v1, versions; and what an
operator reads of a database that cannot be used and of a disk that is full."""

from __future__ import annotations

import errno
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import sqlalchemy
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from typer.testing import CliRunner

from cxreval import build_info, version_line
from cxreval.cli.app import app
from cxreval.client import ScoringClient
from cxreval.errors import ServiceUnavailable, StorageFull
from cxreval.files import disk_error
from services.chassis import reflection
from services.chassis.config import ConfigError, ProcessConfig, load
from services.chassis.health import Unhealthy
from services.registry import migrations
from services.registry.__main__ import check_health
from services.registry.store.database import Database
from services.scoring.config import ScoringConfig
from tests.conftest import REPOSITORY, missing
from tests.integration.test_registry_health import filled, small_disk
from tests.support.processes import Service
from tests.support.registry import migrated_database, sqlite_url
from tests.support.scoring import describe, small_table

IMAGES = ["00000001_000.png", "00000002_000.png"]
SCORING = "cxreval.api.scoring.v1.ScoringService"


# --- a service on IPv6 ----------------------------------------------------------------------------


def ipv6_port() -> int:
    """Returns a free port of ::1; skips the test on a machine without IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
            return int(listener.getsockname()[1])
    except OSError:
        missing("this machine has no IPv6")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A scoring service whose two addresses are of IPv6."""
    directory = tmp_path_factory.mktemp("service")
    labels = small_table(directory, [(image, "Mass") for image in IMAGES])
    describe(directory, "small", IMAGES, labels)
    listen, metrics = f"[::1]:{ipv6_port()}", f"[::1]:{ipv6_port()}"
    flags = ["--listen", listen, "--metrics-listen", metrics]  # in place of those of Service
    running = Service("scoring", [*flags, "--data", f"small={directory}"], directory / "log")
    running.address, running.metrics_address = listen, metrics
    with running:
        yield running


def test_the_address_in_the_log_is_one_that_listen_and_clients_take(service: Service) -> None:
    lines = map(json.loads, service.log.read_text().splitlines())
    (logged,) = (line["address"] for line in lines if line["message"] == "listening")
    assert logged == service.address
    assert load(ScoringConfig, "scoring", ["--listen", logged], {}).listen == logged
    with ScoringClient(logged) as client:
        assert client.list_truths()


def test_the_page_of_metrics_and_the_flag_state_the_same_versions(service: Service) -> None:
    name = r'cxreval_build_info\{platform="(.*)",python="(.*)",version="(.*)"\}'
    matches = [re.fullmatch(name, line) for line in service.metrics()]
    (stated,) = (match.groups() for match in matches if match)
    assert dict(zip(("platform", "python", "version"), stated, strict=True)) == build_info()


@pytest.mark.parametrize("program", ["registry", "inference", "scoring", "leaderboard"])
def test_every_service_and_the_command_line_print_their_versions(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(ProcessConfig, program, ["--version"], {})
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{version_line()}\n")
    printed = CliRunner().invoke(app, ["--version"])
    assert (printed.exit_code, printed.stdout) == (0, f"{version_line()}\n")


@pytest.mark.parametrize("name", [reflection.V1, reflection.V1ALPHA])
def test_reflection_of_each_version_lists_and_describes_every_service(
    service: Service, name: str
) -> None:
    protocol = descriptor_pool.Default().FindServiceByName(name)
    rpc = protocol.methods_by_name["ServerReflectionInfo"]
    request, response = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)

    def ask(**fields: str) -> object:
        with grpc.insecure_channel(service.address) as channel:
            call = channel.stream_stream(
                f"/{name}/ServerReflectionInfo",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            (answer,) = call(iter([request(**fields)]), timeout=20)
        return answer

    listed = {item.name for item in ask(list_services="*").list_services_response.service}
    assert listed == {SCORING, "grpc.health.v1.Health", reflection.V1, reflection.V1ALPHA}
    for each in listed:
        files = ask(file_containing_symbol=each).file_descriptor_response.file_descriptor_proto
        described = map(descriptor_pb2.FileDescriptorProto.FromString, files)
        assert each in {
            f"{file.package}.{found.name}" for file in described for found in file.service
        }
    assert ask(file_containing_symbol="no.Such").error_response.error_code == 5


def test_buf_curl_lists_and_calls_the_rpcs_by_reflection(service: Service) -> None:
    def buf(*arguments: str) -> str:
        command = [
            Path(sys.executable).parent / "buf",
            "curl",
            "--http2-prior-knowledge",
            "--protocol=grpc",
        ]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    address = f"http://{service.address}"
    for protocol in ("grpc-v1", "grpc-v1alpha"):
        by = ("--reflect-protocol", protocol)
        assert f"{SCORING}/ListTruths" in buf(*by, "--list-methods", address)
        answer = buf(*by, "--data", "{}", f"{address}/{SCORING}/ListTruths")
        assert "small" in answer


# --- a database that cannot be used ---------------------------------------------------------------


def a_directory(file: Path) -> None:
    file.mkdir()


def a_text(file: Path) -> None:
    file.write_text("not a database\n" * 500)


def below_a_file(file: Path) -> None:
    file.parent.rmdir()
    file.parent.write_text("")


def of_another_program(file: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE submissions (id INTEGER)"))
    engine.dispose()


UNUSABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "directory": (a_directory, "names .*, which is a directory; expected a file"),
    "text file": (a_text, "which is no SQLite database, or is damaged; name another file"),
    "path below a file": (below_a_file, "which cannot be used: File exists|Not a directory"),
    "another program's": (of_another_program, "has a table submissions of another program"),
}


@pytest.mark.parametrize(("make", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_database_of_the_registry_is_named_in_one_line(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    make(directory / "registry.db")
    with pytest.raises(ConfigError, match=message) as caught:
        migrations.upgrade(Database(sqlite_url(directory)).engine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_a_newer_version_is_named_and_never_served(kind: str, tmp_path: Path) -> None:
    database = Database(migrated_database(kind, tmp_path))
    with database.writing() as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    message = r"revision 9999, and the newest that cxreval \S+ knows is \d{4}; start the version"
    with pytest.raises(ConfigError, match=message) as caught:
        migrations.upgrade(database.engine)
    assert "\n" not in str(caught.value)
    with pytest.raises(Unhealthy, match=message) as unhealthy:
        check_health(database, [], 0)
    assert unhealthy.value.reason == "schema_unknown"
    database.close()


def test_a_registry_on_a_newer_database_ends_with_one_line(tmp_path: Path) -> None:
    database = Database(migrated_database("sqlite", tmp_path))
    with database.writing() as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    ended = subprocess.run(
        [sys.executable, "-m", "services.registry", f"--database-url={sqlite_url(tmp_path)}",
         f"--signing-key={tmp_path / 'key.pem'}"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("registry: the database has revision 9999")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


# --- a full disk ----------------------------------------------------------------------------------


def test_a_database_that_is_opened_on_a_full_disk_says_so(tmp_path: Path) -> None:
    """SQLite says `disk I/O error`, because it cannot create the files beside the database."""
    with small_disk(tmp_path / "disk", 4) as disk:
        Database(migrated_database("sqlite", disk)).close()
        with filled(disk):
            database = Database(sqlite_url(disk))
            for transaction in (database.reading, database.writing):
                with pytest.raises(StorageFull, match="no space left"), transaction() as session:
                    session.execute(sqlalchemy.text("SELECT 1"))
            database.close()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FATAL: could not write init file: No space left on device", StorageFull),
        ("server closed the connection unexpectedly", ServiceUnavailable),
    ],
)
def test_a_postgresql_connection_that_ends_without_a_code_is_named_by_its_text(
    tmp_path: Path, text: str, error: type[Exception]
) -> None:
    database = Database(migrated_database("postgresql", tmp_path))
    failure = sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception(text))
    with pytest.raises(error) as caught, database.named_errors():
        raise failure
    assert type(caught.value) is error
    database.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_write_without_room_is_a_full_disk_and_any_other_error_is_not(number: int) -> None:
    full = disk_error(OSError(number, "text"), "artifacts")
    assert type(full) is StorageFull
    assert full.message.startswith("no space left on the service's disk for artifacts")
    assert type(disk_error(OSError(errno.EIO, "text"), "artifacts")) is ServiceUnavailable
