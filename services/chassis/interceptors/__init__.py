"""Wraps every rpc with, outermost first: metrics, access log, errors, deadline, access, idle limit.

Handlers are wrapped once, when their service is added. gRPC's own interceptors run at each call;
with generator-based contexts they took half the time of a small request.

gRPC sees every handler as one that receives a stream. It would read the request of a unary call
before the handler starts, and so outside all limits.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from services.chassis.interceptors import idle
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
    """Wraps the handlers of services that are added to a server."""

    server: grpc.aio.Server
    metrics: RpcMetrics
    time_limit: TimeLimit
    access: Access
    streams: RunningStreams
    idle_seconds: float
    services: list[str] = field(default_factory=list)
    """Full names of the services, in the order in which they were added."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Does nothing: generated code also calls the next method, with the handlers by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds a service.

        Raises:
            ValueError: the service was added before.
            UndeclaredRpc: an rpc does not declare who may call it.
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

        async def answer(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = Call(service, method, context, streaming)
            with self.metrics.measured(call), Logged(call):
                try:
                    async with self.time_limit.of(call):
                        await self.access.admit(call, allowed)
                        with self.streams.admitted(call, allowed) if streaming else _UNARY:
                            request = await self._request(call, handler, messages)
                            return await behaviour(request, context)
                except BaseException as error:  # noqa: BLE001 -- cancellation included
                    await end_with(call, error)

        async def stream(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            # Messages are written, not yielded: gRPC leaves the generator of a cancelled call to
            # the garbage collector, which would exit these contexts after the call has been freed.
            call = Call(service, method, context, streaming)
            with self.metrics.measured(call), Logged(call):
                try:
                    async with self.time_limit.of(call):
                        await self.access.admit(call, allowed)
                        with self.streams.admitted(call, allowed):
                            request = await self._request(call, handler, messages)
                            async with aclosing(behaviour(request, context)) as answers:
                                async for message in answers:
                                    await idle.write(call, message, self.idle_seconds)
                except BaseException as error:  # noqa: BLE001
                    await end_with(call, error)

        # The Watch method of health writes to its context instead of yielding.
        yields = inspect.isasyncgenfunction(behaviour)
        build = getattr(grpc, f"stream_{kind[1]}_rpc_method_handler")
        return build(  # type: ignore[no-any-return]
            stream if handler.response_streaming and yields else answer,
            handler.request_deserializer if handler.request_streaming else None,
            handler.response_serializer,
        )

    async def _request(self, call: Call, handler: Any, messages: Any) -> Any:
        """Returns the request of a unary call, or the requests of a streaming one."""
        requests = idle.Requests(call, messages, self.idle_seconds)
        if handler.request_streaming:
            idle.enter(requests)
            return requests
        # Parsed inside the contexts: gRPC would answer malformed bytes with UNKNOWN.
        return handler.request_deserializer(await requests.only())
