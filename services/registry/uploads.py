"""Receives uploads: chunks from a call into the artifact store, then one transaction that records
the artifact.

An upload that is interrupted keeps its bytes, and the next call resumes it at their end. One whose
content is refused is discarded. File access runs in a thread pool of its own, so that a slow disk
or object store does not delay calls that only ask the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from cxreval.errors import (
    ArtifactIncomplete,
    ArtifactTooLarge,
    DigestMismatch,
    MalformedStream,
    QuotaExceeded,
    StorageFull,
    SubmissionState,
    UploadOffset,
)
from cxreval.resource_names import ArtifactName
from services.chassis import threads
from services.chassis.principal import check_admitted
from services.registry.domain.records import Submission
from services.registry.store.artifacts import Artifacts, Upload, UploadKey

MAX_BUFFERED_CHUNKS = 8

_THREADS = ThreadPoolExecutor(32, "artifacts")

_T = TypeVar("_T")

# Errors of the sender, after which the bytes are discarded. ARTIFACT_INCOMPLETE is not among them:
# a stream that breaks may look like one that ends.
_REFUSED = (QuotaExceeded, MalformedStream, ArtifactTooLarge, DigestMismatch, SubmissionState)


@dataclass(frozen=True, slots=True)
class ExpectedArtifact:
    """An artifact that a submission or an evaluation awaits.

    `complete`: it is stored already; `max_bytes`: its maximum size.
    """

    key: UploadKey
    complete: bool
    max_bytes: int
    record: Callable[[int, Callable[[], None]], Submission | None]
    """Records the artifact in one transaction; takes its size, and the function that moves its
    bytes to their final place."""
    reserve: Callable[[int], None] = lambda _: None
    """Reserves storage quota for so many bytes."""
    release: Callable[[], None] = lambda: None
    """Releases the reserved quota."""


class Uploads:
    """Moves artifacts between calls and the artifact store. Used by one event loop."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def offset(self, key: UploadKey) -> int:
        """The upload offset: how many bytes are durable."""
        return await threads.start(_THREADS, self._artifacts.received, key)

    async def receive(
        self,
        expected: ExpectedArtifact,
        size_bytes: int,
        offset: int,
        chunks: AsyncIterator[bytes],
    ) -> Submission | None:
        """Stores and records an artifact.

        Args:
            expected: the artifact, not complete.
            size_bytes: its declared size.
            offset: where the chunks begin; must be the upload offset.
            chunks: the rest of its bytes.

        Returns:
            The result of `expected.record`.

        Raises:
            UploadBusy: another call uploads the same artifact.
            UploadOffset: `offset` is not the upload offset.
            StorageFull: there is no disk space; what was stored before stays.
            QuotaExceeded: the organisation may not store so much.
            ArtifactTooLarge, ArtifactIncomplete: more or fewer bytes came than were declared.
            DigestMismatch: the bytes have another digest.
        """
        # Opened and closed without a thread: a cancelled call must always release the upload.
        with self._artifacts.receive(expected.key) as upload:
            # Only the call that holds the upload reserves or releases its quota.
            await _run(expected.reserve, size_bytes)
            await _begin(upload, expected, offset, size_bytes)
            try:
                await _receive(upload, offset, size_bytes, chunks)
                # A task that outlives the call: a client that leaves now has sent everything.
                return await _wait(asyncio.create_task(_finish(upload, expected, size_bytes)))
            except _REFUSED:
                await _discard(upload, expected)
                raise
            except BaseException:
                await _run(upload.suspend)
                raise

    async def read(self, name: ArtifactName, chunk_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of an artifact; the last chunk only after the digest of all of them was
        verified."""
        chunks = self._artifacts.read(name, chunk_bytes)
        while chunk := await threads.start(_THREADS, next, chunks, b""):
            yield chunk


class BufferedWriter:
    """Writes chunks in a thread, one write at a time. Chunks that arrive during a write are joined
    into the next one.

    A write for every chunk costs a third of the speed, because each waits for the interpreter
    several times.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._buffered: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None

    async def put(self, chunk: bytes) -> None:
        """Takes a chunk; waits while the buffer is full. Raises what a write raised."""
        self._buffered.append(chunk)
        if self._writing is None:
            self._start()
        elif len(self._buffered) >= MAX_BUFFERED_CHUNKS or self._writing.done():
            await _wait(self._writing)

    async def flush(self) -> None:
        """Waits until everything is written. Raises what a write raised."""
        while writing := self._writing:
            await _wait(writing)
            self._written(writing)  # its callback may not have run yet

    def _start(self) -> None:
        self._writing = threads.start(_THREADS, self._write, b"".join(self._buffered))
        self._buffered.clear()
        self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        if self._writing is not writing or writing.exception():
            return  # handled before, or the waiting call raises the error
        self._writing = None
        if self._buffered:
            self._start()


async def _receive(
    upload: Upload, offset: int, size_bytes: int, chunks: AsyncIterator[bytes]
) -> None:
    received = offset
    field, expected = "header.size_bytes", str(size_bytes)
    writer = BufferedWriter(upload.write)
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > size_bytes:
                text = f"the upload has more than the {size_bytes} bytes that {field} declares"
                raise ArtifactTooLarge(text, field=field, expected=expected)
            await writer.put(chunk)
    finally:
        await writer.flush()
    if received < size_bytes:
        text = f"the upload ended after {received} bytes; {field} declares {size_bytes}"
        raise ArtifactIncomplete(text, field=field, found=received, expected=expected)


async def _begin(upload: Upload, expected: ExpectedArtifact, offset: int, size_bytes: int) -> None:
    try:
        await _run(upload.begin, offset, size_bytes - offset)
    except StorageFull:
        if not offset:
            await _discard(upload, expected)  # nothing is stored that would need its quota
        raise
    except UploadOffset as error:
        if int(error.metadata["received_bytes"]) > size_bytes:
            # More is stored than the artifact has, so it began as another file. Discarding it lets
            # the next call begin from nothing.
            await _discard(upload, expected)
        raise


async def _discard(upload: Upload, expected: ExpectedArtifact) -> None:
    """Removes the bytes and releases their quota, both even if the call is cancelled meanwhile."""

    def discard() -> None:
        upload.discard()
        expected.release()

    await _run(discard)


async def _finish(upload: Upload, expected: ExpectedArtifact, size_bytes: int) -> Submission | None:
    await threads.start(_THREADS, upload.store)
    await check_admitted()  # the upload may have taken an hour
    submission = await threads.start(_THREADS, expected.record, size_bytes, upload.place)
    await threads.start(_THREADS, upload.discard)
    return submission


async def _run(work: Callable[..., _T], *arguments: Any) -> _T:
    """Runs a function in a thread and waits for its end, even if the call is cancelled."""
    return await _wait(threads.start(_THREADS, work, *arguments))


async def _wait(work: asyncio.Future[_T]) -> _T:
    """Waits for a thread or task to end, even if the call is cancelled meanwhile: the files that it
    uses must stay open until then."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        work.exception()  # retrieved, so that asyncio does not log it as never retrieved
        raise cancelled
    return work.result()
