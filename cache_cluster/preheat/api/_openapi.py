"""What OpenAPI says beyond the routes: every error is a problem."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from preheat.api._problems import MEDIA_TYPE
from preheat.errors import NoLiveWorker

_PROBLEM = {
    "type": "object",
    "description": "An error, as RFC 9457 describes it, with a code for programs and a remedy for people.",
    "required": ["type", "title", "status", "code", "detail", "remedy"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; see preheat.errors."},
        "detail": {"type": "string", "description": "What is wrong, with the value."},
        "remedy": {"type": "string", "description": "The next step."},
    },
}
_RESPONSE = {
    "content": {
        MEDIA_TYPE: {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": NoLiveWorker("No worker is live.").problem(),
        }
    }
}
_RESPONSES = {
    "4XX": {"description": "The request cannot be done.", **_RESPONSE},
    "5XX": {"description": "The cluster or the under store cannot do it now.", **_RESPONSE},
}
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})


def install_openapi(app: FastAPI) -> None:
    """Make an app's schema name the problems in the place of FastAPI's own validation errors."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    for path in schema["paths"].values():
        for operation in (path[method] for method in _METHODS & path.keys()):
            operation["responses"].pop("422", None)
            operation["responses"] |= _RESPONSES
    return schema
