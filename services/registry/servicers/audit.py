"""AuditService: the audit chain, receipts, and the public key that verifies them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from cxreval.api.registry.v1 import audit_service_pb2 as pb
from cxreval.api.registry.v1 import audit_service_pb2_grpc
from cxreval.fields import field_error
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import caller
from services.registry.convert import audit, requests
from services.registry.store.events import CHAIN_EVENTS, Events
from services.registry.store.rescores import Rescores


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Returns the audit chain and receipts, from which a client verifies the board.

    Records rescores, too.
    """

    def __init__(self, events: Events, rescores: Rescores, public_key: str) -> None:
        self._events = events
        self._rescores = rescores
        self._public_key = public_key

    async def GetAuditHead(self, request: pb.GetAuditHeadRequest, context: Any) -> pb.AuditHead:
        """Returns the head of the audit chain."""
        return audit.head_message(await asyncio.to_thread(self._events.head))

    async def ReadAuditChain(
        self, request: pb.ReadAuditChainRequest, context: Any
    ) -> AsyncIterator[pb.ReadAuditChainResponse]:
        """Sends the links of the audit chain, oldest first."""
        if request.after_place < 0:
            raise field_error("after_place", request.after_place, "0 or more")
        batches = self._events.links(request.after_place, CHAIN_EVENTS, caller())
        while links := await asyncio.to_thread(next, batches, None):
            yield pb.ReadAuditChainResponse(links=[audit.link_message(link) for link in links])

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: Any) -> pb.Receipt:
        """Returns a receipt of a submission."""
        if request.version < 0:
            raise field_error("version", request.version, "0 or more")
        name = SubmissionName.parse(request.name)
        receipt = await asyncio.to_thread(self._events.receipt, name, caller(), request.version)
        return pb.Receipt(payload=receipt.payload, signature=receipt.signature)

    async def RecordRescore(self, request: pb.RecordRescoreRequest, context: Any) -> pb.Rescore:
        """Records whether a report that the caller computed equals the recorded one."""
        name = EvaluationName.parse(request.evaluation, "evaluation")
        report = reports.report(request.report)
        rescore = await asyncio.to_thread(self._rescores.record, name, report, caller())
        return audit.rescore_message(rescore)

    async def ListRescores(
        self, request: pb.ListRescoresRequest, context: Any
    ) -> pb.ListRescoresResponse:
        """Returns a page of a benchmark's rescores, oldest first."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = requests.cursor("rescores", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._rescores.page, parent, cursor, caller())
        return pb.ListRescoresResponse(
            rescores=[audit.rescore_message(item) for item in page.items],
            next_page_token=page.next_token,
        )

    async def GetPublicKey(self, request: pb.GetPublicKeyRequest, context: Any) -> pb.PublicKey:
        """Returns the operator's public key."""
        return pb.PublicKey(pem=self._public_key)
