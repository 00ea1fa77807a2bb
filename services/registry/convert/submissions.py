"""Converts submissions, their manifests and events."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import date

from cxreval.api.registry.v1 import submission_pb2 as pb
from cxreval.bundle import MAX_FILES
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.training_list import unpacked
from cxreval.errors import CxrevalError
from cxreval.fields import field_error, not_allowed, require
from cxreval.manifest.model import MAX_CLAIMS, Kind, Manifest
from cxreval.manifest.rules import problems, refusal
from cxreval.records import Part
from cxreval.resource_names import EvaluationName, SubmissionName
from cxreval.wire.codec import Decoder, Encoder
from cxreval.wire.limits import MAX_TOKEN_CHARACTERS
from services.registry.domain.records import Event, Submission
from services.registry.domain.states import fewest_requests_per_second

_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN_CHARACTERS}}}")


def checked_manifest(message: pb.Manifest, spec: BenchmarkSpec, today: date) -> Manifest:
    """Returns the valid manifest of a submission to the benchmark `spec`. `today` is in UTC.

    Raises:
        CxrevalError: the first error of an invalid manifest, with all others in its `also`.
    """
    # One too many is refused; no more are read.
    del message.claimed_metrics[MAX_CLAIMS + 1 :]
    del message.files[MAX_FILES + 1 :]
    errors: list[CxrevalError] = []
    declared = manifest(message, errors)
    malformed = {error.metadata["field"] for error in errors}
    broken_rules = [*problems(declared, today, spec), *_too_slow(declared, spec.image_count)]
    errors += [error for error in broken_rules if error.metadata["field"] not in malformed]
    if errors:
        raise refusal(errors)
    return declared


def _too_slow(manifest: Manifest, images: int) -> Iterator[CxrevalError]:
    """Yields an error if the request rate is too low to evaluate the endpoint in time."""
    fewest = fewest_requests_per_second(images)
    if manifest.endpoint and 0 < manifest.endpoint.requests_per_second < fewest:
        expected = f"at least {math.ceil(100 * fewest) / 100:g}, for {images} images in half a day"
        yield field_error(
            "manifest.endpoint.requests_per_second", manifest.endpoint.requests_per_second, expected
        )


def endpoint_token(token: str, manifest: Manifest) -> str:
    """Returns the valid token of an endpoint; errors do not repeat it. Raises `MalformedField`."""
    if token and manifest.kind is not Kind.ENDPOINT:
        raise not_allowed("endpoint_token", f"kind {manifest.kind}")
    if token and not _TOKEN.fullmatch(token):
        raise field_error(
            "endpoint_token",
            "malformed",
            f"1 to {MAX_TOKEN_CHARACTERS} printable ASCII characters without spaces",
        )
    return token


def part(number: int, field: str) -> Part:
    """Returns what a file of a submission is. Raises `MissingField`, `MalformedField`."""
    known = pb.SubmissionFile.Part
    expected = f"one of {', '.join(known.keys()[1:])}"
    require(field, number, expected)
    if number not in known.values():
        raise field_error(field, number, expected)
    return Part(known.Name(number).removeprefix("PART_").lower())


def training_list(sent: bytes, manifest: Manifest) -> bytes:
    """Returns the valid training list of a submission, compressed; empty for none.

    Raises:
        MalformedField: the manifest declares no training data.
        TrainingListInvalid, DigestMismatch: as `unpacked`.
    """
    if manifest.training_data:
        unpacked(sent, manifest.training_data)
    elif sent:
        raise not_allowed("training_list", "a manifest without training_data")
    return sent


def submission_name(submission: Submission) -> str:
    """Returns the resource name of a submission."""
    return str(SubmissionName(submission.benchmark, submission.id))


def evaluation_name(submission: Submission) -> str:
    """Returns the resource name of the latest evaluation of a submission; empty if it has none."""
    latest = submission.evaluation
    return str(EvaluationName(submission.benchmark, submission.id, latest)) if latest else ""


def _successor_name(submission: Submission) -> str:
    successor = submission.superseded_by
    return str(SubmissionName(submission.benchmark, successor)) if successor else ""


manifest = Decoder(Manifest, pb.Manifest, unknown=field_error)

submission_message = Encoder(
    Submission,
    pb.Submission,
    sources={"time_left": "seconds_left"},
    computed={
        "name": submission_name,
        "evaluation": evaluation_name,
        "etag": lambda submission: str(submission.version),
        "superseded_by": _successor_name,
    },
    unsent=("benchmark", "id", "original", "version", "owner"),
)
event_message = Encoder(Event, pb.SubmissionEvent, unsent=("id",))
