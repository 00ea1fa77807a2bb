"""Both artifact stores, a directory and SeaweedFS: resume, verification, atomicity, collection."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxreval.audit.receipts import Signer
from cxreval.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactStoreRefused,
    DigestMismatch,
    UploadBusy,
    UploadOffset,
)
from cxreval.records import Change, Failure, Fault
from cxreval.resource_names import ArtifactName, BenchmarkName, EvaluationName, SubmissionName
from services.chassis.principal import EVERYBODY
from services.registry import migrations
from services.registry.convert import submissions
from services.registry.domain.records import ChangeRequest
from services.registry.store import s3_artifacts
from services.registry.store.artifacts import Artifacts, UploadKey
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.garbage import GRACE, Garbage
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.local_artifacts import LocalArtifacts
from services.registry.store.s3_artifacts import S3Artifacts
from services.registry.store.submissions import Submissions
from tests.support.processes import free_port
from tests.support.registry import DATABASES, fresh_database, manifest_message, small_spec
from tests.support.seaweedfs import BUCKET, Keys, SeaweedFs

BYTES = bytes(range(256)) * 10
NAME = ArtifactName(hashlib.sha256(BYTES).hexdigest())
SPEC = small_spec("stores")
SIGNER = Signer(Ed25519PrivateKey.generate())
LATER = timedelta(seconds=5) + GRACE


def key_of(artifact: bytes = BYTES) -> UploadKey:
    return UploadKey(
        uuid.uuid4().hex, hashlib.sha256(artifact).hexdigest(), "manifest.artifact_sha256"
    )


def now() -> datetime:
    return datetime.now(UTC)


class Kept:
    """A store, its content, and functions that change the content directly."""

    def __init__(self, kind: str, directory: Path, server: SeaweedFs | None) -> None:
        self._directory = directory
        self._url = f"s3://{BUCKET}/{uuid.uuid4().hex}/deep"
        self._bucket = server.store(self._url.removeprefix(f"s3://{BUCKET}/")) if server else None
        self._local = kind == "local"
        self.store = self.open()

    def open(self) -> Artifacts:
        """Opens the store as another process."""
        return LocalArtifacts(self._directory) if self._local else S3Artifacts(self._url)

    def names(self) -> list[str]:
        if self._bucket is None:
            files = (file for file in self._directory.rglob("*") if file.is_file())
            return sorted(str(file.relative_to(self._directory)) for file in files)
        return sorted(
            item["path"]
            for batch in self._bucket.list()
            for item in batch
            if item["path"] != "check"
        )

    def place(self, name: ArtifactName = NAME) -> str:
        return f"{name.sha256[:2]}/{name.sha256}" if self._local else f"artifacts/{name.sha256}"

    def overwrite(self, content: bytes) -> None:
        if self._bucket is None:
            (self._directory / self.place()).write_bytes(content)
        else:
            self._bucket.put(self.place(), content)


@pytest.fixture
def s3(seaweedfs: SeaweedFs, monkeypatch: pytest.MonkeyPatch) -> SeaweedFs:
    """The server, with its keys in the environment."""
    for name, value in seaweedfs.keys.environment(seaweedfs.endpoint).items():
        monkeypatch.setenv(name, value)
    return seaweedfs


@pytest.fixture(params=["local", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(s3_artifacts, "PIECE_BYTES", 1000)
    server = request.getfixturevalue("s3") if request.param == "s3" else None
    return Kept(request.param, tmp_path / "artifacts", server)


def receive(store: Artifacts, key: UploadKey, content: bytes, offset: int = 0) -> None:
    """Sends `content` in a call that then breaks off."""
    with store.receive(key) as upload:
        upload.begin(offset)
        for start in range(0, len(content), 700):
            upload.write(content[start : start + 700])
        upload.suspend()


def finish(store: Artifacts, key: UploadKey, content: bytes, offset: int = 0) -> None:
    with store.receive(key) as upload:
        upload.begin(offset)
        upload.write(content)
        upload.store()
        upload.place()
        upload.discard()


def test_artifact_lies_under_its_digest_once_and_reads_back_in_chunks(kept: Kept) -> None:
    for _ in range(2):
        finish(kept.store, key_of(), BYTES)
    assert kept.names() == [kept.place()]
    chunks = list(kept.open().read(NAME, 1000))
    assert b"".join(chunks) == BYTES
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 560]


def test_another_process_resumes_where_the_first_one_stopped(kept: Kept) -> None:
    key = key_of()
    receive(kept.store, key, BYTES[:1500])
    other = kept.open()
    assert other.received(key) == 1500
    with pytest.raises(UploadOffset) as caught:
        finish(other, key, BYTES, offset=0)
    assert caught.value.metadata["received_bytes"] == "1500"
    finish(other, key, BYTES[1500:], offset=1500)
    assert b"".join(other.read(NAME, 1000)) == BYTES
    assert kept.names() == [kept.place()]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), content=st.binary(min_size=1, max_size=5000))
def test_any_sequence_of_broken_uploads_ends_in_the_same_bytes(
    kept: Kept, data: st.DataObject, content: bytes
) -> None:
    key, name = key_of(content), ArtifactName(hashlib.sha256(content).hexdigest())
    for _ in range(data.draw(st.integers(0, 4))):
        store = kept.open()
        offset = store.received(key)
        receive(store, key, content[offset : offset + data.draw(st.integers(0, 2500))], offset)
    offset = kept.store.received(key)
    finish(kept.store, key, content[offset:], offset)
    assert b"".join(kept.store.read(name, 999)) == content
    assert kept.store.received(key) == 0


def test_other_bytes_are_refused_and_leave_nothing_in_their_place(kept: Kept) -> None:
    key = key_of()
    with kept.store.receive(key) as upload:
        upload.begin(0)
        upload.write(BYTES[:-1] + b"\0")
        with pytest.raises(DigestMismatch) as caught:
            upload.store()
        upload.discard()
    assert caught.value.metadata["field"] == "manifest.artifact_sha256"
    assert kept.names() == []


@pytest.mark.parametrize(
    "left", [b"", BYTES[:1000], BYTES[:-1], BYTES[:-1] + b"\0", b"\1" + BYTES[1:]]
)
def test_changed_byte_is_found_before_the_last_chunk_is_given_out(kept: Kept, left: bytes) -> None:
    finish(kept.store, key_of(), BYTES)
    kept.overwrite(left)
    given_out = []
    with pytest.raises(ArtifactCorrupt):
        given_out.extend(kept.store.read(NAME, 1000))
    assert len(b"".join(given_out)) < max(1, len(left))


def test_unknown_artifact_is_not_found(kept: Kept) -> None:
    with pytest.raises(ArtifactNotFound):
        next(kept.store.read(NAME, 1000))


def test_two_calls_never_write_the_same_upload(kept: Kept) -> None:
    """A directory refuses the second process at once; an object store does when a piece exists."""
    key, sent = key_of(), []
    with kept.store.receive(key) as first:
        first.begin(0)
        with pytest.raises(UploadBusy), kept.store.receive(key):
            pass
        with pytest.raises(UploadBusy):
            write_both(first, kept.open(), key, sent)
        first.write(BYTES[sum(sent) :])
        first.store()
        first.place()
        first.discard()
    assert b"".join(kept.store.read(NAME, 1000)) == BYTES
    assert kept.names() == [kept.place()]


def write_both(first: Any, other: Artifacts, key: UploadKey, sent: list[int]) -> None:
    with other.receive(key) as second:
        second.begin(0)
        first.write(BYTES[:1200])
        sent.append(1200)
        second.write(BYTES[:1200])


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (Keys(secret="wrong"), "SignatureDoesNotMatch"),
        (Keys(access="nobody"), "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_are_named_at_the_start(
    s3: SeaweedFs, monkeypatch: pytest.MonkeyPatch, keys: Keys, problem: str
) -> None:
    for name, value in keys.environment(s3.endpoint).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ArtifactStoreRefused, match=f"artifact_store s3://{BUCKET}/p cannot be written: {problem}"
    ) as caught:
        S3Artifacts(f"s3://{BUCKET}/p")
    assert keys.secret not in str(caught.value)


def test_plain_http_is_used_only_when_said_so(
    s3: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(ArtifactStoreRefused):
        S3Artifacts(f"s3://{BUCKET}/p")


def test_store_that_is_away_is_named_at_the_start(
    s3: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ArtifactStoreRefused):
        S3Artifacts(f"s3://{BUCKET}/p")


# --- garbage --------------------------------------------------------------------------------------


class Books:
    """A database whose submissions await artifacts."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.database = Database(fresh_database(kind, directory))
        migrations.upgrade(self.database.engine)
        Benchmarks(self.database, now).create(SPEC)
        self.submissions = Submissions(self.database, now, SIGNER)
        self.lifecycle = Lifecycle(self.database, now, SIGNER)
        self.evaluations = Evaluations(self.database, now, SIGNER, lease_seconds=60, max_attempts=3)

    def awaiting(self, artifact: bytes = BYTES) -> tuple[SubmissionName, UploadKey]:
        manifest = submissions.manifest(manifest_message(artifact))
        created = self.submissions.create(BenchmarkName(SPEC.name), manifest, "", EVERYBODY)
        return SubmissionName(SPEC.name, created.id), UploadKey(
            created.id, manifest.artifact_sha256, "manifest"
        )

    def cancel(self, name: SubmissionName) -> None:
        self.lifecycle.change(name, ChangeRequest(Change.CANCELLED, "tests"), EVERYBODY)

    def upload(
        self, store: Artifacts, name: SubmissionName, key: UploadKey, place: Callable[[Any], None]
    ) -> None:
        with store.receive(key) as upload:
            upload.begin(0)
            upload.write(BYTES)
            upload.store()
            self.submissions.queue(name, EVERYBODY, len(BYTES), lambda: place(upload))
            upload.discard()


@pytest.fixture
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    found = Books(getattr(request, "param", "sqlite"), tmp_path)
    yield found
    found.database.close()


def test_orphans_are_removed_after_an_hour_and_nothing_that_is_needed(
    kept: Kept, books: Books
) -> None:
    awaiting, waits = books.awaiting(b"awaited" + BYTES)
    receive(kept.store, waits, b"awaited")
    cancelled, given_up = books.awaiting(b"given up" + BYTES)
    receive(kept.store, given_up, b"given up")
    books.cancel(cancelled)
    queued, key = books.awaiting()
    books.upload(kept.store, queued, key, lambda upload: upload.place())
    finish(kept.store, key_of(b"no row"), b"no row")
    before = kept.names()
    assert Garbage(books.database, kept.store, now).collect() == (0, 0)
    assert kept.names() == before
    assert Garbage(books.database, kept.store, lambda: now() + LATER).collect() == (1, 1)
    assert b"".join(kept.store.read(NAME, 1000)) == BYTES
    assert kept.store.received(waits) == len(b"awaited")
    assert len(kept.names()) == 2
    assert awaiting.submission in "".join(kept.names())


def test_artifacts_of_workers_are_kept_during_the_evaluation_and_once_recorded(
    kept: Kept, books: Books
) -> None:
    queued, key = books.awaiting()
    books.upload(kept.store, queued, key, lambda upload: upload.place())
    lease = books.evaluations.lease("worker", [BenchmarkName(SPEC.name)], EVERYBODY)
    assert lease
    name, made = EvaluationName(SPEC.name, queued.submission, lease.evaluation.id), b"made" + BYTES
    derived, unfinished = (
        UploadKey(name.evaluation, key_of(content).sha256, "sha256") for content in (made, b"x")
    )
    with kept.store.receive(derived) as upload:
        upload.begin(0)
        upload.write(made)
        upload.store()
        books.evaluations.add_artifact(
            name, lease.token, derived.sha256, len(made), upload.place, EVERYBODY
        )
        upload.discard()
    receive(kept.store, unfinished, b"half")
    garbage = Garbage(books.database, kept.store, lambda: now() + LATER)
    assert garbage.collect() == (0, 0)
    books.evaluations.fail(
        name, lease.token, Failure("TEST", "its own fault", Fault.SUBMISSION), EVERYBODY
    )
    assert garbage.collect() == (1, 0)
    assert b"".join(kept.store.read(ArtifactName(derived.sha256), 1000)) == made


def test_upload_that_a_call_is_at_is_not_removed(kept: Kept, books: Books) -> None:
    cancelled, key = books.awaiting()
    receive(kept.store, key, BYTES[:100])
    books.cancel(cancelled)
    garbage = Garbage(books.database, kept.store, lambda: now() + LATER)
    with kept.store.receive(key):
        assert garbage.collect() == (0, 0)
    assert garbage.collect() == (1, 0)
    assert kept.names() == []


@pytest.mark.parametrize("books", DATABASES, indirect=True)
def test_artifact_that_is_being_recorded_is_waited_for_and_kept(
    tmp_path: Path, books: Books
) -> None:
    store = LocalArtifacts(tmp_path / "artifacts")
    finish(store, key_of(), BYTES)  # an orphan that a crash left
    name, key = books.awaiting()
    garbage = Garbage(books.database, store, lambda: now() + LATER)
    collecting = threading.Thread(target=garbage.collect)

    def place(upload: Any) -> None:
        collecting.start()  # there is no row yet
        collecting.join(1)
        assert collecting.is_alive()
        upload.place()

    books.upload(store, name, key, place)
    collecting.join(20)
    assert not collecting.is_alive()
    assert b"".join(store.read(NAME, 1000)) == BYTES


@pytest.mark.parametrize("books", DATABASES, indirect=True)
def test_upload_that_comes_while_its_orphan_is_removed_stores_its_own_bytes(
    tmp_path: Path, books: Books
) -> None:
    name, key = books.awaiting()
    uploading: list[threading.Thread] = []

    class Slow(LocalArtifacts):
        def remove(self, orphan: ArtifactName) -> None:
            uploading.append(
                threading.Thread(
                    target=books.upload, args=(self, name, key, lambda upload: upload.place())
                )
            )
            uploading[0].start()
            uploading[0].join(1)
            super().remove(orphan)

    store = Slow(tmp_path / "artifacts")
    finish(store, key_of(), BYTES)
    assert Garbage(books.database, store, lambda: now() + LATER).collect() == (0, 1)
    uploading[0].join(20)
    assert b"".join(store.read(NAME, 1000)) == BYTES
    assert books.submissions.get(name, EVERYBODY).state == "queued"
