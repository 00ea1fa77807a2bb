"""The state of a running rpc that its wrappers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.chassis.principal import Principal


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
