from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.registry.v1 import submission_pb2 as _submission_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DerivedArtifact(_message.Message):
    __slots__ = ("evaluation", "token", "sha256")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    sha256: str
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("submission", "derived", "file")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    submission: str
    derived: DerivedArtifact
    file: _submission_pb2.SubmissionFile
    def __init__(self, submission: _Optional[str] = ..., derived: _Optional[_Union[DerivedArtifact, _Mapping]] = ..., file: _Optional[_Union[_submission_pb2.SubmissionFile, _Mapping]] = ...) -> None: ...

class GetUploadResponse(_message.Message):
    __slots__ = ("received_bytes", "complete")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    complete: bool
    def __init__(self, received_bytes: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class UploadArtifactRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadArtifactHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[UploadArtifactHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadArtifactHeader(_message.Message):
    __slots__ = ("submission", "derived", "file", "size_bytes", "write_offset")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    submission: str
    derived: DerivedArtifact
    file: _submission_pb2.SubmissionFile
    size_bytes: int
    write_offset: int
    def __init__(self, submission: _Optional[str] = ..., derived: _Optional[_Union[DerivedArtifact, _Mapping]] = ..., file: _Optional[_Union[_submission_pb2.SubmissionFile, _Mapping]] = ..., size_bytes: _Optional[int] = ..., write_offset: _Optional[int] = ...) -> None: ...

class UploadArtifactResponse(_message.Message):
    __slots__ = ("artifact", "submission")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    submission: _submission_pb2.Submission
    def __init__(self, artifact: _Optional[str] = ..., submission: _Optional[_Union[_submission_pb2.Submission, _Mapping]] = ...) -> None: ...

class DownloadArtifactRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DownloadArtifactResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...
