"""Parameters of requests: which are honoured, which are ignored, and which are refused.

Client libraries add some by themselves. Those that change no answer are ignored, after a check that
they are what they say. Others are refused, because a caller who gets an answer relies on them.
docs/compatibility.md has the same tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import MalformedField

BASE64 = "base64"
CONTENT_TYPE = "content_type"
MODELS = "models"

HONOURED: Mapping[str, Collection[str]] = {
    "request": ("interface", "profile", MODELS),
    "input": (CONTENT_TYPE,),
    "output": (),
    "load": ("ensemble", "files", "interface", "output_columns", "owner", "profile"),
    "unload": (),
}
"""Parameters that affect an answer, by where they stand."""

IGNORED: Mapping[str, Mapping[str, str]] = {
    "request": {
        "binary_data_output": "bool_param",
        CONTENT_TYPE: "string_param",
        "triton_enable_empty_final_response": "bool_param",
    },
    "input": {"binary_data_size": "int64_param"},
    "output": {"binary_data": "bool_param", CONTENT_TYPE: "string_param"},
    "load": {},
    "unload": {"unload_dependents": "bool_param"},
}
"""Parameters that client libraries set by themselves and that change no answer, with their types.

An answer over gRPC is always binary, and `binary_data_size` is compared with the bytes.
"""

_SEQUENCE = "models keep no state between requests"
_SHARED_MEMORY = "the tensor is part of the request"
REFUSED: Mapping[str, str] = {
    "classification": "the answer has the probability of each finding; sort them in the client",
    "config": "the configuration of a model follows from its file and its interface",
    "priority": "requests are answered in the order in which they arrive",
    "sequence_end": _SEQUENCE,
    "sequence_id": _SEQUENCE,
    "sequence_start": _SEQUENCE,
    "shared_memory_byte_size": _SHARED_MEMORY,
    "shared_memory_offset": _SHARED_MEMORY,
    "shared_memory_region": _SHARED_MEMORY,
    "timeout": "the deadline of the call limits its time",
}
"""Parameters of other servers that would change an answer or its time, with what to do."""

CONTENT_TYPES: Mapping[str, Collection[str]] = {
    "request": ("np", "str"),
    "input": ("np", "str", BASE64),
    "output": ("np",),
}
"""Values of `content_type`, as MLServer's codecs set them. `base64` is decoded."""


Parameter = pb.InferParameter | pb.ModelRepositoryParameter


def check(place: str, field: str, parameters: Mapping[str, Parameter]) -> None:
    """Checks the parameters at one place: a key of `HONOURED`.

    Raises:
        MalformedField: a parameter is refused, unknown, or not of the type in `IGNORED`; or
            `content_type` states an encoding that is not read there.
    """
    if not parameters:
        return
    for key in sorted(parameters):
        if key in IGNORED[place]:
            check_type(parameters, key, IGNORED[place][key], field)
        elif key not in HONOURED[place]:
            _refuse(place, field, key)
        if key == CONTENT_TYPE:
            _check_content_type(place, field, parameters)


def check_size(field: str, parameters: Mapping[str, pb.InferParameter], found: int | None) -> None:
    """Raises `MalformedField` if `binary_data_size` is not the number of an input's raw bytes."""
    if "binary_data_size" not in parameters:
        return
    stated = parameters["binary_data_size"].int64_param
    if stated != found:
        expected = "no such parameter" if found is None else f"{found}, the size of its raw bytes"
        raise MalformedField(
            f"{field}[binary_data_size] is {stated}; expected {expected}",
            field=f"{field}[binary_data_size]",
            expected=expected,
            found=stated,
        )


def check_type(
    parameters: Mapping[str, Parameter],
    key: str,
    kind: str,
    field: str = "parameters",
) -> None:
    """Raises `MalformedField` unless a parameter has its value in the field `kind`."""
    if parameters[key].WhichOneof("parameter_choice") != kind:
        message = f"parameter {key!r} is not a {kind}; expected {kind}"
        raise MalformedField(message, field=f"{field}[{key}]", expected=kind)


def _refuse(place: str, field: str, key: str) -> NoReturn:
    known = sorted({*HONOURED[place], *IGNORED[place]})
    expected = " or ".join(repr(name) for name in known) or "no parameters"
    message = f"{field} has {key[:80]!r}; expected {expected}"
    if key in REFUSED:
        message = f"{field} has {key!r}, which is not offered; leave it out: {REFUSED[key]}"
    raise MalformedField(message, field=f"{field}[{key[:80]}]", expected=expected)


def _check_content_type(place: str, field: str, parameters: Mapping[str, Parameter]) -> None:
    check_type(parameters, CONTENT_TYPE, "string_param", field)
    found = parameters[CONTENT_TYPE].string_param
    if found not in CONTENT_TYPES[place]:
        expected = f"one of {', '.join(CONTENT_TYPES[place])}, or no content_type"
        raise MalformedField(
            f"{field}[content_type] is {found[:80]!r}; expected {expected}",
            field=f"{field}[content_type]",
            expected=expected,
            found=found[:80],
        )
