"""The state of a running rpc that its wrappers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.chassis.principal import EVERYBODY, Principal


@dataclass(slots=True)
class Call:
    """A running rpc. `code` is its status code; `principal` its caller, once admitted."""

    service: str
    method: str
    context: grpc.aio.ServicerContext[Any, Any]
    streaming: bool
    request_id: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    principal: Principal | None = None

    @property
    def caller(self) -> str:
        """Who shares the limits on open streams: the caller's organisation, else its certificate,
        else its network address."""
        who = self.principal
        if who is not None and who is not EVERYBODY and (who.organisation or who.name):
            return who.organisation or who.name
        names = certificate_names(self.context)
        return ", ".join(sorted(names)) if names else self.context.peer().rpartition(":")[0]


def certificate_names(context: grpc.aio.ServicerContext[Any, Any]) -> frozenset[str]:
    """Returns the DNS and common names of the client's certificate, which TLS has verified."""
    properties_of = context.auth_context() or {}
    properties = ("x509_common_name", "x509_subject_alternative_name")
    return frozenset(
        name.decode(errors="replace") for key in properties for name in properties_of.get(key, ())
    )
