import datetime

from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.registry.v1 import submission_pb2 as _submission_pb2
from cxreval.api.scoring.v1 import report_pb2 as _report_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditHead(_message.Message):
    __slots__ = ("place", "digest")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    place: int
    digest: str
    def __init__(self, place: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class GetAuditHeadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadAuditChainRequest(_message.Message):
    __slots__ = ("after_place",)
    AFTER_PLACE_FIELD_NUMBER: _ClassVar[int]
    after_place: int
    def __init__(self, after_place: _Optional[int] = ...) -> None: ...

class ReadAuditChainResponse(_message.Message):
    __slots__ = ("links",)
    LINKS_FIELD_NUMBER: _ClassVar[int]
    links: _containers.RepeatedCompositeFieldContainer[AuditLink]
    def __init__(self, links: _Optional[_Iterable[_Union[AuditLink, _Mapping]]] = ...) -> None: ...

class AuditLink(_message.Message):
    __slots__ = ("place", "event", "digest", "number", "id", "request_id")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    place: int
    event: _submission_pb2.SubmissionEvent
    digest: str
    number: int
    id: str
    request_id: str
    def __init__(self, place: _Optional[int] = ..., event: _Optional[_Union[_submission_pb2.SubmissionEvent, _Mapping]] = ..., digest: _Optional[str] = ..., number: _Optional[int] = ..., id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("payload", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class GetPublicKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublicKey(_message.Message):
    __slots__ = ("pem",)
    PEM_FIELD_NUMBER: _ClassVar[int]
    pem: str
    def __init__(self, pem: _Optional[str] = ...) -> None: ...

class Rescore(_message.Message):
    __slots__ = ("evaluation", "actor", "time", "difference")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    actor: str
    time: _timestamp_pb2.Timestamp
    difference: str
    def __init__(self, evaluation: _Optional[str] = ..., actor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., difference: _Optional[str] = ...) -> None: ...

class RecordRescoreRequest(_message.Message):
    __slots__ = ("evaluation", "report")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    report: _report_pb2.Report
    def __init__(self, evaluation: _Optional[str] = ..., report: _Optional[_Union[_report_pb2.Report, _Mapping]] = ...) -> None: ...

class ListRescoresRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRescoresResponse(_message.Message):
    __slots__ = ("rescores", "next_page_token")
    RESCORES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rescores: _containers.RepeatedCompositeFieldContainer[Rescore]
    next_page_token: str
    def __init__(self, rescores: _Optional[_Iterable[_Union[Rescore, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
