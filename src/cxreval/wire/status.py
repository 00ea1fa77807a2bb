"""Converts errors of `cxreval.errors` to gRPC statuses and back.

A status has a `google.rpc.ErrorInfo` with the reason, the domain and the error's metadata. For an
overload or a quota it also has a `google.rpc.RetryInfo`, and for several errors at once a
`google.rpc.BadRequest` with as many of them as fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from cxreval import errors

DOMAIN = "cxreval"
DETAILS_KEY = "grpc-status-details-bin"

RETRY_SECONDS = (0.01, 60.0)
"""Minimum and maximum delay, in seconds, after which a caller may retry an overloaded service."""

_INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
_FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

CODES: dict[type[errors.CxrevalError], grpc.StatusCode] = {
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.MalformedField: _INVALID_ARGUMENT,
    errors.FieldsContradict: _INVALID_ARGUMENT,
    errors.MissingField: _INVALID_ARGUMENT,
    errors.UnknownValue: _FAILED_PRECONDITION,
    errors.UnknownRpc: grpc.StatusCode.UNIMPLEMENTED,
    errors.InvalidPageToken: _INVALID_ARGUMENT,
    errors.MalformedStream: _INVALID_ARGUMENT,
    errors.EmptyStream: _INVALID_ARGUMENT,
    errors.RequestIdReused: _ALREADY_EXISTS,
    errors.ServiceOverloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ServiceUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DatabaseDamaged: grpc.StatusCode.DATA_LOSS,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.StreamIdle: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.KeyMissing: grpc.StatusCode.UNAUTHENTICATED,
    errors.KeyUnknown: grpc.StatusCode.UNAUTHENTICATED,
    errors.KeyExpired: grpc.StatusCode.UNAUTHENTICATED,
    errors.KeyRevoked: grpc.StatusCode.UNAUTHENTICATED,
    errors.RoleRequired: grpc.StatusCode.PERMISSION_DENIED,
    errors.OwnerRequired: grpc.StatusCode.PERMISSION_DENIED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OrganisationNotFound: _NOT_FOUND,
    errors.OrganisationExists: _ALREADY_EXISTS,
    errors.ApiKeyExists: _ALREADY_EXISTS,
    errors.ApiKeyNotFound: _NOT_FOUND,
    errors.KeyNeedsTls: _FAILED_PRECONDITION,
    errors.CertificateNotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.BenchmarkNotFound: _NOT_FOUND,
    errors.BenchmarkExists: _ALREADY_EXISTS,
    errors.BenchmarkRetired: _FAILED_PRECONDITION,
    errors.BenchmarkDigestMismatch: _FAILED_PRECONDITION,
    errors.ImageListMissing: _FAILED_PRECONDITION,
    errors.ImageListMismatch: _INVALID_ARGUMENT,
    errors.TruthNotFound: _NOT_FOUND,
    errors.DatasetInvalid: _FAILED_PRECONDITION,
    errors.CommitNotFrozen: _INVALID_ARGUMENT,
    errors.UnknownProfile: _INVALID_ARGUMENT,
    errors.UnknownFinding: _INVALID_ARGUMENT,
    errors.OutputsIncomplete: _INVALID_ARGUMENT,
    errors.UnknownMetric: _INVALID_ARGUMENT,
    errors.SubmissionNotFound: _NOT_FOUND,
    errors.AmbiguousName: _INVALID_ARGUMENT,
    errors.SubmissionState: _FAILED_PRECONDITION,
    errors.StaleEtag: grpc.StatusCode.ABORTED,
    errors.EvaluationNotFound: _NOT_FOUND,
    errors.LeaseLost: _FAILED_PRECONDITION,
    errors.PredictionsUnconfirmed: _FAILED_PRECONDITION,
    errors.ReportMismatch: _INVALID_ARGUMENT,
    errors.ReportNotFound: _NOT_FOUND,
    errors.NotComparable: _FAILED_PRECONDITION,
    errors.WorkerError: grpc.StatusCode.INTERNAL,
    errors.ArtifactNotFound: _NOT_FOUND,
    errors.ArtifactCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.DigestMismatch: _INVALID_ARGUMENT,
    errors.ArtifactIncomplete: _INVALID_ARGUMENT,
    errors.ArtifactTooLarge: _INVALID_ARGUMENT,
    errors.UploadOffset: grpc.StatusCode.OUT_OF_RANGE,
    errors.UploadBusy: grpc.StatusCode.ABORTED,
    errors.ArtifactStoreRefused: _FAILED_PRECONDITION,
    errors.MalformedBatch: _INVALID_ARGUMENT,
    errors.TableInvalid: _INVALID_ARGUMENT,
    errors.UnknownImage: _INVALID_ARGUMENT,
    errors.DuplicateImage: _INVALID_ARGUMENT,
    errors.MissingImages: _INVALID_ARGUMENT,
    errors.ImageUnreadable: _INVALID_ARGUMENT,
    errors.ImageTooLarge: _INVALID_ARGUMENT,
    errors.ImageNotCached: _NOT_FOUND,
    errors.InvalidTensor: _INVALID_ARGUMENT,
    errors.ModelNotFound: _NOT_FOUND,
    errors.InvalidProbability: _INVALID_ARGUMENT,
    errors.PredictionsInvalid: _INVALID_ARGUMENT,
    errors.EndpointUnavailable: _FAILED_PRECONDITION,
    errors.EndpointRefused: _FAILED_PRECONDITION,
    errors.ModelNotOnnx: _FAILED_PRECONDITION,
    errors.ModelExternalData: _FAILED_PRECONDITION,
    errors.BundleInvalid: _FAILED_PRECONDITION,
    errors.ModelUnsupported: _FAILED_PRECONDITION,
    errors.ModelCrashed: _FAILED_PRECONDITION,
    errors.ModelTooSlow: _FAILED_PRECONDITION,
    errors.ModelTooLarge: _FAILED_PRECONDITION,
    errors.ModelInputMismatch: _FAILED_PRECONDITION,
    errors.ModelOutputMismatch: _FAILED_PRECONDITION,
    errors.NotDeterministic: _FAILED_PRECONDITION,
    errors.ConversionUnavailable: _FAILED_PRECONDITION,
    errors.CheckpointUnreadable: _INVALID_ARGUMENT,
    errors.CheckpointMismatch: _FAILED_PRECONDITION,
    errors.ExtraMissing: _FAILED_PRECONDITION,
    errors.SandboxUnavailable: _FAILED_PRECONDITION,
    errors.DownloadFailed: grpc.StatusCode.UNAVAILABLE,
    errors.ParityFailed: _FAILED_PRECONDITION,
    errors.AuditMismatch: grpc.StatusCode.DATA_LOSS,
    errors.ReceiptNotFound: _NOT_FOUND,
    errors.ReceiptInvalid: _INVALID_ARGUMENT,
    errors.KeyUnreadable: _FAILED_PRECONDITION,
    errors.SourceBundleUnreadable: _FAILED_PRECONDITION,
    errors.CommitNotInBundle: _FAILED_PRECONDITION,
    errors.SourceTreeRefused: _FAILED_PRECONDITION,
    errors.LockRefused: _FAILED_PRECONDITION,
    errors.EnvironmentUnsupported: _FAILED_PRECONDITION,
    errors.EnvironmentUnavailable: _FAILED_PRECONDITION,
    errors.PredictionsMissing: _INVALID_ARGUMENT,
    errors.ScriptFailed: _FAILED_PRECONDITION,
    errors.ScriptTimeout: _FAILED_PRECONDITION,
    errors.ScriptOutOfMemory: _FAILED_PRECONDITION,
    errors.ScriptOverLimit: _FAILED_PRECONDITION,
    errors.TrainingListInvalid: _INVALID_ARGUMENT,
    errors.TrainingListUnavailable: _FAILED_PRECONDITION,
    errors.NoSignificantChange: _FAILED_PRECONDITION,
}

_TRANSPORT_ERRORS: dict[grpc.StatusCode, type[errors.CxrevalError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ServiceUnavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ServiceOverloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.ServiceUnavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnknownRpc,
}


# A client refuses trailing metadata above 8 KiB. The metadata has the message twice:
# percent-encoded, and in the details, which are in base64.
_MESSAGE_BYTES = 1000
_VALUE_BYTES = 250
_VIOLATION_BYTES = 300
_DETAILS_BYTES = 3600


def to_status(error: errors.CxrevalError) -> tuple[grpc.StatusCode, str, bytes]:
    """Returns the gRPC code, the message, and the serialised `google.rpc.Status` of an error."""
    code, message = CODES[type(error)], _cut(error.message, _MESSAGE_BYTES)
    metadata = {key: _cut(value, _VALUE_BYTES) for key, value in error.metadata.items()}
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    )
    delay = _retry_seconds(error)
    if delay is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(delay * 1e9))
        status.details.add().Pack(retry)
    if error.also:
        status.details.add().Pack(
            _violations([error, *error.also], _DETAILS_BYTES - status.ByteSize())
        )
    return code, message, status.SerializeToString()


def _retry_seconds(error: errors.CxrevalError) -> float | None:
    """Returns how long a caller should wait before a retry; None if that is unknown."""
    if isinstance(error, errors.ServiceOverloaded):
        return min(
            max(float(error.metadata.get("retry_seconds", 1)), RETRY_SECONDS[0]), RETRY_SECONDS[1]
        )
    if isinstance(error, errors.QuotaExceeded) and "retry_seconds" in error.metadata:
        return float(error.metadata["retry_seconds"])
    return None


def _violations(
    problems: Sequence[errors.CxrevalError], most_bytes: int
) -> error_details_pb2.BadRequest:
    """Returns as many of the errors as fit; the last one counts those that are left out."""
    bad = error_details_pb2.BadRequest()
    for number, error in enumerate(problems):
        bad.field_violations.add(
            field=_cut(error.metadata.get("field", ""), _VALUE_BYTES),
            description=_cut(error.message, _VIOLATION_BYTES),
            reason=error.reason,
        )
        if bad.ByteSize() > most_bytes:
            bad.field_violations[number].Clear()
            bad.field_violations[number].description = f"and {len(problems) - number} more"
            bad.field_violations[number].reason = errors.MalformedField.reason
            break
    return bad


def _cut(text: str, most: int) -> str:
    """Returns the text, cut to a number of bytes in UTF-8; a cut text ends with `...`."""
    encoded = text.encode(errors="replace")  # a lone surrogate is not valid in protobuf
    return (
        encoded.decode()
        if len(encoded) <= most
        else f"{encoded[: most - 3].decode(errors='ignore')}..."
    )


def from_rpc_error(error: grpc.RpcError) -> errors.CxrevalError:
    """Returns the error that the service raised, or the named error for a transport failure."""
    return service_error(error) or transport_error(error)


def service_error(error: grpc.RpcError) -> errors.CxrevalError | None:
    """Returns the error that the service raised; None for a failure of the transport."""
    metadata: Any = error.trailing_metadata() or ()
    details = dict(metadata).get(DETAILS_KEY)
    return from_details(details) if isinstance(details, bytes) else None


def transport_error(error: grpc.RpcError) -> errors.CxrevalError:
    """Returns the named error for a failure of the transport."""
    kind = _TRANSPORT_ERRORS.get(error.code(), errors.InternalError)
    return kind(f"{error.code().name}: {error.details()}")


def from_details(details: bytes) -> errors.CxrevalError | None:
    """Returns the error in a serialised `google.rpc.Status`; None if it has another domain."""
    status = status_pb2.Status.FromString(details)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    named = None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            kind = errors.CxrevalError.by_reason.get(info.reason, errors.InternalError)
            named = kind(status.message, **dict(info.metadata))
        elif named and detail.Unpack(bad):
            named.also = tuple(_violation(violation) for violation in bad.field_violations[1:])
    return named


def _violation(message: error_details_pb2.BadRequest.FieldViolation) -> errors.CxrevalError:
    """Returns the error in a violation."""
    kind = errors.CxrevalError.by_reason.get(message.reason, errors.InternalError)
    return kind(message.description, field=message.field)
