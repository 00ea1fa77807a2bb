"""Converts the links and the head of the audit chain."""

from __future__ import annotations

from datetime import datetime

from cxreval.api.registry.v1 import audit_service_pb2 as pb
from cxreval.api.registry.v1 import submission_pb2
from cxreval.audit.chain import AuditEvent, Head
from cxreval.wire.codec import Encoder
from services.registry.domain.records import Rescore


def link_message(link: AuditEvent) -> pb.AuditLink:
    """Returns a link of the audit chain as a message."""
    if link.is_sealed:
        return pb.AuditLink(place=link.place, digest=link.digest)
    event = submission_pb2.SubmissionEvent(
        submission=link.submission,
        version=link.version,
        change=f"CHANGE_{link.change.upper()}",
        state=f"STATE_{link.state.upper() or 'UNSPECIFIED'}",
        actor=link.actor,
        reason=link.reason,
        details=link.details,
        time=datetime.fromisoformat(link.time),
    )
    return pb.AuditLink(
        place=link.place,
        event=event,
        digest=link.digest,
        number=link.number,
        id=link.id,
        request_id=link.request_id,
    )


head_message = Encoder(Head, pb.AuditHead)
rescore_message = Encoder(Rescore, pb.Rescore, unsent=("id",))
