"""Who may ask what: one middleware around every route, and the form with which a browser shows its token.

The middleware finds out who asks and whether the role suffices for the route. What paths a job may name is checked by
the job service, for the caller that is known here (:func:`preheat.access.check_job`).
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preheat.access import Role, acting_for, authorize
from preheat.api._problems import problem_response
from preheat.errors import InvalidRequest, PreheatError, Unauthenticated
from preheat.logs import get_logger
from preheat.tokens import TokenStore

log = get_logger("access")

LOGIN = "/login"
_COOKIE = "preheat_token"
_OPEN = frozenset({"/v1/healthz", "/v1/readyz", LOGIN})
_LOOKING = frozenset({"GET", "HEAD"})
_LOOKING_BY_POST = frozenset({"/api/v1/master/list_job"})
_ADMIN = ("/v1/tokens",)
_ADMIN_CHANGES = ("/v1/workers", "/v1/mounts", "/v1/quotas")
_MAX_FORM_BYTES = 4096
NextPage = Annotated[str, Query(alias="next", max_length=2000)]


def needed_role(method: str, path: str) -> Role:
    """Return the role that a request takes; what is not known takes more than looking does."""
    if _is_below(path, _ADMIN):
        return Role.ADMIN
    if method in _LOOKING or path in _LOOKING_BY_POST:
        return Role.READ
    return Role.ADMIN if _is_below(path, _ADMIN_CHANGES) else Role.SUBMIT


class AccessMiddleware:
    """Lets a request pass whose token allows the route; an answer that goes on ends when its token does.

    Args:
        app: what is protected.
        tokens: who is known.
    """

    def __init__(self, app: ASGIApp, *, tokens: TokenStore) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            authorization = _authorization(request)
            grant = self._tokens.authenticate(authorization)
            authorize(grant, needed_role(request.method, request.url.path))
        except PreheatError as error:
            await _refusal(request, error)(scope, receive, send)
            return
        with acting_for(grant):
            await self._app(scope, receive, _Sender(send, authorization, self._tokens))


class _Sender:
    """Passes an answer on for as long as the token is valid."""

    def __init__(self, send: Send, authorization: str, tokens: TokenStore) -> None:
        self._send = send
        self._authorization = authorization
        self._tokens = tokens
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return
        if message.get("more_body") and not self._is_valid():
            self._ended = True
            message = {"type": "http.response.body"}
        await self._send(message)

    def _is_valid(self) -> bool:
        try:
            self._tokens.authenticate(self._authorization)
        except PreheatError:
            return False
        return True


def login_router(tokens: TokenStore, *, secure: bool) -> APIRouter:
    """Return the routes of the login form.

    Args:
        tokens: who is known.
        secure: whether browsers reach the coordinator by HTTPS, and may send the cookie by nothing else.
    """
    router = APIRouter(include_in_schema=False)
    templates = Environment(loader=PackageLoader("preheat.api"), autoescape=True, undefined=StrictUndefined)
    form = templates.get_template("login.html")

    @router.get(LOGIN)
    async def show_form() -> HTMLResponse:
        return HTMLResponse(form.render(problem=""))

    @router.post(LOGIN)
    async def log_in(request: Request, next_page: NextPage = "/") -> Response:
        text = await _form_field(request, "token")
        try:
            tokens.authenticate(f"Bearer {text}")
        except Unauthenticated as error:
            return HTMLResponse(form.render(problem=error.message), status_code=error.status)
        response = RedirectResponse(_local(next_page), status_code=303)
        response.set_cookie(_COOKIE, text.strip(), httponly=True, samesite="strict", secure=secure)
        return response

    return router


def _authorization(request: Request) -> str:
    """Return the header, or where nothing can be changed the cookie's token: other sites make browsers send that."""
    cookie = request.cookies.get(_COOKIE)
    if cookie and request.method in _LOOKING and "authorization" not in request.headers:
        return f"Bearer {cookie}"
    return request.headers.get("authorization", "")


def _refusal(request: Request, error: PreheatError) -> Response:
    path = request.url.path
    log.info("A request was refused.", action="request_refused", method=request.method, path=path, code=error.code)
    if not isinstance(error, Unauthenticated):
        return problem_response(error)
    if request.method in _LOOKING and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{LOGIN}?next={quote(path)}", status_code=303)
    response = problem_response(error)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _form_field(request: Request, name: str) -> str:
    """Return a field of a URL-encoded form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            raise InvalidRequest(f"The form has more than {_MAX_FORM_BYTES} bytes.")
    fields = parse_qs(body.decode("ascii", errors="replace"))
    return fields.get(name, [""])[0]


def _local(target: str) -> str:
    """Return where to go after the login; never to another site."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
