"""Templates and errors as HTML."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import human_size
from airflow_preheat.ui._rows import percent

REFRESH_HEADER = "X-Preheat-Refresh"
"""In how many seconds to ask for a fragment again; without it, never."""
_AFTER_ERROR = 10
_TEMPLATES = Environment(
    loader=PackageLoader("airflow_preheat.ui"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"size": human_size, "percent": percent, "number": lambda number: f"{number:,}"}


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a whole page."""
    content = _TEMPLATES.get_template(template).render(root=request.scope.get("root_path", ""), **values)
    return HTMLResponse(content, status)


def fragment(template: str, *, refresh: int | None, **values: Any) -> HTMLResponse:
    """Return a part of a page, to be asked for again in ``refresh`` seconds."""
    headers = {} if refresh is None else {REFRESH_HEADER: str(refresh)}
    return HTMLResponse(_TEMPLATES.get_template(template).render(**values), headers=headers)


def problem(error: PreheatError, template: str = "problem.html") -> HTMLResponse:
    """Return what is wrong with the coordinator or the connection, in the place of a fragment."""
    return fragment(template, refresh=_AFTER_ERROR, title=_title(error), message=str(error))


async def refused(request: Request, error: HTTPException) -> HTMLResponse:
    """Return a page for who is not logged in, may not see this, or asked for what there is not."""
    login = get_auth_manager().get_url_login(next_url=str(request.url)) if error.status_code == 401 else ""
    return page(request, "refused.html", status=error.status_code, code=error.status_code, login=login)


def _title(error: PreheatError) -> str:
    match error:
        case PreheatUnavailableError():
            return "The cache does not answer"
        case PreheatJobNotFoundError():
            return "The coordinator does not know this job any more"
        case PreheatRequestError():
            return "The cache cannot be asked"
    return "The coordinator answered with an error"
