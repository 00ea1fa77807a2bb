"""One running rpc, as everything around it sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.chassis.principal import Principal


@dataclass(slots=True)
class Call:
    """One running rpc. `code` is what it will end with; the errors interceptor sets it.

    `principal` is who makes it, once they were let in.
    """

    service: str
    method: str
    context: grpc.aio.ServicerContext[Any, Any]
    streaming: bool
    request_id: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    principal: Principal | None = None
