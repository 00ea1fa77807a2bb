from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.registry.v1 import submission_pb2 as _submission_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateSubmissionRequest(_message.Message):
    __slots__ = ("parent", "manifest", "request_id", "endpoint_token", "training_list")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRAINING_LIST_FIELD_NUMBER: _ClassVar[int]
    parent: str
    manifest: _submission_pb2.Manifest
    request_id: str
    endpoint_token: str
    training_list: bytes
    def __init__(self, parent: _Optional[str] = ..., manifest: _Optional[_Union[_submission_pb2.Manifest, _Mapping]] = ..., request_id: _Optional[str] = ..., endpoint_token: _Optional[str] = ..., training_list: _Optional[bytes] = ...) -> None: ...

class GetSubmissionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListSubmissionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "id_prefix")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    id_prefix: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., id_prefix: _Optional[str] = ...) -> None: ...

class ListSubmissionsResponse(_message.Message):
    __slots__ = ("submissions", "next_page_token")
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    submissions: _containers.RepeatedCompositeFieldContainer[_submission_pb2.Submission]
    next_page_token: str
    def __init__(self, submissions: _Optional[_Iterable[_Union[_submission_pb2.Submission, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
