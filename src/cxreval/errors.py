"""The errors of cxreval: one class per reason, all derived from `CxrevalError`.

Programs match on the reason, people read the message. `wire/status.py` maps reasons to gRPC codes
and back, so the client raises the class that the service raised. This module does not depend on
gRPC.
"""

from __future__ import annotations

from typing import ClassVar


class CxrevalError(Exception):
    """Base class of all errors of cxreval.

    Attributes:
        message: the text for people.
        metadata: the values in the message, for programs.
        also: further errors that the same check found.
    """

    reason: ClassVar[str] = "INTERNAL"
    by_reason: ClassVar[dict[str, type[CxrevalError]]] = {}
    """All subclasses, by reason."""

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
    """The service failed unexpectedly; the cause is in its log."""

    reason = "INTERNAL"


# --- requests -------------------------------------------------------------------------------------


class MalformedField(CxrevalError):
    """A field has the wrong form."""

    reason = "MALFORMED_FIELD"


class FieldsContradict(CxrevalError):
    """Two fields exclude each other; the metadata name both, as `field` and `other`."""

    reason = "FIELDS_CONTRADICT"


class MissingField(CxrevalError):
    """A required field is empty."""

    reason = "MISSING_FIELD"


class UnknownValue(CxrevalError):
    """An answer has an enum value that this version does not know; upgrade the client."""

    reason = "UNKNOWN_VALUE"


class UnknownRpc(CxrevalError):
    """The service does not have the rpc that was called; upgrade the service."""

    reason = "UNKNOWN_RPC"


class InvalidPageToken(CxrevalError):
    """A page token was not issued by this service, or was issued for another list."""

    reason = "INVALID_PAGE_TOKEN"


class MalformedStream(CxrevalError):
    """The messages of a stream are in the wrong order."""

    reason = "MALFORMED_STREAM"


class EmptyStream(CxrevalError):
    """A stream ended before its first message."""

    reason = "EMPTY_STREAM"


class RequestIdReused(CxrevalError):
    """A request id was used before for another request."""

    reason = "REQUEST_ID_REUSED"


class ServiceOverloaded(CxrevalError):
    """A queue is full; retry later."""

    reason = "SERVICE_OVERLOADED"


class ServiceUnavailable(CxrevalError):
    """The service cannot be reached or is shutting down; retry."""

    reason = "SERVICE_UNAVAILABLE"


class StorageFull(ServiceUnavailable):
    """There is no space left on a disk. No retry succeeds before room is made."""

    reason = "STORAGE_FULL"


class DatabaseDamaged(ServiceUnavailable):
    """The service's database is damaged; the operator must restore it."""

    reason = "DATABASE_DAMAGED"


class DeadlineExceeded(CxrevalError):
    """The call did not finish before its deadline."""

    reason = "DEADLINE_EXCEEDED"


class StreamIdle(CxrevalError):
    """The caller sent or read nothing for longer than the service's idle limit."""

    reason = "STREAM_IDLE"


# --- access ---------------------------------------------------------------------------------------


class KeyMissing(CxrevalError):
    """The call needs an API key and has none."""

    reason = "KEY_MISSING"


class KeyUnknown(CxrevalError):
    """The API key does not exist."""

    reason = "KEY_UNKNOWN"


class KeyExpired(CxrevalError):
    """The API key has expired."""

    reason = "KEY_EXPIRED"


class KeyRevoked(CxrevalError):
    """The API key was revoked."""

    reason = "KEY_REVOKED"


class RoleRequired(CxrevalError):
    """The caller's roles do not allow the call."""

    reason = "ROLE_REQUIRED"


class OwnerRequired(CxrevalError):
    """The submission belongs to another organisation, so the caller may not change it."""

    reason = "OWNER_REQUIRED"


class QuotaExceeded(CxrevalError):
    """The organisation has reached its quota."""

    reason = "QUOTA_EXCEEDED"


class OrganisationNotFound(CxrevalError):
    """No organisation has this name."""

    reason = "ORGANISATION_NOT_FOUND"


class OrganisationExists(CxrevalError):
    """The name belongs to another organisation."""

    reason = "ORGANISATION_EXISTS"


class ApiKeyExists(CxrevalError):
    """The request was made before and created a key, whose text is shown only once."""

    reason = "API_KEY_EXISTS"


class ApiKeyNotFound(CxrevalError):
    """The organisation has no key of this name."""

    reason = "API_KEY_NOT_FOUND"


class KeyNeedsTls(CxrevalError):
    """An API key would be sent over a network in plain text."""

    reason = "KEY_NEEDS_TLS"


class CertificateNotAllowed(CxrevalError):
    """The client's certificate has no name that is allowed to call this service."""

    reason = "CERTIFICATE_NOT_ALLOWED"


# --- benchmarks and data sets ---------------------------------------------------------------------


class BenchmarkNotFound(CxrevalError):
    """No benchmark has this name."""

    reason = "BENCHMARK_NOT_FOUND"


class BenchmarkExists(CxrevalError):
    """The name belongs to a benchmark with another specification."""

    reason = "BENCHMARK_EXISTS"


class BenchmarkRetired(CxrevalError):
    """The benchmark is retired and takes no submissions."""

    reason = "BENCHMARK_RETIRED"


class BenchmarkDigestMismatch(CxrevalError):
    """Two parties have different specifications of one benchmark."""

    reason = "BENCHMARK_DIGEST_MISMATCH"


class ImageListMissing(CxrevalError):
    """The registry does not have the benchmark's image list yet."""

    reason = "IMAGE_LIST_MISSING"


class ImageListMismatch(CxrevalError):
    """A list of images is not that of the benchmark."""

    reason = "IMAGE_LIST_MISMATCH"


class TruthNotFound(CxrevalError):
    """This scoring service does not have the labels of the benchmark."""

    reason = "TRUTH_NOT_FOUND"


class DatasetInvalid(CxrevalError):
    """Files of a data set are missing or differ from the benchmark's specification."""

    reason = "DATASET_INVALID"


# --- submissions and evaluations ------------------------------------------------------------------


class CommitNotFrozen(CxrevalError):
    """A reproduction names a branch or tag instead of a commit."""

    reason = "COMMIT_NOT_FROZEN"


class UnknownProfile(CxrevalError):
    """No preprocessing profile has this name."""

    reason = "UNKNOWN_PROFILE"


class UnknownFinding(CxrevalError):
    """The benchmark has no finding of this name."""

    reason = "UNKNOWN_FINDING"


class OutputsIncomplete(CxrevalError):
    """The output names contain no finding of the benchmark, or one of them twice."""

    reason = "OUTPUTS_INCOMPLETE"


class UnknownMetric(CxrevalError):
    """The benchmark has no metric of this name."""

    reason = "UNKNOWN_METRIC"


class SubmissionNotFound(CxrevalError):
    """No submission has this name."""

    reason = "SUBMISSION_NOT_FOUND"


class AmbiguousName(CxrevalError):
    """The beginning of an id is that of several submissions; give more of its characters."""

    reason = "AMBIGUOUS_NAME"


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
    """The lease has expired or belongs to another worker."""

    reason = "LEASE_LOST"


class PredictionsUnconfirmed(CxrevalError):
    """Predictions of an earlier attempt are neither confirmed nor dropped."""

    reason = "PREDICTIONS_UNCONFIRMED"


class ReportMismatch(CxrevalError):
    """A report is of another benchmark or other predictions, or differs from the recorded one."""

    reason = "REPORT_MISMATCH"


class ReportNotFound(CxrevalError):
    """The evaluation has no report."""

    reason = "REPORT_NOT_FOUND"


class NotComparable(CxrevalError):
    """An entry has no score that was computed here, so it cannot be compared."""

    reason = "NOT_COMPARABLE"


class WorkerError(CxrevalError):
    """The worker hit an unexpected exception; see its log."""

    reason = "WORKER_ERROR"


# --- artifacts ------------------------------------------------------------------------------------


class ArtifactNotFound(CxrevalError):
    """No artifact has this digest."""

    reason = "ARTIFACT_NOT_FOUND"


class ArtifactCorrupt(CxrevalError):
    """Stored bytes do not match their digest."""

    reason = "ARTIFACT_CORRUPT"


class DigestMismatch(CxrevalError):
    """Uploaded bytes do not match the declared digest."""

    reason = "DIGEST_MISMATCH"


class ArtifactIncomplete(CxrevalError):
    """An upload ended before its declared size."""

    reason = "ARTIFACT_INCOMPLETE"


class ArtifactTooLarge(CxrevalError):
    """An artifact is larger than the limit, or than its declared size."""

    reason = "ARTIFACT_TOO_LARGE"


class UploadOffset(CxrevalError):
    """The upload offset is not the number of bytes that the registry has."""

    reason = "UPLOAD_OFFSET"


class UploadBusy(CxrevalError):
    """Another call is uploading the same artifact."""

    reason = "UPLOAD_BUSY"


class ArtifactStoreRefused(CxrevalError):
    """The object store refuses the registry: the credentials or the bucket are wrong."""

    reason = "ARTIFACT_STORE_REFUSED"


# --- predictions ----------------------------------------------------------------------------------


class MalformedBatch(CxrevalError):
    """A batch of predictions has the wrong number of values, or too many images."""

    reason = "MALFORMED_BATCH"


class TableInvalid(CxrevalError):
    """A file of predictions is not a table with a row per image and a column per finding."""

    reason = "TABLE_INVALID"


class UnknownImage(CxrevalError):
    """A prediction names an image that the benchmark does not have."""

    reason = "UNKNOWN_IMAGE"


class DuplicateImage(CxrevalError):
    """An image has two different predictions."""

    reason = "DUPLICATE_IMAGE"


class MissingImages(CxrevalError):
    """Images of the benchmark have no prediction."""

    reason = "MISSING_IMAGES"


# --- images and tensors ---------------------------------------------------------------------------


class ImageUnreadable(CxrevalError):
    """The bytes are not a complete PNG, JPEG or gray DICOM image, or their decoder ended or took
    too long."""

    reason = "IMAGE_UNREADABLE"


class ImageTooLarge(CxrevalError):
    """An image has more bytes or pixels than the limit, or its decoder needs too much memory."""

    reason = "IMAGE_TOO_LARGE"


class ImageNotCached(CxrevalError):
    """An image named by its digest is not cached for this profile; send its bytes."""

    reason = "IMAGE_NOT_CACHED"


class InvalidTensor(CxrevalError):
    """An input tensor has the wrong name, type, shape or length."""

    reason = "INVALID_TENSOR"


class ModelNotFound(CxrevalError):
    """The model is not loaded on this server."""

    reason = "MODEL_NOT_FOUND"


class SubmissionFault(CxrevalError):
    """Base class of errors that the submission causes: a retry would fail as well."""


class InvalidProbability(SubmissionFault):
    """A probability is NaN, infinite or outside [0, 1]."""

    reason = "INVALID_PROBABILITY"


class PredictionsInvalid(SubmissionFault):
    """A submitted table is unreadable, or does not have exactly the benchmark's images."""

    reason = "PREDICTIONS_INVALID"


class EndpointUnavailable(SubmissionFault):
    """An endpoint did not respond within the time for which calls to it are retried."""

    reason = "ENDPOINT_UNAVAILABLE"


class EndpointRefused(SubmissionFault):
    """An endpoint refused a request permanently, or breaks the rules for endpoints."""

    reason = "ENDPOINT_REFUSED"


class ModelNotOnnx(SubmissionFault):
    """A checkpoint is not a valid ONNX file."""

    reason = "MODEL_NOT_ONNX"


class ModelExternalData(SubmissionFault):
    """An ONNX file stores weights in other files, which are not submitted with it or do not fit."""

    reason = "MODEL_EXTERNAL_DATA"


class BundleInvalid(SubmissionFault):
    """The archive of a submission's files does not hold exactly the files of its manifest."""

    reason = "BUNDLE_INVALID"


class ModelUnsupported(SubmissionFault):
    """An ONNX file needs operators that the runtime does not have, or fails when run."""

    reason = "MODEL_UNSUPPORTED"


class ModelCrashed(SubmissionFault):
    """The process that runs a model was ended by a signal, or ended itself."""

    reason = "MODEL_CRASHED"


class ModelTooSlow(SubmissionFault):
    """A model exceeded the time limit for opening it, for its warm-up or for a run."""

    reason = "MODEL_TOO_SLOW"


class ModelTooLarge(SubmissionFault):
    """A model needs more memory than the process that runs it may take."""

    reason = "MODEL_TOO_LARGE"


class ModelInputMismatch(SubmissionFault):
    """A model's input does not match the output of its preprocessing profile."""

    reason = "MODEL_INPUT_MISMATCH"


class ModelOutputMismatch(SubmissionFault):
    """A model's output is not one row of the declared columns per image."""

    reason = "MODEL_OUTPUT_MISMATCH"


class NotDeterministic(SubmissionFault):
    """Two predictions of one image by the same model differ by more than the tolerance."""

    reason = "NOT_DETERMINISTIC"


# --- exports of published checkpoints -------------------------------------------------------------


class ConversionUnavailable(CxrevalError):
    """This worker cannot convert PyTorch checkpoints."""

    reason = "CONVERSION_UNAVAILABLE"


class CheckpointUnreadable(SubmissionFault):
    """A file is not a PyTorch checkpoint, is damaged, or broke the rules of the sandbox."""

    reason = "CHECKPOINT_UNREADABLE"


class CheckpointMismatch(SubmissionFault):
    """A checkpoint's weights do not fit the declared architecture."""

    reason = "CHECKPOINT_MISMATCH"


class ExtraMissing(CxrevalError):
    """A package is not installed that comes with an extra of cxreval, such as `cxreval[export]`."""

    reason = "EXTRA_MISSING"


class SandboxUnavailable(CxrevalError):
    """This machine has no sandbox."""

    reason = "SANDBOX_UNAVAILABLE"


class DownloadFailed(CxrevalError):
    """A file could not be downloaded completely."""

    reason = "DOWNLOAD_FAILED"


class ParityFailed(CxrevalError):
    """The outputs of an exported model differ from those of its original.

    This is the platform's fault: weights that do not give numbers are refused before both are
    compared.
    """

    reason = "PARITY_FAILED"


# --- audit ----------------------------------------------------------------------------------------


class AuditMismatch(CxrevalError):
    """The audit chain is broken, or a row differs from its events, receipt or predictions."""

    reason = "AUDIT_MISMATCH"


class ReceiptNotFound(CxrevalError):
    """The submission has no receipt: it was never published."""

    reason = "RECEIPT_NOT_FOUND"


class ReceiptInvalid(CxrevalError):
    """A receipt's signature does not match its content."""

    reason = "RECEIPT_INVALID"


class KeyUnreadable(CxrevalError):
    """A file does not contain a valid key."""

    reason = "KEY_UNREADABLE"


# --- source bundles -------------------------------------------------------------------------------


class SourceBundleUnreadable(SubmissionFault):
    """A file is not a complete git bundle, or reading it exceeds a limit."""

    reason = "SOURCE_BUNDLE_UNREADABLE"


class CommitNotInBundle(SubmissionFault):
    """The declared commit, or an object that it needs, is not where it was looked for."""

    reason = "COMMIT_NOT_IN_BUNDLE"


class SourceTreeRefused(SubmissionFault):
    """The files of a commit break a rule: their names, links, sizes, number, or Git LFS."""

    reason = "SOURCE_TREE_REFUSED"


# --- environments and predictions of scripts ------------------------------------------------------


class LockRefused(SubmissionFault):
    """A lock, or a wheel that it names, breaks a rule; nothing of it was installed."""

    reason = "LOCK_REFUSED"


class EnvironmentUnsupported(SubmissionFault):
    """The operator offers no interpreter of the declared Python version."""

    reason = "ENVIRONMENT_UNSUPPORTED"


class EnvironmentUnavailable(CxrevalError):
    """An environment could not be built here; the platform is at fault, not the submission."""

    reason = "ENVIRONMENT_UNAVAILABLE"


# --- runs of scripts ------------------------------------------------------------------------------


class ScriptFailed(SubmissionFault):
    """A script ended with an error, or its entry point is not there."""

    reason = "SCRIPT_FAILED"


class ScriptTimeout(SubmissionFault):
    """A script took more time, or more processor time, than its limit."""

    reason = "SCRIPT_TIMEOUT"


class ScriptOutOfMemory(SubmissionFault):
    """A script, its processes and its files in memory took more memory than their limit."""

    reason = "SCRIPT_OUT_OF_MEMORY"


class ScriptOverLimit(SubmissionFault):
    """A script ended with an error after it had reached a limit on processes or files."""

    reason = "SCRIPT_OVER_LIMIT"


class PredictionsMissing(SubmissionFault):
    """A script ended without an error, and without a table of predictions."""

    reason = "PREDICTIONS_MISSING"
