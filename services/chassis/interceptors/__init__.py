"""What happens around every rpc of every service, outermost first: metrics, access log, errors,
deadline, access.

Handlers are wrapped once, when their service is added. gRPC's own interceptors run for each call,
and together with generators as contexts they took as long as all else that a small request needs.
This module is the only place that knows gRPC's four kinds of handlers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from services.chassis.interceptors.access import Access, allowed_roles
from services.chassis.interceptors.access_log import Logged
from services.chassis.interceptors.call import Call
from services.chassis.interceptors.deadline import TimeLimit
from services.chassis.interceptors.errors import end_with
from services.chassis.interceptors.metrics import RpcMetrics
from services.chassis.interceptors.streams import RunningStreams

_UNARY: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True, slots=True)
class WrappedServer:
    """Stands in for a server while services are added to it."""

    server: grpc.aio.Server
    metrics: RpcMetrics
    time_limit: TimeLimit
    access: Access
    streams: RunningStreams
    services: list[str] = field(default_factory=list)
    """Full names of the services, in the order in which they were added."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: generated code goes on with the next, which has the handlers by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds a service.

        Raises:
            ValueError: it was added before.
            UndeclaredRpc: one of its rpcs does not say who may call it.
        """
        if service in self.services:
            raise ValueError(f"{service} is already registered")
        wrapped = {
            method: self._wrap(service, method, handler) for method, handler in handlers.items()
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, wrapped),)
        )
        self.services.append(service)

    def _wrap(self, service: str, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        streaming = bool(handler.request_streaming or handler.response_streaming)
        kind = (
            "stream" if handler.request_streaming else "unary",
            "stream" if handler.response_streaming else "unary",
        )
        behaviour = getattr(handler, "_".join(kind))
        allowed = allowed_roles(service, method)
        # A lone request is parsed inside the contexts: to bad bytes gRPC would answer UNKNOWN with
        # its own exception.
        parse = _as_it_is if handler.request_streaming else handler.request_deserializer

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = Call(service, method, context, streaming)
            with self.metrics.measured(call), Logged(call):
                try:
                    async with self.time_limit.of(call):
                        await self.access.admit(call, allowed)
                        with self.streams.admitted(call, allowed) if streaming else _UNARY:
                            return await behaviour(parse(request), context)
                except BaseException as error:  # noqa: BLE001 -- a cancelled call, too, is told apart there
                    await end_with(call, error)

        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            # Written, not yielded: gRPC leaves the generator of a cancelled call to the garbage
            # collector, which would end these contexts after the call's own memory is gone.
            call = Call(service, method, context, streaming)
            with self.metrics.measured(call), Logged(call):
                try:
                    async with self.time_limit.of(call):
                        await self.access.admit(call, allowed)
                        with self.streams.admitted(call, allowed):
                            async with aclosing(behaviour(parse(request), context)) as messages:
                                async for message in messages:
                                    await context.write(message)
                except BaseException as error:  # noqa: BLE001
                    await end_with(call, error)

        # Health's Watch writes to its context instead of yielding.
        yields = inspect.isasyncgenfunction(behaviour)
        build = getattr(grpc, f"{'_'.join(kind)}_rpc_method_handler")
        return build(  # type: ignore[no-any-return]
            stream if handler.response_streaming and yields else answer,
            handler.request_deserializer if handler.request_streaming else None,
            handler.response_serializer,
        )


def _as_it_is(requests: Any) -> Any:
    return requests
