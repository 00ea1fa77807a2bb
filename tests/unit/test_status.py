"""Errors keep their class and details over gRPC."""

import grpc
import pytest

from cxreval import errors
from cxreval.wire import status

KINDS = sorted(errors.CxrevalError.by_reason.items())


class Failed(grpc.RpcError):
    def __init__(self, code, details, trailing):
        self._parts = (code, details, trailing)

    def code(self):
        return self._parts[0]

    def details(self):
        return self._parts[1]

    def trailing_metadata(self):
        return self._parts[2]


@pytest.mark.parametrize(("reason", "kind"), KINDS)
def test_every_reason_has_a_code_and_comes_back_as_its_own_class(reason, kind):
    error = kind("contact is missing", field="contact", expected="an e-mail address", count=3)
    code, message, details = status.to_status(error)
    assert code is not grpc.StatusCode.OK
    back = status.from_rpc_error(Failed(code, message, ((status.DETAILS_KEY, details),)))
    assert (type(back), back.message, back.metadata) == (kind, error.message, error.metadata)
    assert back.metadata == {"field": "contact", "expected": "an e-mail address", "count": "3"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServiceUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ServiceOverloaded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.UnknownRpc),
        (grpc.StatusCode.UNKNOWN, errors.InternalError),
    ],
)
def test_transport_errors_have_a_named_class(code, kind):
    assert type(status.from_rpc_error(Failed(code, "connection refused", None))) is kind


def test_error_about_text_that_is_no_unicode_still_travels():
    _, message, details = status.to_status(
        errors.MalformedField("bad \ud800", field="name", value="\ud800")
    )
    back = status.from_rpc_error(
        Failed(grpc.StatusCode.INVALID_ARGUMENT, message, ((status.DETAILS_KEY, details),))
    )
    assert (type(back), back.metadata) == (errors.MalformedField, {"field": "name", "value": "?"})
