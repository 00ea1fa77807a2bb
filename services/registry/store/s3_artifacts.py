"""Artifacts in an object store (S3).

An artifact is the object `artifacts/<sha256>`. An upload is stored in pieces, each the object
`uploads/<owner>-<sha256>/<offset>`. A piece is created, never overwritten, and its name has its
offset. So any replica can resume an upload, and of two calls that write the same bytes one is
refused: no lock is needed.

Endpoint, region and credentials come from the usual environment variables (`AWS_ENDPOINT_URL`,
`AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...). An http endpoint needs `AWS_ALLOW_HTTP=true`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from cxreval.errors import ArtifactNotFound, ArtifactStoreRefused, ServiceUnavailable
from cxreval.fields import SHA256
from cxreval.files import no_space_left
from cxreval.resource_names import ArtifactName
from services.registry.store.artifacts import UploadKey, busy, check_digest, check_offset, verified

PIECE_BYTES = 8 << 20
"""Size of a piece: how many bytes an upload buffers in memory before it stores them."""

_PART_BYTES = 8 << 20  # of a multipart upload; S3's minimum is 5 MiB

_log = logging.getLogger(__name__)
_CODE = re.compile(r"<Code>(\w+)</Code>")
# The code of MinIO, Ceph's, and the text of the others.
_FULL = re.compile(r"StorageFull|QuotaExceeded|no space left", re.IGNORECASE)
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class S3Artifacts:
    """See `Artifacts`. Any number of registries may share the bucket."""

    def __init__(self, url: str) -> None:
        """`url`: `s3://bucket/prefix`.

        Raises:
            ArtifactStoreRefused: the registry may not write there.
        """
        self._receiving: set[UploadKey] = set()
        try:
            self._store = S3Store.from_url(url, retry_config=_RETRIES)
            obstore.put(self._store, "check", b"written at the start of the registry")
        except (BaseError, ValueError) as error:
            code = _CODE.search(str(error))
            problem = code[1] if code else str(error).partition("\n")[0]
            message = f"artifact_store {url} cannot be written: {problem}"
            raise ArtifactStoreRefused(
                message, field="artifact_store", value=url, problem=problem
            ) from None

    @contextmanager
    def receive(self, key: UploadKey) -> Iterator[_S3Upload]:
        """See `Artifacts.receive`. A call of another registry is noticed at the first piece."""
        if key in self._receiving:
            raise busy(key)
        self._receiving.add(key)
        try:
            yield _S3Upload(self._store, key)
        finally:
            self._receiving.discard(key)

    def received(self, key: UploadKey) -> int:
        """See `Artifacts.received`."""
        with _answering():
            return _end(_chain(_pieces(self._store, key)))

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """See `Artifacts.read`."""
        try:
            with _answering():
                answer = obstore.get(self._store, _path(name))
        except FileNotFoundError:
            raise ArtifactNotFound(f"the bytes of {name} are not stored here", name=name) from None
        yield from verified(_in_chunks(answer, chunk_bytes), name)

    def stale_uploads(self, before: datetime) -> list[UploadKey]:
        """See `Artifacts.stale_uploads`."""
        latest: dict[UploadKey, datetime] = {}
        for item in self._list("uploads/"):
            if key := UploadKey.parse(item["path"].split("/")[1]):
                latest[key] = max(latest.get(key, item["last_modified"]), item["last_modified"])
        return [key for key, time in latest.items() if time < before]

    def stale_artifacts(self, before: datetime) -> list[ArtifactName]:
        """See `Artifacts.stale_artifacts`."""
        stale = (
            item["path"].split("/")[1]
            for item in self._list("artifacts/")
            if item["last_modified"] < before
        )
        return [ArtifactName(sha256) for sha256 in stale if SHA256.fullmatch(sha256)]

    def remove_upload(self, key: UploadKey) -> bool:
        """See `Artifacts.remove_upload`. A call of another registry that holds the upload has to
        start again."""
        if key in self._receiving:
            return False
        with _answering():
            paths = [path for path, _, _ in _pieces(self._store, key)]
            obstore.delete(self._store, paths)
        return bool(paths)

    def remove(self, name: ArtifactName) -> None:
        """See `Artifacts.remove`."""
        with _answering(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, _path(name))

    def _list(self, prefix: str) -> Iterator[Any]:
        with _answering():
            for batch in obstore.list(self._store, prefix):
                yield from batch


class _S3Upload:
    """See `Upload`."""

    def __init__(self, store: S3Store, key: UploadKey) -> None:
        self._store = store
        self._key = key
        self._digest = hashlib.sha256()
        self._buffered = bytearray()
        self._offset = 0

    def begin(self, offset: int, missing_bytes: int = 0) -> None:  # noqa: ARG002
        with _answering():
            pieces = _pieces(self._store, self._key)
            chain = _chain(pieces)
            check_offset(offset, _end(chain))
            # A piece that does not continue the chain would block the one that does.
            obstore.delete(
                self._store,
                [path for path, *_ in pieces if path not in {piece[0] for piece in chain}],
            )
            for path, *_ in chain:
                self._digest.update(obstore.get(self._store, path).bytes())
        self._offset = offset

    def write(self, chunk: bytes) -> None:
        self._buffered += chunk
        self._digest.update(chunk)
        if len(self._buffered) >= PIECE_BYTES:
            self._flush()

    def suspend(self) -> None:
        self._flush()

    def discard(self) -> None:
        self._buffered.clear()
        try:
            with _answering():
                obstore.delete(self._store, [path for path, *_ in _pieces(self._store, self._key)])
        except ServiceUnavailable:
            _log.warning(
                "pieces of an upload stay until the next collection",
                extra={"upload": str(self._key)},
            )

    def store(self) -> None:
        check_digest(self._digest.hexdigest(), self._key)
        self._flush()
        with _answering():
            chain = _chain(_pieces(self._store, self._key))
            check_offset(self._offset, _end(chain))
            self._copy(chain)

    def place(self) -> None:
        # The object is too young to be collected, but a collector may have listed an older object
        # of this name and now remove the new one. Since the artifact's row is inserted, that
        # collector has either ended or will find the row, so the check belongs here, inside the
        # transaction. On PostgreSQL only uploads of the same bytes wait for the answer.
        try:
            with _answering():
                obstore.head(self._store, _path(ArtifactName(self._key.sha256)))
        except FileNotFoundError as error:
            raise ServiceUnavailable(
                "the artifact store no longer has the uploaded bytes; upload again"
            ) from error

    def _copy(self, chain: list[tuple[str, int, int]]) -> None:
        """Joins the pieces into the artifact's object, which exists only after `close`."""
        digest = hashlib.sha256()
        writer = obstore.open_writer(
            self._store,
            _path(ArtifactName(self._key.sha256)),
            buffer_size=_PART_BYTES,
            max_concurrency=2,
        )
        for path, *_ in chain:
            piece = obstore.get(self._store, path).bytes()
            digest.update(piece)
            writer.write(piece)
        check_digest(digest.hexdigest(), self._key)
        writer.close()

    def _flush(self) -> None:
        if not self._buffered:
            return
        path = f"{_directory(self._key)}{self._offset:016d}"
        try:
            with _answering():
                obstore.put(self._store, path, bytes(self._buffered), mode="create")
        except AlreadyExistsError:
            self._buffered.clear()
            raise busy(self._key) from None
        self._offset += len(self._buffered)
        self._buffered.clear()


def _directory(key: UploadKey) -> str:
    return f"uploads/{key}/"


def _path(name: ArtifactName) -> str:
    return f"artifacts/{name.sha256}"


def _pieces(store: S3Store, key: UploadKey) -> list[tuple[str, int, int]]:
    """Path, offset and size in bytes of every piece of an upload, in order."""
    objects = [item for batch in obstore.list(store, _directory(key)) for item in batch]
    return sorted(
        (item["path"], int(item["path"].rpartition("/")[2]), item["size"]) for item in objects
    )


def _chain(pieces: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The pieces that continue each other, from the first byte on."""
    chain: list[tuple[str, int, int]] = []
    for piece in pieces:
        if piece[1] == _end(chain):
            chain.append(piece)
    return chain


def _end(chain: list[tuple[str, int, int]]) -> int:
    return chain[-1][1] + chain[-1][2] if chain else 0


def _in_chunks(answer: obstore.GetResult, chunk_bytes: int) -> Iterator[bytes]:
    with _answering():
        for block in answer.stream(chunk_bytes):
            content = memoryview(block)
            for start in range(0, len(content), chunk_bytes):
                yield bytes(content[start : start + chunk_bytes])


@contextmanager
def _answering() -> Iterator[None]:
    """Raises `StorageFull` for a store without room, and `ServiceUnavailable` for its other errors,
    which are transient: it was writable at the start."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        _log.error("the artifact store does not answer", exc_info=error)
        if _FULL.search(str(error)):
            raise no_space_left("artifacts") from error
        raise ServiceUnavailable(
            "the registry's artifact store does not answer; try again"
        ) from error
