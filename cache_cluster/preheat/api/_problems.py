"""Errors as application/problem+json: the one place where an exception becomes an HTTP status."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from preheat.errors import InvalidRequest, NotFound, PreheatError

_MEDIA_TYPE = "application/problem+json"


def problem_response(error: PreheatError) -> JSONResponse:
    """Return an error as its response."""
    return JSONResponse(error.problem(), status_code=error.status, media_type=_MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of an app a problem."""

    @app.exception_handler(PreheatError)
    async def on_preheat_error(_: Request, error: PreheatError) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(InvalidRequest("; ".join(_sentence(item) for item in error.errors())))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == NotFound.status:
            return problem_response(NotFound(f"There is nothing at {request.url.path}.", remedy="See /docs."))
        problem = InvalidRequest(f"{request.method} {request.url.path}: {error.detail}.").problem()
        problem |= {"status": error.status_code, "title": error.detail}
        return JSONResponse(problem, error.status_code, media_type=_MEDIA_TYPE, headers=error.headers)


def _sentence(item: dict[str, object]) -> str:
    location = item.get("loc", ())
    names = [str(part) for part in location] if isinstance(location, tuple) else []
    field = ".".join(name for name in names if name not in ("body", "query"))
    value = repr(item.get("input"))
    shown = value if len(value) <= 80 else f"{value[:80]}…"
    return f"{field or 'body'}={shown}: {item.get('msg')}"
