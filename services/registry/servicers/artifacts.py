"""ArtifactService: artifacts in and out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter

from cxreval.api.registry.v1 import artifact_service_pb2 as pb
from cxreval.api.registry.v1 import artifact_service_pb2_grpc
from cxreval.errors import (
    ArtifactIncomplete,
    ArtifactTooLarge,
    DeadlineExceeded,
    DigestMismatch,
    MalformedStream,
    QuotaExceeded,
    RoleRequired,
    SubmissionState,
    UploadOffset,
)
from cxreval.fields import check_pattern, field_error
from cxreval.records import Role
from cxreval.resource_names import SHA256, ArtifactName, EvaluationName, SubmissionName
from cxreval.wire.limits import CHUNK_BYTES, MAX_ARTIFACT_BYTES
from services.chassis import threads
from services.chassis.principal import caller, check_admitted
from services.registry.domain.records import Submission
from services.registry.servicers import shown
from services.registry.store.artifacts import Artifacts, Upload, UploadKey
from services.registry.store.evaluations import Evaluations
from services.registry.store.submissions import Submissions
from services.registry.store.tenancy import Tenancy

IDLE_SECONDS = 30.0
"""A stream that brings nothing for so long ends: its connection may be dead, and it keeps others
from going on."""

_GATHERED = 8  # chunks that wait to be written, at most

# A slow disk or object store keeps these threads busy, and not those in which all others ask the
# database.
_THREADS = ThreadPoolExecutor(32, "artifacts")

_log = logging.getLogger(__name__)

_Messages = AsyncIterator[pb.UploadArtifactRequest]
_T = TypeVar("_T")

# What the sender did wrong. ARTIFACT_INCOMPLETE is not among it: a stream that breaks off may look
# like one that ends.
_REFUSED = (QuotaExceeded, MalformedStream, ArtifactTooLarge, DigestMismatch, SubmissionState)


@dataclass(frozen=True, slots=True)
class _Expected:
    """An artifact that somebody waits for."""

    key: UploadKey
    complete: bool
    record: Callable[[int, Callable[[], None]], Submission | None]
    """Given size and what puts the bytes in their place, records the artifact in one
    transaction."""
    begin: Callable[[int], None] = lambda _: None
    """Sets room aside for so many bytes."""
    forget: Callable[[], None] = lambda: None
    """Gives the room back of what was discarded."""


class ArtifactServicer(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Takes artifacts and gives them out again."""

    def __init__(
        self,
        submissions: Submissions,
        evaluations: Evaluations,
        artifacts: Artifacts,
        tenancy: Tenancy,
        metrics: CollectorRegistry,
    ) -> None:
        self._submissions = submissions
        self._tenancy = tenancy
        self._evaluations = evaluations
        self._artifacts = artifacts
        self._bytes = Counter(
            "cxreval_registry_artifact_bytes_total",
            "Bytes of artifacts moved.",
            ("direction",),
            registry=metrics,
        )

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        """How far it is."""
        expected = await asyncio.to_thread(self._expected, request, "")
        if expected.complete:
            return pb.GetUploadResponse(complete=True)
        received = await threads.start(_THREADS, self._artifacts.received, expected.key)
        return pb.GetUploadResponse(received_bytes=received)

    async def UploadArtifact(
        self, request_iterator: _Messages, context: Any
    ) -> pb.UploadArtifactResponse:
        """Receives the bytes beside their place; only when all of them are right, one transaction
        records them."""
        messages = aiter(request_iterator)
        header = await _header(messages)
        _check_size(header)
        expected = await asyncio.to_thread(self._expected, header, "header.")
        if expected.complete:
            raise _not_awaited(header, expected.key)
        # Opened and closed here, without a thread: a cancelled call must not leave the upload to
        # nobody.
        with self._artifacts.receive(expected.key) as upload:
            # Only who holds the upload sets room aside or gives it back.
            await _to_its_end(expected.begin, header.size_bytes)
            await _begin(upload, expected, header)
            try:
                await self._receive(messages, header, upload)
                # A task to its end: who leaves now has sent everything.
                submission = await _ended(
                    asyncio.create_task(_finish(upload, expected, header.size_bytes))
                )
            except _REFUSED:
                await _discard(upload, expected)
                raise
            except BaseException:
                await _to_its_end(upload.suspend)
                raise
        _log.info(
            "artifact stored", extra={"owner": expected.key.owner, "size_bytes": header.size_bytes}
        )
        return pb.UploadArtifactResponse(
            artifact=str(ArtifactName(expected.key.sha256)),
            submission=shown.submission_message(submission) if submission else None,
        )

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        """Sends the bytes; the last chunk only when all of them still have their digest."""
        name = ArtifactName.parse(request.name)
        await asyncio.to_thread(self._tenancy.check_artifact, caller(), name)
        await asyncio.to_thread(self._submissions.artifact_size, name)
        chunks = self._artifacts.read(name, CHUNK_BYTES)
        while chunk := await threads.start(_THREADS, next, chunks, b""):
            self._bytes.labels("sent").inc(len(chunk))
            yield pb.DownloadArtifactResponse(chunk=chunk)

    def _expected(
        self, request: pb.GetUploadRequest | pb.UploadArtifactHeader, path: str
    ) -> _Expected:
        """What a request is about; `path` leads to its fields."""
        if request.WhichOneof("artifact") == "derived":
            _check_role(f"{path}derived", Role.WORKER)
            return self._derived(request.derived, f"{path}derived")
        _check_role(f"{path}submission", Role.SUBMITTER, Role.OPERATOR)
        name = SubmissionName.parse(request.submission, f"{path}submission")
        self._tenancy.check_own(caller(), name)
        sha256, complete = self._submissions.artifact(name)
        key = UploadKey(name.submission, sha256, "manifest.artifact_sha256")
        begin, forget = (
            partial(self._submissions.begin_upload, name),
            partial(self._submissions.forget_upload, name),
        )
        return _Expected(key, complete, partial(self._queue, name), begin, forget)

    def _derived(self, artifact: pb.DerivedArtifact, path: str) -> _Expected:
        name = EvaluationName.parse(artifact.evaluation, f"{path}.evaluation")
        check_pattern(f"{path}.sha256", artifact.sha256, SHA256, "64 lower-case hex characters")
        complete = self._evaluations.has_artifact(name, artifact.token, artifact.sha256)
        key = UploadKey(name.evaluation, artifact.sha256, f"{path}.sha256")
        return _Expected(
            key,
            complete,
            partial(self._evaluations.add_artifact, name, artifact.token, artifact.sha256),
        )

    def _queue(
        self, name: SubmissionName, size_bytes: int, place: Callable[[], None]
    ) -> Submission:
        return self._submissions.queue(name, size_bytes, place, caller().name)

    async def _receive(
        self, messages: _Messages, header: pb.UploadArtifactHeader, upload: Upload
    ) -> None:
        received = header.write_offset
        writer = _Writer(upload.write)
        try:
            async for chunk in _chunks(messages):
                received += len(chunk)
                if received > header.size_bytes:
                    text = f"more than the {header.size_bytes} bytes came that header.size_bytes declares"
                    raise ArtifactTooLarge(
                        text, field="header.size_bytes", expected=str(header.size_bytes)
                    )
                await writer.put(chunk)
                self._bytes.labels("received").inc(len(chunk))
        finally:
            await writer.written()
        if received < header.size_bytes:
            text = f"{received} bytes came; header.size_bytes declares {header.size_bytes}"
            raise ArtifactIncomplete(
                text, field="header.size_bytes", found=received, expected=str(header.size_bytes)
            )


class _Writer:
    """Writes in a thread, one write at a time; what comes meanwhile gathers and is the next write.

    A write for every chunk costs a third of the speed: each has to wait for the interpreter several
    times.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._gathered: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None

    async def put(self, chunk: bytes) -> None:
        """Takes a chunk, as soon as not too much waits. Raises what a write raised."""
        self._gathered.append(chunk)
        if self._writing is None:
            self._start()
        elif len(self._gathered) >= _GATHERED or self._writing.done():
            await _ended(self._writing)

    async def written(self) -> None:
        """All of it is written. Raises what a write raised."""
        while writing := self._writing:
            await _ended(writing)
            self._go_on(writing)  # it may not have been called yet

    def _start(self) -> None:
        self._writing = threads.start(_THREADS, self._write, b"".join(self._gathered))
        self._gathered.clear()
        self._writing.add_done_callback(self._go_on)

    def _go_on(self, writing: asyncio.Future[None]) -> None:
        if self._writing is not writing or writing.exception():
            return  # it was here before, or whoever waits for it raises the error
        self._writing = None
        if self._gathered:
            self._start()


def _check_role(field: str, *roles: Role) -> None:
    """The rpcs take submitters and workers; each may upload only what is theirs to make. Raises
    `RoleRequired`."""
    if caller().roles.isdisjoint(roles):
        expected = ", ".join(sorted(roles))
        message = f"{caller().name} may not upload {field}; expected one of the roles {expected}"
        raise RoleRequired(message, field=field, expected=expected)


async def _begin(upload: Upload, expected: _Expected, header: pb.UploadArtifactHeader) -> None:
    try:
        await _to_its_end(upload.begin, header.write_offset)
    except UploadOffset as error:
        if int(error.metadata["received_bytes"]) > header.size_bytes:
            # What is there is more than all of it, so it began as another file: the next call
            # begins from nothing.
            await _discard(upload, expected)
        raise


async def _discard(upload: Upload, expected: _Expected) -> None:
    """Both together, whoever leaves meanwhile: the bytes go, and the room they took is free."""

    def discard() -> None:
        upload.discard()
        expected.forget()

    await _to_its_end(discard)


async def _finish(upload: Upload, expected: _Expected, size_bytes: int) -> Submission | None:
    await threads.start(_THREADS, upload.store)
    await check_admitted()  # all that came before may have taken an hour
    submission = await threads.start(_THREADS, expected.record, size_bytes, upload.place)
    await threads.start(_THREADS, upload.discard)
    return submission


async def _ended(work: asyncio.Future[_T]) -> _T:
    """Waits for a thread or a task, even when the call is cancelled meanwhile: nobody may close
    what it still uses."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        work.exception()  # looked at, so that nobody warns that it was not
        raise cancelled
    return work.result()


async def _to_its_end(work: Callable[..., _T], *arguments: Any) -> _T:
    return await _ended(threads.start(_THREADS, work, *arguments))


async def _chunks(messages: _Messages) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await anext(messages, None)
        except TimeoutError:
            text = (
                f"nothing came for {IDLE_SECONDS:.0f} seconds; ask GetUpload and go on from there"
            )
            raise DeadlineExceeded(text, limit_seconds=IDLE_SECONDS) from None
        if message is None:
            return
        yield _chunk(message)


async def _header(messages: _Messages) -> pb.UploadArtifactHeader:
    first = await anext(messages, None)
    if first is None or not first.HasField("header"):
        text = "the first message is not a header; expected a header, then chunks"
        raise MalformedStream(text, field="header", expected="a header first")
    return first.header


def _not_awaited(header: pb.UploadArtifactHeader, key: UploadKey) -> SubmissionState:
    text = f"artifacts/{key.sha256} is complete already; GetUpload says so"
    return SubmissionState(
        text, field=f"header.{header.WhichOneof('artifact')}", expected="one that is not complete"
    )


def _check_size(header: pb.UploadArtifactHeader) -> None:
    field = "header.size_bytes"
    if header.size_bytes < 1:
        raise field_error(field, header.size_bytes, "1 or more")
    if header.size_bytes > MAX_ARTIFACT_BYTES:
        raise field_error(
            field, header.size_bytes, f"at most {MAX_ARTIFACT_BYTES}", ArtifactTooLarge
        )
    if not 0 <= header.write_offset <= header.size_bytes:
        raise field_error("header.write_offset", header.write_offset, "0 to header.size_bytes")


def _chunk(message: pb.UploadArtifactRequest) -> bytes:
    if not message.HasField("chunk"):
        text = "a message after the header has no chunk; expected only chunks"
        raise MalformedStream(text, field="chunk", expected="only chunks after the header")
    chunk = message.chunk  # each look at it makes a copy
    if not 0 < len(chunk) <= CHUNK_BYTES:
        expected = f"1 to {CHUNK_BYTES} bytes"
        text = f"a chunk has {len(chunk)} bytes; expected {expected}"
        raise MalformedStream(text, field="chunk", expected=expected)
    return chunk
