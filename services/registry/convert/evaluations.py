"""Converts evaluations, leases and predictions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.message import Message

from cxreval.api.registry.v1 import evaluation_service_pb2 as pb
from cxreval.api.registry.v1 import submission_pb2
from cxreval.api.scoring.v1 import report_pb2
from cxreval.errors import InvalidProbability, MalformedBatch
from cxreval.fields import check_pattern, check_text, field_error, printable, require
from cxreval.records import Canaries, Failure, Usage
from cxreval.resource_names import BenchmarkName, EvaluationName
from cxreval.wire import reports
from cxreval.wire.codec import Decoder, Encoder
from cxreval.wire.limits import (
    MAX_BATCH_IMAGES,
    MAX_FAILURE_CHARACTERS,
    MAX_OUTPUT_BYTES,
    MAX_PROVENANCE_CHARACTERS,
    MAX_PROVENANCE_ENTRIES,
)
from services.registry.convert.benchmarks import benchmark_message
from services.registry.convert.submissions import submission_message
from services.registry.domain.records import Evaluation, Lease, PredictionBatch, ScriptRun

MAX_WORKER_CHARACTERS = 200
MAX_LEASE_BENCHMARKS = 100
MAX_IMAGE_CHARACTERS = 255

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_PROVENANCE_KEY = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(_[a-z0-9]+)*")


def worker(
    request: pb.LeaseEvaluationRequest,
) -> tuple[str, list[BenchmarkName], list[BenchmarkName]]:
    """Returns the worker's name, and its benchmarks with and without images.

    Raises `MissingField`, `MalformedField`.
    """
    check_text("worker", request.worker, MAX_WORKER_CHARACTERS)
    with_images = _benchmarks("benchmarks", request.benchmarks)
    without = _benchmarks("benchmarks_without_images", request.benchmarks_without_images)
    require("benchmarks", with_images or without, "at least one benchmarks/{benchmark}")
    return request.worker, with_images, without


def _benchmarks(field: str, names: Sequence[str]) -> list[BenchmarkName]:
    if len(names) > MAX_LEASE_BENCHMARKS:
        raise field_error(field, f"a list of {len(names)}", f"at most {MAX_LEASE_BENCHMARKS}")
    return [BenchmarkName.parse(name, f"{field}[{index}]") for index, name in enumerate(names)]


def batch(message: report_pb2.PredictionBatch) -> PredictionBatch:
    """Returns the predictions to record. Raises `MalformedBatch`, `InvalidProbability`."""
    images = tuple(message.images)
    if not 0 < len(images) <= MAX_BATCH_IMAGES:
        raise field_error(
            "batch.images",
            f"a list of {len(images)}",
            f"1 to {MAX_BATCH_IMAGES} images",
            MalformedBatch,
        )
    for index, image in enumerate(images):
        if not (0 < len(image) <= MAX_IMAGE_CHARACTERS and image.isprintable()):
            expected = f"a file name of 1 to {MAX_IMAGE_CHARACTERS} printable characters"
            raise field_error(f"batch.images[{index}]", image, expected, MalformedBatch)
    if len(set(images)) != len(images):
        raise field_error(
            "batch.images", "a list with repeated images", "each image once", MalformedBatch
        )
    values = reports.probabilities(message)
    if values.size % len(images):
        expected = f"the same number for each of the {len(images)} images"
        raise field_error(
            "batch.probabilities", f"a list of {values.size}", expected, MalformedBatch
        )
    invalid = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if invalid.size:
        first = int(invalid[0])
        image = images[first // (values.size // len(images))]
        expected = "a finite number from 0 to 1"
        raise field_error(
            f"batch.probabilities[{first}]",
            values[first],
            expected,
            InvalidProbability,
            image=image,
        )
    return PredictionBatch(
        images, tuple(row.astype("<f4").tobytes() for row in values.reshape(len(images), -1))
    )


def provenance(entries: Mapping[str, str]) -> dict[str, str]:
    """Returns provenance with spaces for unprintable characters. Raises `MalformedField`."""
    if len(entries) > MAX_PROVENANCE_ENTRIES:
        raise field_error(
            "provenance", f"a map of {len(entries)}", f"at most {MAX_PROVENANCE_ENTRIES} entries"
        )
    for key, value in entries.items():
        if not _PROVENANCE_KEY.fullmatch(key):
            raise field_error(
                "provenance",
                key,
                "keys of lower-case words joined by underscores, at most 64 characters",
            )
        if len(value) > MAX_PROVENANCE_CHARACTERS:
            raise field_error(
                f"provenance.{key}", value, f"at most {MAX_PROVENANCE_CHARACTERS} characters"
            )
    return {key: printable(value) for key, value in entries.items()}


def failure(message: submission_pb2.Failure) -> Failure:
    """Returns a worker's failure; cuts a long message and replaces unprintable characters.

    The message may quote submitted files and endpoints, and is shown on terminals and pages.

    Raises:
        MissingField, MalformedField: reason or fault is missing or malformed.
    """
    check_pattern("failure.reason", message.reason, _REASON, "a name such as MODEL_OUTPUT_MISMATCH")
    sent = _failure(message)
    text = printable(sent.message[:MAX_FAILURE_CHARACTERS])
    return Failure(sent.reason, text, sent.fault)


def script_run(message: pb.CompleteEvaluationRequest | pb.FailEvaluationRequest) -> ScriptRun:
    """Returns what a worker states of a run of the submitter's script. Raises `MalformedField`."""
    if len(message.output) > MAX_OUTPUT_BYTES:
        found = f"{len(message.output)} bytes"
        raise field_error("output", found, f"at most {MAX_OUTPUT_BYTES} bytes")
    return ScriptRun(
        usage=_checked_usage(message, "usage"),
        limits=_checked_usage(message, "limits"),
        canaries=_checked_canaries(message),
        output=message.output,
    )


def _checked_usage(message: Message, field: str) -> Usage | None:
    if not message.HasField(field):
        return None
    stated = _usage(getattr(message, field))
    for item in dataclasses.fields(Usage):
        value = getattr(stated, item.name)
        if value < 0:
            raise field_error(f"{field}.{item.name}", value, "0 or more")
    return stated


def _checked_canaries(
    message: pb.CompleteEvaluationRequest | pb.FailEvaluationRequest,
) -> Canaries | None:
    if isinstance(message, pb.FailEvaluationRequest) or not message.HasField("canaries"):
        return None
    stated = _canaries(message.canaries)
    for field, good, expected in (
        ("images", stated.images >= 1, "1 or more"),
        ("flagged", 0 <= stated.flagged <= stated.images, f"0 to {stated.images}"),
        ("median_difference", 0 <= stated.median_difference <= 1, "0 to 1"),
    ):
        if not good:
            raise field_error(f"canaries.{field}", getattr(stated, field), expected)
    return stated


def lease_message(lease: Lease, endpoint_token: str = "", training_list: bytes = b"") -> pb.Lease:
    """Returns a lease as a message, with the token of its endpoint and its training list."""
    message = _lease_message(lease)
    message.endpoint_token = endpoint_token
    message.training_list = training_list
    return message


def batch_message(batch: PredictionBatch) -> report_pb2.PredictionBatch:
    """Returns recorded predictions as a message."""
    return report_pb2.PredictionBatch(images=batch.images, probabilities=b"".join(batch.rows))


_usage = Decoder(Usage, pb.Usage)
_canaries = Decoder(Canaries, pb.Canaries)
_failure = Decoder(Failure, submission_pb2.Failure, unknown=field_error)

evaluation_message = Encoder(
    Evaluation,
    pb.Evaluation,
    computed={
        "name": lambda evaluation: str(
            EvaluationName(evaluation.benchmark, evaluation.submission, evaluation.id)
        )
    },
    unsent=("benchmark", "submission", "id", "owner"),
    nested=[reports.report_message],
)
_lease_message = Encoder(
    Lease,
    pb.Lease,
    sources={"duration": "seconds"},
    computed={"benchmark": lambda lease: benchmark_message(lease.benchmark)},
    unset=("endpoint_token", "training_list"),
    nested=[evaluation_message, submission_message],
)
