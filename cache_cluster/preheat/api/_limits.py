"""How large a request's body may be, and how long it may take to arrive."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preheat.api._problems import problem_response
from preheat.units import human_size

MAX_BODY_BYTES = 1 << 20
_MAX_BODY_SECONDS = 30.0
_CLOSE = {"Connection": "close"}  # the rest of the body is not read


def install_limits(app: FastAPI, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
    """Refuse the bodies of an app's requests that are too large or too slow."""
    app.add_middleware(BodyLimitMiddleware, max_bytes=max_body_bytes, max_seconds=_MAX_BODY_SECONDS)


class BodyLimitMiddleware:
    """Answers 413 as soon as a body is known to be too large, and 408 if it does not end in time."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _announced_size(scope) > self._max_bytes:
            await problem_response(self._too_large())(scope, receive, send)
        else:
            await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._max_seconds
        size, more = 0, True

        async def receive_some() -> Message:
            nonlocal size, more
            if not more:  # what comes now is the disconnect, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise self._too_slow() from error
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > self._max_bytes:
                raise self._too_large()
            return message

        return receive_some

    def _too_large(self) -> HTTPException:
        detail = f"The request's body is larger than {human_size(self._max_bytes)}"
        return HTTPException(413, detail, headers=_CLOSE)

    def _too_slow(self) -> HTTPException:
        return HTTPException(408, f"The request's body did not end within {self._max_seconds:.0f} s", headers=_CLOSE)


def _announced_size(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0
