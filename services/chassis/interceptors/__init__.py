"""What happens around every rpc of every service, outermost first: metrics, access log, errors, deadline.

Each concern is an async context manager around the handler's run; this module is the only place that knows gRPC's four
kinds of handlers.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio


@dataclass(slots=True)
class Call:
    """One running rpc. `code` is what it will end with; the errors interceptor sets it."""

    service: str
    method: str
    context: grpc.aio.ServicerContext[Any, Any]
    streaming: bool
    request_id: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK


Around = Callable[[Call], AbstractAsyncContextManager[None]]


class AroundEveryCall(grpc.aio.ServerInterceptor):
    """Runs each handler inside the given context managers, the first outermost."""

    def __init__(self, arounds: Sequence[Around]) -> None:
        self._arounds = arounds
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler once and remembers it; an unknown method stays unknown."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        _, service, name = method.split("/")
        streaming = bool(handler.request_streaming or handler.response_streaming)
        kind = ("stream" if handler.request_streaming else "unary", "stream" if handler.response_streaming else "unary")
        behaviour = getattr(handler, "_".join(kind))
        # A lone request is parsed inside the contexts: to bad bytes gRPC would answer UNKNOWN with its own exception.
        parse = _as_it_is if handler.request_streaming else handler.request_deserializer

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with AsyncExitStack() as stack:
                call = Call(service, name, context, streaming)
                for around in self._arounds:
                    await stack.enter_async_context(around(call))
                return await behaviour(parse(request), context)

        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            # Written, not yielded: gRPC leaves the generator of a cancelled call to the garbage collector, which would
            # end these contexts after the call's own memory is gone.
            async with AsyncExitStack() as stack:
                call = Call(service, name, context, streaming)
                for around in self._arounds:
                    await stack.enter_async_context(around(call))
                messages = await stack.enter_async_context(aclosing(behaviour(parse(request), context)))
                async for message in messages:
                    await context.write(message)

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
