"""What of a record its reader sees. Whom to ask, what went wrong inside and where an endpoint is,
strangers do not."""

from __future__ import annotations

from cxreval.api.registry.v1 import evaluation_service_pb2 as evaluation_pb
from cxreval.api.registry.v1 import submission_pb2
from services.chassis.principal import caller
from services.registry.convert import evaluations, submissions
from services.registry.domain.records import Evaluation, Submission

_OF_AN_ENDPOINT = "endpoint_"
"""How the provenance's keys begin that say where an endpoint is and what its server says of
itself."""


def submission_message(found: Submission) -> submission_pb2.Submission:
    """A submission for the caller: contact, endpoint and failure only if it is theirs to know."""
    message = submissions.submission_message(found)
    if not caller().knows(found.owner):
        message.ClearField("failure")
        message.manifest.ClearField("contact")
        message.manifest.ClearField("endpoint")
    return message


def evaluation_message(found: Evaluation) -> evaluation_pb.Evaluation:
    """An evaluation for the caller: its failure, worker and endpoint only if it is theirs to
    know."""
    message = evaluations.evaluation_message(found)
    if not caller().knows(found.owner):
        message.ClearField("failure")
        message.ClearField("worker")
        for key in [key for key in message.provenance if key.startswith(_OF_AN_ENDPOINT)]:
            del message.provenance[key]
    return message
