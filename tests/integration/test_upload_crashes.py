"""kill -9 of the registry in every phase of an upload: nothing is lost, nothing is doubled, nothing lies around."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy

from cxreval.client import RegistryClient, UploadProgress
from cxreval.resource_names import ArtifactName
from cxreval.wire.limits import CHUNK_BYTES
from services.registry.__main__ import open_artifacts
from services.registry.store.database import Database
from services.registry.store.garbage import GRACE, Garbage
from tests.support.registry import Registry, registry_service, small_spec, sqlite_url
from tests.support.seaweedfs import BUCKET, SeaweedFs

SPEC = small_spec("crashes")
POINTS = {
    "local": (
        "begin:after:1", "write:before:1", "write:after:2", "store:before:1", "store:after:1", "place:before:1",
        "place:after:1", "discard:after:1",
    ),
    "s3": ("write:after:2", "store:before:1", "store:after:1", "place:after:1", "queue:after:1"),
}  # fmt: skip
"""After `place` the artifact is where its digest finds it, without a row; `queue` ends with the commit."""


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "local":
        return str(tmp_path / "artifacts")
    server: SeaweedFs = request.getfixturevalue("seaweedfs")
    for name, value in server.keys.environment(server.endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def test_upload_outlives_a_registry_that_dies_at_every_point(place: str, tmp_path: Path) -> None:
    artifact = np.random.default_rng(0).bytes(3 * CHUNK_BYTES + 17)
    (tmp_path / "model.onnx").write_bytes(artifact)
    points = POINTS["s3" if place.startswith("s3:") else "local"]
    service = registry_service(tmp_path, artifact_store=place)
    service._command[2:3] = ["tests.support.crashing_registry", ",".join(points)]
    with service:
        call = Registry(service.address)
        call.create_benchmark(SPEC)
        name = call.create_submission(SPEC.name, artifact).name
        states: list[str] = []
        engine = sqlalchemy.create_engine(sqlite_url(tmp_path))
        progress = UploadProgress(broken=lambda _: states.append(state(engine, name)))
        with RegistryClient(service.address) as client:
            queued = client.upload_artifact(name, tmp_path / "model.onnx", progress)
            assert queued.status == "queued"
            assert b"".join(client.download_artifact(hashlib.sha256(artifact).hexdigest())) == artifact
        died = [line.removeprefix("died at ") for line in service.log.read_text().splitlines() if "died at " in line]
        assert died == list(points)
        # Until the commit the submission waits for its artifact; from then on it is queued.
        assert states == sorted(states)
        assert set(states) <= {"awaiting_artifact", "queued"}
        call.channel.close()
        assert service.stop() == 0
    assert rows(engine, "artifacts") == [(hashlib.sha256(artifact).hexdigest(), len(artifact))]
    assert len(rows(engine, "evaluations")) == 1
    engine.dispose()
    nothing_else_lies_around(place, tmp_path, artifact)


def state(engine: sqlalchemy.Engine, name: str) -> str:
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT state FROM submissions WHERE id = :id")
        return str(connection.scalar(query, {"id": name.rpartition("/")[2]}))


def rows(engine: sqlalchemy.Engine, table: str) -> list[tuple[str, int]]:
    columns = "sha256, size_bytes" if table == "artifacts" else "id, attempt"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(f"SELECT {columns} FROM {table}"))]


def nothing_else_lies_around(place: str, directory: Path, artifact: bytes) -> None:
    database, store = Database(sqlite_url(directory)), open_artifacts(place)
    later = datetime.now(UTC) + GRACE + timedelta(minutes=1)
    Garbage(database, store, lambda: later).collect()
    database.close()
    assert store.stale_uploads(later) == []
    assert store.stale_artifacts(later) == [ArtifactName(hashlib.sha256(artifact).hexdigest())]
