"""ArtifactService: artifacts in and out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from cxreval.api.registry.v1 import artifact_service_pb2 as pb
from cxreval.api.registry.v1 import artifact_service_pb2_grpc, submission_pb2
from cxreval.errors import ArtifactIncomplete, ArtifactTooLarge, MalformedStream
from cxreval.resource_names import ArtifactName, SubmissionName
from cxreval.wire.limits import CHUNK_BYTES, MAX_ARTIFACT_BYTES
from services.chassis.principal import caller
from services.registry import convert
from services.registry.domain.fields import refused
from services.registry.domain.records import Submission
from services.registry.store.artifacts import Artifacts, Incoming
from services.registry.store.submissions import Submissions

_log = logging.getLogger(__name__)

_Messages = AsyncIterator[pb.UploadArtifactRequest]


class ArtifactServicer(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Takes checkpoints and gives them out again."""

    def __init__(self, submissions: Submissions, artifacts: Artifacts, metrics: CollectorRegistry) -> None:
        self._submissions = submissions
        self._artifacts = artifacts
        self._bytes = Counter(
            "cxreval_registry_artifact_bytes_total", "Bytes of artifacts moved.", ("direction",), registry=metrics
        )

    async def UploadArtifact(self, request_iterator: _Messages, context: Any) -> submission_pb2.Submission:
        """Receives the bytes beside their place; only when all of them are right, one transaction keeps them."""
        messages = aiter(request_iterator)
        header = await _header(messages)
        name = SubmissionName.parse(header.submission, "header.submission")
        expecting = await asyncio.to_thread(self._submissions.expecting_artifact, name)
        _check_size(header.size_bytes)
        # Opened and closed here, without a thread: a cancelled call must not leave the file to nobody.
        with self._artifacts.receive(ArtifactName(expecting.manifest.artifact_sha256)) as incoming:
            await self._receive(messages, header.size_bytes, incoming)
            await asyncio.to_thread(incoming.verify)
            submission = await self._queue(name, header.size_bytes, incoming)
        return convert.submission_message(submission)

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        """Sends the bytes; the last chunk only when all of them still have their digest."""
        name = ArtifactName.parse(request.name)
        await asyncio.to_thread(self._submissions.artifact_size, name)
        chunks = self._artifacts.read(name, CHUNK_BYTES)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            self._bytes.labels("sent").inc(len(chunk))
            yield pb.DownloadArtifactResponse(chunk=chunk)

    async def _receive(self, messages: _Messages, size_bytes: int, incoming: Incoming) -> None:
        received = 0
        async for message in messages:
            chunk = _chunk(message)
            received += len(chunk)
            if received > size_bytes:
                text = f"more than the {size_bytes} bytes came that header.size_bytes declares"
                raise ArtifactTooLarge(text, field="header.size_bytes", expected=str(size_bytes))
            await asyncio.to_thread(incoming.write, chunk)
            self._bytes.labels("received").inc(len(chunk))
        if received < size_bytes:
            text = f"{received} bytes came; header.size_bytes declares {size_bytes}"
            raise ArtifactIncomplete(text, field="header.size_bytes", found=received, expected=str(size_bytes))

    async def _queue(self, name: SubmissionName, size_bytes: int, incoming: Incoming) -> Submission:
        submission = await asyncio.to_thread(
            partial(self._submissions.queue, name, size_bytes, incoming.keep, caller().name)
        )
        _log.info("submission queued", extra={"submission": str(name), "size_bytes": size_bytes})
        return submission


async def _header(messages: _Messages) -> pb.UploadArtifactHeader:
    first = await anext(messages, None)
    if first is None or not first.HasField("header"):
        text = "the first message is not a header; expected a header, then chunks"
        raise MalformedStream(text, field="header", expected="a header first")
    return first.header


def _check_size(size_bytes: int) -> None:
    field = "header.size_bytes"
    if size_bytes < 1:
        raise refused(field, size_bytes, "1 or more")
    if size_bytes > MAX_ARTIFACT_BYTES:
        raise refused(field, size_bytes, f"at most {MAX_ARTIFACT_BYTES}", ArtifactTooLarge)


def _chunk(message: pb.UploadArtifactRequest) -> bytes:
    if not message.HasField("chunk"):
        text = "a message after the header has no chunk; expected only chunks"
        raise MalformedStream(text, field="chunk", expected="only chunks after the header")
    if not 0 < len(message.chunk) <= CHUNK_BYTES:
        expected = f"1 to {CHUNK_BYTES} bytes"
        text = f"a chunk has {len(message.chunk)} bytes; expected {expected}"
        raise MalformedStream(text, field="chunk", expected=expected)
    return message.chunk
