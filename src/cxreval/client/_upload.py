"""Uploads that resume after a broken connection from the first byte that the registry lacks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from cxreval.api.registry.v1 import artifact_service_pb2
from cxreval.bundle import arranged, artifact_sha256, described
from cxreval.client._calls import RETRY_SECONDS, STREAM_SECONDS, Transport
from cxreval.errors import CxrevalError, DigestMismatch, SubmissionState, UploadBusy, UploadOffset
from cxreval.manifest.model import Manifest
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy
from cxreval.wire.limits import CHUNK_BYTES

TRANSIENT_UPLOAD_ERRORS = (*TRANSIENT, UploadBusy, UploadOffset)
"""Errors after which an upload can be resumed."""

_MIN_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """Callbacks of an upload.

    `on_progress` is called with the bytes sent so far and their total, `on_failure` with each error
    that interrupts the upload and is retried.
    """

    on_progress: Callable[[int, int], None] = lambda _sent, _total: None
    on_failure: Callable[[CxrevalError], None] = lambda _error: None


def with_files(manifest: Manifest, files: Sequence[Path]) -> Manifest:
    """Returns the manifest of a submission with the names and digests of its files.

    Several files, or those that the manifest names, are submitted as one archive.

    Raises:
        MalformedField: the manifest names other files, or a file has a name that is not allowed.
        DigestMismatch: the manifest states another digest of a file.
    """
    files = arranged(files, manifest.files)
    bundled = len(files) > 1 or bool(manifest.files)
    sha256 = artifact_sha256(files, bundled=bundled)
    listed = described(files, manifest.files) if bundled else ()
    return dataclasses.replace(manifest, artifact_sha256=sha256, files=listed)


async def upload(
    transport: Transport,
    stub: Any,
    artifact: dict[str, Any],
    content: Callable[[], BinaryIO],
    progress: UploadProgress,
    retry_seconds: float = RETRY_SECONDS,
) -> artifact_service_pb2.UploadArtifactResponse | None:
    """Uploads a content and returns the response, or None when the registry has it already.

    Args:
        transport: makes the calls.
        stub: an ArtifactService stub.
        artifact: the `artifact` field of the messages: `submission` or `derived`.
        content: opens what to upload. Each attempt opens it anew, because gRPC may still read for
            the one before.
        progress: callbacks.
        retry_seconds: longest time without progress before the last error is raised.
    """
    total, chunk_bytes = await transport.run(_size, content), CHUNK_BYTES
    backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), progress.on_failure)
    furthest, restarted = -1, False
    while True:
        offset = 0
        try:
            status = await _status(transport, stub, artifact)
            if status.complete:
                return None
            if status.received_bytes > furthest:
                furthest = status.received_bytes
                backoff.progressed()
            offset = min(status.received_bytes, total)
            messages = _messages(artifact, content, total, offset, chunk_bytes, progress)
            response = await _send(transport, stub, messages)
        except SubmissionState:
            # gRPC repeats a short call whose response was lost: the first attempt had succeeded.
            if (await _status(transport, stub, artifact)).complete:
                return None
            raise
        except DigestMismatch as error:
            # The bytes before the offset were another file's, and the registry has discarded them.
            # Start again once; with no such bytes, the file itself is wrong.
            if restarted or offset == 0:
                raise
            furthest, restarted = -1, True
            backoff.progressed()
            progress.on_failure(error)
        except TRANSIENT_UPLOAD_ERRORS as error:
            await transport.sleep(backoff.pause(error))
            # On a slow line one chunk can take longer than the registry waits: send smaller ones.
            chunk_bytes = max(chunk_bytes // 2, _MIN_CHUNK_BYTES)
        else:
            return response


def _size(content: Callable[[], BinaryIO]) -> int:
    """Returns the number of bytes of a content."""
    with content() as end:
        return end.seek(0, os.SEEK_END)


async def _status(
    transport: Transport, stub: Any, artifact: dict[str, Any]
) -> artifact_service_pb2.GetUploadResponse:
    """Returns how much of an artifact the registry has."""
    request = artifact_service_pb2.GetUploadRequest(**artifact)
    return cast(
        "artifact_service_pb2.GetUploadResponse", await transport.call(stub.GetUpload, request)
    )


async def _send(
    transport: Transport, stub: Any, messages: Iterator[artifact_service_pb2.UploadArtifactRequest]
) -> artifact_service_pb2.UploadArtifactResponse:
    """Sends the messages of an upload and returns the response."""
    response = await transport.call(stub.UploadArtifact, messages, STREAM_SECONDS)
    return cast("artifact_service_pb2.UploadArtifactResponse", response)


def _messages(
    artifact: dict[str, Any],
    content: Callable[[], BinaryIO],
    total: int,
    offset: int,
    chunk_bytes: int,
    progress: UploadProgress,
) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
    header = artifact_service_pb2.UploadArtifactHeader(
        **artifact, size_bytes=total, write_offset=offset
    )
    yield artifact_service_pb2.UploadArtifactRequest(header=header)
    progress.on_progress(offset, total)
    with content() as stream:
        stream.seek(offset)
        while chunk := stream.read(chunk_bytes):
            yield artifact_service_pb2.UploadArtifactRequest(chunk=chunk)
            offset += len(chunk)
            progress.on_progress(offset, total)


def paths(file: Path | str | Sequence[Path | str] | None) -> list[Path]:
    """Returns the paths of the file or files of a submission."""
    if file is None:
        return []
    return [Path(file)] if isinstance(file, Path | str) else [Path(item) for item in file]
