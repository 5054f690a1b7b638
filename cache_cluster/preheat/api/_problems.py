"""Errors as application/problem+json: the one place where an exception becomes an HTTP status."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from reprlib import Repr
from weakref import WeakKeyDictionary

from fastapi import FastAPI, Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preheat.errors import InvalidRequest, NotFound, PreheatError
from preheat.logs import get_logger

log = get_logger("api")

MEDIA_TYPE = "application/problem+json"
_REMEDIES = {
    405: "See /docs.",
    408: "Send the body at once.",
    413: "Name many paths in an index file instead.",
    415: "Send the header Content-Type: application/json.",
}
_names: WeakKeyDictionary[Callable[..., object], list[str]] = WeakKeyDictionary()
"""The query parameters of each route, by its function: to find them out takes longer than most answers."""
_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 2


class ProblemResponse(JSONResponse):
    """An error as it is sent; what UTF-8 cannot write is replaced."""

    media_type = MEDIA_TYPE

    def render(self, content: object) -> bytes:
        """Return the problem as JSON."""
        return json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace")


def problem_response(error: PreheatError | HTTPException) -> ProblemResponse:
    """Return an error as its response."""
    if isinstance(error, HTTPException):
        return _http_problem(error)
    return ProblemResponse(error.problem(), status_code=error.status)


def install(app: FastAPI) -> None:
    """Make every error of an app a problem."""
    app.add_middleware(_UnexpectedErrors)

    @app.exception_handler(PreheatError)
    async def on_preheat_error(_: Request, error: PreheatError) -> ProblemResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> ProblemResponse:
        if isinstance(error.body, bytes):  # it was not parsed
            given = request.headers.get("content-type", "")
            return problem_response(HTTPException(415, f"Content-Type={given!r} is not application/json"))
        return problem_response(InvalidRequest("; ".join(map(sentence, error.errors())), remedy="See /docs."))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> ProblemResponse:
        if error.status_code == NotFound.status:
            return problem_response(NotFound(f"There is nothing at {request.url.path}.", remedy="See /docs."))
        if error.__cause__ is not None and error.status_code == InvalidRequest.status:
            return problem_response(InvalidRequest(f"The body cannot be read: {_cause(error.__cause__)}."))
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error.headers = {"Allow": ", ".join(_methods(request))}
        error.detail = f"{request.method} {request.url.path}: {error.detail}"
        return problem_response(error)


async def refuse_unknown_query(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a typing error would go unnoticed.

    Raises:
        InvalidRequest: there is one.
    """
    if not request.scope["query_string"]:
        return
    known = _query_names(request.scope["route"])
    for name, value in request.query_params.items():
        if name not in known:
            remedy = f"Known here: {', '.join(known)}." if known else "Leave it out."
            raise InvalidRequest(f"{name}={_short.repr(value)} is not a parameter of this request.", remedy=remedy)


def _query_names(route: APIRoute) -> list[str]:
    names = _names.get(route.endpoint)
    if names is None:
        names = _names[route.endpoint] = [field.alias for field in get_flat_dependant(route.dependant).query_params]
    return names


class _UnexpectedErrors:
    """Logs what nobody foresaw, and answers 500 if there is no answer yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            log.exception("A request failed.", action="request_failed", method=scope["method"], path=scope["path"])
            await problem_response(PreheatError(f"{type(error).__name__}: {error}"))(scope, receive, send)


def _methods(request: Request) -> list[str]:
    """Return the methods that the request's path takes; Starlette tells those of the first route only."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    return sorted(
        {
            method
            for route in routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
    )


def _http_problem(error: HTTPException) -> ProblemResponse:
    problem = InvalidRequest(f"{error.detail}.", remedy=_REMEDIES.get(error.status_code, "")).problem()
    problem |= {"status": error.status_code, "title": HTTPStatus(error.status_code).phrase}
    return ProblemResponse(problem, status_code=error.status_code, headers=error.headers)


def _cause(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def sentence(item: Mapping[str, object]) -> str:
    """Return a finding of pydantic as a sentence with the field and its value."""
    location = item.get("loc", ())
    names = [str(part) for part in location] if isinstance(location, tuple) else []
    field, kind, context = ".".join(names[1:]), item.get("type"), item.get("ctx")
    reason = str(item.get("msg"))
    if isinstance(context, dict) and "error" in context:
        reason = str(context["error"])
    if kind == "json_invalid":
        return f"The body is not JSON: {reason} at character {names[-1]}"
    if kind == "missing":
        return f"{field or 'The body'} is missing"
    if kind == "extra_forbidden":
        return f"{field}={_short.repr(item.get('input'))} is not known here"
    if field or kind != "value_error":
        return f"{field or 'body'}={_short.repr(item.get('input'))}: {reason}"
    return reason
