"""Each request's place in a trace: read from its headers, bound to the log lines, and told in the answer."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from preheat import tracing
from preheat.tracing import TraceContext

_SCOPE_KEY = "preheat.trace"


def install_tracing(app: FastAPI) -> None:
    """Continue the trace of every request of an app."""
    app.add_middleware(TraceMiddleware)


def trace_of(request: Request) -> TraceContext:
    """Return the request's place in its trace."""
    trace: TraceContext = request.scope[_SCOPE_KEY]
    return trace


class TraceMiddleware:
    """Reads ``traceparent`` and ``tracestate``, and answers with ``traceresponse``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = _continued(Headers(scope=scope))
        scope[_SCOPE_KEY] = trace

        async def send_with_trace(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["traceresponse"] = trace.traceparent
            await send(message)

        with bound_contextvars(trace_id=trace.trace_id, span_id=trace.span_id):
            await self._app(scope, receive, send_with_trace)


def _continued(headers: Headers) -> TraceContext:
    parents = headers.getlist("traceparent")
    parent = tracing.parse(parents[0], ",".join(headers.getlist("tracestate"))) if len(parents) == 1 else None
    return parent.child() if parent else tracing.start()
