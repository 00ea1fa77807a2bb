"""Every error cxreval names: one family, one class a reason.

A reason is what programs match on; the message is what people read. `wire/status.py` maps reasons
to gRPC codes and back, so the same class is raised in the service and at the caller. Nothing here
knows about gRPC.
"""

from __future__ import annotations

from typing import ClassVar


class CxrevalError(Exception):
    """Base of the family. `metadata` repeats every dynamic word of the message, so that programs
    need not parse it.

    `also`: what else is wrong, where several things were looked at together.
    """

    reason: ClassVar[str] = "INTERNAL"
    by_reason: ClassVar[dict[str, type[CxrevalError]]] = {}
    """Every class of the family by its reason."""

    def __init__(
        self, message: str, *, field: str = "", expected: str = "", **metadata: object
    ) -> None:
        super().__init__(message)
        self.message = message
        self.also: tuple[CxrevalError, ...] = ()
        named = {"field": field, "expected": expected} | metadata
        self.metadata: dict[str, str] = {
            key: str(value) for key, value in named.items() if value != ""
        }

    def __init_subclass__(cls) -> None:
        if "reason" not in cls.__dict__:
            return  # a group of errors, such as SubmissionFault
        if cls.reason in CxrevalError.by_reason:
            raise TypeError(f"reason {cls.reason} is taken")
        CxrevalError.by_reason[cls.reason] = cls


class InternalError(CxrevalError):
    """A defect of the service; the cause is in its log."""

    reason = "INTERNAL"


# --- requests -------------------------------------------------------------------------------------


class MalformedField(CxrevalError):
    """A field has the wrong form."""

    reason = "MALFORMED_FIELD"


class MissingField(CxrevalError):
    """A required field is empty."""

    reason = "MISSING_FIELD"


class UnknownValue(CxrevalError):
    """An answer has an enum value that this version does not know; upgrade the client."""

    reason = "UNKNOWN_VALUE"


class InvalidPageToken(CxrevalError):
    """A page token was not given out by this service, or for another list."""

    reason = "INVALID_PAGE_TOKEN"


class MalformedStream(CxrevalError):
    """Messages of a stream came in the wrong order."""

    reason = "MALFORMED_STREAM"


class EmptyStream(CxrevalError):
    """A stream ended before it said anything."""

    reason = "EMPTY_STREAM"


class RequestIdReused(CxrevalError):
    """A request id was used before with other content."""

    reason = "REQUEST_ID_REUSED"


class ServiceOverloaded(CxrevalError):
    """A queue is full; try again later."""

    reason = "SERVICE_OVERLOADED"


class ServiceUnavailable(CxrevalError):
    """The service cannot be reached or drains; try again."""

    reason = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(CxrevalError):
    """The call's deadline passed."""

    reason = "DEADLINE_EXCEEDED"


# --- access ---------------------------------------------------------------------------------------


class KeyMissing(CxrevalError):
    """The call needs an API key and brings none."""

    reason = "KEY_MISSING"


class KeyUnknown(CxrevalError):
    """No API key has this identifier and this secret."""

    reason = "KEY_UNKNOWN"


class KeyExpired(CxrevalError):
    """The API key was good until a moment that has passed."""

    reason = "KEY_EXPIRED"


class KeyRevoked(CxrevalError):
    """The API key was taken back."""

    reason = "KEY_REVOKED"


class RoleRequired(CxrevalError):
    """The caller's role does not include the call."""

    reason = "ROLE_REQUIRED"


class OwnerRequired(CxrevalError):
    """The submission is another organisation's: it can be read, not changed."""

    reason = "OWNER_REQUIRED"


class QuotaExceeded(CxrevalError):
    """The organisation has used up what it may."""

    reason = "QUOTA_EXCEEDED"


class OrganisationNotFound(CxrevalError):
    """No organisation has this name."""

    reason = "ORGANISATION_NOT_FOUND"


class OrganisationExists(CxrevalError):
    """The name belongs to another organisation."""

    reason = "ORGANISATION_EXISTS"


class ApiKeyExists(CxrevalError):
    """The request came before and created a key, whose text is not shown again."""

    reason = "API_KEY_EXISTS"


class ApiKeyNotFound(CxrevalError):
    """The organisation has no key of this name."""

    reason = "API_KEY_NOT_FOUND"


class KeyNeedsTls(CxrevalError):
    """A key would travel in plain text over a network."""

    reason = "KEY_NEEDS_TLS"


class CertificateNotAllowed(CxrevalError):
    """The client's certificate has none of the names that may call this service."""

    reason = "CERTIFICATE_NOT_ALLOWED"


# --- benchmarks and data sets ---------------------------------------------------------------------


class BenchmarkNotFound(CxrevalError):
    """No benchmark has this name."""

    reason = "BENCHMARK_NOT_FOUND"


class BenchmarkExists(CxrevalError):
    """The name belongs to a benchmark with another specification."""

    reason = "BENCHMARK_EXISTS"


class BenchmarkDigestMismatch(CxrevalError):
    """Two parties hold different specifications under one benchmark name."""

    reason = "BENCHMARK_DIGEST_MISMATCH"


class TruthNotFound(CxrevalError):
    """This scoring service does not hold the labels of the benchmark."""

    reason = "TRUTH_NOT_FOUND"


class DatasetInvalid(CxrevalError):
    """Files of a data set are missing or differ from the benchmark's specification."""

    reason = "DATASET_INVALID"


# --- submissions and evaluations ------------------------------------------------------------------


class CommitNotFrozen(CxrevalError):
    """A reproduction names a branch or tag where a commit belongs."""

    reason = "COMMIT_NOT_FROZEN"


class UnknownProfile(CxrevalError):
    """No preprocessing profile has this name."""

    reason = "UNKNOWN_PROFILE"


class UnknownFinding(CxrevalError):
    """The benchmark has no finding of this name."""

    reason = "UNKNOWN_FINDING"


class OutputsIncomplete(CxrevalError):
    """The output names do not hold every finding of the benchmark exactly once."""

    reason = "OUTPUTS_INCOMPLETE"


class UnknownMetric(CxrevalError):
    """The benchmark has no metric of this name."""

    reason = "UNKNOWN_METRIC"


class SubmissionNotFound(CxrevalError):
    """No submission has this name."""

    reason = "SUBMISSION_NOT_FOUND"


class SubmissionState(CxrevalError):
    """The submission's state does not allow the call."""

    reason = "SUBMISSION_STATE"


class StaleEtag(CxrevalError):
    """The submission has changed since it was read."""

    reason = "STALE_ETAG"


class EvaluationNotFound(CxrevalError):
    """No evaluation has this name."""

    reason = "EVALUATION_NOT_FOUND"


class LeaseLost(CxrevalError):
    """The lease ran out or belongs to another worker."""

    reason = "LEASE_LOST"


class ReportMismatch(CxrevalError):
    """A report belongs to another benchmark, or differs from the one already recorded."""

    reason = "REPORT_MISMATCH"


class ReportNotFound(CxrevalError):
    """The evaluation has no report."""

    reason = "REPORT_NOT_FOUND"


class NotComparable(CxrevalError):
    """An entry has no score that was computed here, so there is nothing to compare."""

    reason = "NOT_COMPARABLE"


class WorkerError(CxrevalError):
    """A worker came upon something that nobody thought of while it ran an evaluation; the cause is
    in its log."""

    reason = "WORKER_ERROR"


# --- artifacts ------------------------------------------------------------------------------------


class ArtifactNotFound(CxrevalError):
    """No artifact has this digest."""

    reason = "ARTIFACT_NOT_FOUND"


class ArtifactCorrupt(CxrevalError):
    """Stored bytes no longer have their digest."""

    reason = "ARTIFACT_CORRUPT"


class DigestMismatch(CxrevalError):
    """Uploaded bytes do not have the declared digest."""

    reason = "DIGEST_MISMATCH"


class ArtifactIncomplete(CxrevalError):
    """An upload ended before its declared size."""

    reason = "ARTIFACT_INCOMPLETE"


class ArtifactTooLarge(CxrevalError):
    """An artifact is larger than the limit, or than it declared."""

    reason = "ARTIFACT_TOO_LARGE"


class UploadOffset(CxrevalError):
    """An upload goes on at another byte than the first that is missing."""

    reason = "UPLOAD_OFFSET"


class UploadBusy(CxrevalError):
    """Another call uploads the same artifact at this moment."""

    reason = "UPLOAD_BUSY"


class ArtifactStoreRefused(CxrevalError):
    """The object store does not let the registry keep artifacts: wrong credentials, or no such
    bucket."""

    reason = "ARTIFACT_STORE_REFUSED"


# --- predictions ----------------------------------------------------------------------------------


class MalformedBatch(CxrevalError):
    """A batch of predictions has the wrong number of values, or too many images."""

    reason = "MALFORMED_BATCH"


class TableInvalid(CxrevalError):
    """A file of predictions cannot be read as a table with one row an image and one column a
    finding."""

    reason = "TABLE_INVALID"


class UnknownImage(CxrevalError):
    """A prediction names an image outside the benchmark."""

    reason = "UNKNOWN_IMAGE"


class DuplicateImage(CxrevalError):
    """An image is predicted twice with different values."""

    reason = "DUPLICATE_IMAGE"


class MissingImages(CxrevalError):
    """Images of the benchmark have no prediction."""

    reason = "MISSING_IMAGES"


# --- images and tensors ---------------------------------------------------------------------------


class ImageUnreadable(CxrevalError):
    """Bytes are not a complete PNG, JPEG or gray DICOM image."""

    reason = "IMAGE_UNREADABLE"


class ImageTooLarge(CxrevalError):
    """An image has more bytes or pixels than the limit."""

    reason = "IMAGE_TOO_LARGE"


class ImageNotCached(CxrevalError):
    """An image was named by its digest only, and this server has not seen it for this profile; send
    its bytes."""

    reason = "IMAGE_NOT_CACHED"


class InvalidTensor(CxrevalError):
    """An input tensor has the wrong name, type, shape or length."""

    reason = "INVALID_TENSOR"


class ModelNotFound(CxrevalError):
    """The model is not loaded here."""

    reason = "MODEL_NOT_FOUND"


class SubmissionFault(CxrevalError):
    """What a submission is to blame for: running it again would fail again."""


class InvalidProbability(SubmissionFault):
    """A probability is NaN, infinite or outside [0, 1]."""

    reason = "INVALID_PROBABILITY"


class PredictionsInvalid(SubmissionFault):
    """A submitted table of predictions cannot be read, or does not have exactly the benchmark's
    images."""

    reason = "PREDICTIONS_INVALID"


class EndpointUnavailable(SubmissionFault):
    """An endpoint gave no answer for too long."""

    reason = "ENDPOINT_UNAVAILABLE"


class EndpointRefused(SubmissionFault):
    """An endpoint refused a request for good, or is or does what is not allowed."""

    reason = "ENDPOINT_REFUSED"


class ModelNotOnnx(SubmissionFault):
    """A checkpoint is not a valid ONNX file."""

    reason = "MODEL_NOT_ONNX"


class ModelExternalData(SubmissionFault):
    """An ONNX file keeps weights in other files."""

    reason = "MODEL_EXTERNAL_DATA"


class ModelUnsupported(SubmissionFault):
    """An ONNX file needs operators that the runtime does not have, or fails when it runs."""

    reason = "MODEL_UNSUPPORTED"


class ModelInputMismatch(SubmissionFault):
    """A model does not take what its preprocessing profile gives."""

    reason = "MODEL_INPUT_MISMATCH"


class ModelOutputMismatch(SubmissionFault):
    """A model does not give one row of the declared columns per image."""

    reason = "MODEL_OUTPUT_MISMATCH"


# --- exports of published checkpoints -------------------------------------------------------------


class ConversionUnavailable(CxrevalError):
    """This worker cannot convert PyTorch checkpoints."""

    reason = "CONVERSION_UNAVAILABLE"


class CheckpointUnreadable(SubmissionFault):
    """A file is no PyTorch checkpoint, is damaged, or did something forbidden while it was
    opened."""

    reason = "CHECKPOINT_UNREADABLE"


class CheckpointMismatch(SubmissionFault):
    """A checkpoint's weights do not belong to the architecture it was given for."""

    reason = "CHECKPOINT_MISMATCH"


class SandboxUnavailable(CxrevalError):
    """This machine cannot open a pickle apart from the network and the file system, so it is not
    opened."""

    reason = "SANDBOX_UNAVAILABLE"


class DownloadFailed(CxrevalError):
    """A file could not be fetched whole."""

    reason = "DOWNLOAD_FAILED"


class ParityFailed(CxrevalError):
    """An exported model does not answer like its original.

    That is the platform's fault, not the submission's: weights that cannot give numbers, which are,
    are refused before both are compared.
    """

    reason = "PARITY_FAILED"


# --- audit ----------------------------------------------------------------------------------------


class AuditMismatch(CxrevalError):
    """The audit chain does not hold: an event was changed, is missing, or stands in another
    place."""

    reason = "AUDIT_MISMATCH"


class ReceiptNotFound(CxrevalError):
    """The submission has no receipt: it was never published."""

    reason = "RECEIPT_NOT_FOUND"


class ReceiptInvalid(CxrevalError):
    """A receipt is not what the key's owner signed."""

    reason = "RECEIPT_INVALID"


class KeyUnreadable(CxrevalError):
    """A file does not hold the key that it should."""

    reason = "KEY_UNREADABLE"
