"""What of a record its reader sees. Whom to ask, what went wrong inside and where an endpoint is, strangers do not."""

from __future__ import annotations

from dataclasses import replace

from cxreval.api.registry.v1 import evaluation_service_pb2 as evaluation_pb
from cxreval.api.registry.v1 import submission_pb2
from services.chassis.principal import caller
from services.registry import convert
from services.registry.domain.records import PRIVATE_CHANGES, Evaluation, Event, Submission


def submission_message(found: Submission) -> submission_pb2.Submission:
    """A submission for the caller: contact, endpoint and failure only if it is theirs to know."""
    message = convert.submission_message(found)
    if not caller().knows(found.owner):
        message.ClearField("failure")
        message.manifest.ClearField("contact")
        message.manifest.ClearField("endpoint")
    return message


def evaluation_message(found: Evaluation) -> evaluation_pb.Evaluation:
    """An evaluation for the caller: its failure and its worker only if it is theirs to know."""
    message = convert.evaluation_message(found)
    if not caller().knows(found.owner):
        message.ClearField("failure")
        message.ClearField("worker")
    return message


def event_message(found: Event) -> submission_pb2.SubmissionEvent:
    """An event for the caller: what went wrong inside only if it is theirs to know."""
    hidden = found.change in PRIVATE_CHANGES and not caller().knows(found.owner)
    return convert.event_message(replace(found, reason="", details={}) if hidden else found)
