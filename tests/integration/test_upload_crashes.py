"""kill -9 of the registry in every phase of an upload: nothing is lost, repeated or left over."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy

from cxreval import retry
from cxreval.client import UploadProgress, WorkerClient
from cxreval.wire.limits import CHUNK_BYTES
from services.registry.__main__ import open_artifacts
from services.registry.store.artifacts import Artifacts
from services.registry.store.database import Database
from services.registry.store.garbage import GRACE, Garbage
from tests.support.crashing import CrashingRegistry
from tests.support.registry import Registry, small_spec
from tests.support.seaweedfs import BUCKET, SeaweedFs

SPEC = small_spec("crashes")
SENT = (
    "before write",
    "after write",
    "after begin",
    "before store",
    "after store",
    "before place",
    "after place",
)
"""After `place` the artifact is stored under its digest, but has no row yet."""

RECORDED = """
    SELECT artifact_sha256 FROM submissions WHERE artifact_sha256 = :sha256 AND state = 'queued'
    UNION ALL SELECT artifact_sha256 FROM derived_artifacts WHERE artifact_sha256 = :sha256
"""


@pytest.fixture(params=["local sqlite", "local postgresql", "s3 postgresql"])
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Walk]:
    # The registry restarts at once, so short pauses suffice.
    monkeypatch.setattr(retry, "MULTIPLIER", 1)
    store, kind = request.param.split()
    place = str(tmp_path / "artifacts")
    if store == "s3":
        server: SeaweedFs = request.getfixturevalue("seaweedfs")
        for name, value in server.keys.environment(server.endpoint).items():
            monkeypatch.setenv(name, value)
        place = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    registry = CrashingRegistry(tmp_path, kind, artifact_store=place)
    database = Database(registry.database_url)
    registry.start()
    try:
        yield Walk(registry, database, open_artifacts(place), tmp_path / "file.onnx")
    finally:
        database.close()
        registry.stop()


class Walk:
    """Uploads to a registry that dies."""

    def __init__(
        self, registry: CrashingRegistry, database: Database, store: Artifacts, file: Path
    ) -> None:
        self.registry = registry
        self.database = database
        self.store = store
        self.file = file
        self.artifacts: dict[str, bytes] = {}

    def artifact(self) -> bytes:
        """Returns a new artifact each time."""
        content = np.random.default_rng(len(self.artifacts)).bytes(2 * CHUNK_BYTES + 17)
        self.artifacts[hashlib.sha256(content).hexdigest()] = content
        return content

    def through(
        self,
        points: Sequence[str],
        artifact: bytes,
        upload: Callable[[Path, UploadProgress], object],
    ) -> None:
        """Makes one upload, during which the registry dies at all points."""
        self.file.write_bytes(artifact)
        sha256 = hashlib.sha256(artifact).hexdigest()
        counts: list[int] = []
        self.registry.die(*points)
        upload(
            self.file,
            UploadProgress(
                on_failure=lambda _: counts.append(len(self.rows(RECORDED, sha256=sha256)))
            ),
        )
        assert self.registry.ahead() == []
        # The artifact is recorded by the commit, and remains so.
        assert counts == sorted(counts)
        assert set(counts) <= {0, 1}
        assert len(self.rows(RECORDED, sha256=sha256)) == 1

    def rows(self, query: str, **values: str) -> list[tuple[Any, ...]]:
        with self.database.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query), values)]


def test_upload_outlives_a_registry_that_dies_at_every_point(walk: Walk) -> None:
    with Registry(walk.registry.address) as call, WorkerClient(walk.registry.address) as client:
        call.create_benchmark(SPEC)
        # A client that got no response to the commit asks for the state and skips the steps after
        # it; those need a second upload.
        for of_submitter, of_worker in (
            ([*SENT, "after queued"], [*SENT, "after add_artifact"]),
            (["after discard"], ["after discard"]),
        ):
            artifact = walk.artifact()
            name = call.create_submission(SPEC.name, artifact).name
            walk.through(of_submitter, artifact, partial(client.upload_artifact, name))
            lease = client.lease_evaluation("worker", [SPEC.name])
            assert lease is not None
            assert lease.submission.name == name
            walk.through(of_worker, walk.artifact(), partial(client.upload_derived_artifact, lease))
            client.cancel(name, "nothing more comes")
        for sha256, content in walk.artifacts.items():
            assert b"".join(client.download_artifact(sha256)) == content
    assert walk.registry.stop() == 0
    sizes = {(sha256, len(content)) for sha256, content in walk.artifacts.items()}
    assert set(walk.rows("SELECT sha256, size_bytes FROM artifacts")) == sizes
    assert len(walk.rows("SELECT id FROM evaluations")) == 2
    nothing_else_lies_around(walk)


def nothing_else_lies_around(walk: Walk) -> None:
    later = datetime.now(UTC) + GRACE + timedelta(minutes=1)
    Garbage(walk.database, walk.store, lambda: later).collect()
    assert walk.store.stale_uploads(later) == []
    assert {name.sha256 for name in walk.store.stale_artifacts(later)} == set(walk.artifacts)
