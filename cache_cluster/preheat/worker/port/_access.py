"""Who may read what at the data port: checked before a request reaches the endpoints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from preheat.access import EVERYTHING, Grant, Role, TokenRecord, authorize
from preheat.batch_read import BATCH
from preheat.engine import Engine
from preheat.errors import EngineUnavailable, Forbidden
from preheat.paths import UfsPath
from preheat.tokens import TokenStore
from preheat.worker.port import _health
from preheat.worker.port import _http as http

_READ_METHODS = frozenset({"GET", "HEAD"})
_LOAD = "/v1/load"
"""Alluxio's: a GET that also submits and stops jobs."""
_BY_ID = re.compile(r"/v1/(file/[^/]+/page|chunk|copy|head|mkdir|mv|path|rm|tail|touch)/[^/]+")
"""Alluxio's: which path an id in the target stands for has to be found out first."""
_PATH_FIELDS = frozenset({"path", "target"})


class Authorizer:
    """Asks each request for a token that allows what it wants.

    Needs the engine once, to learn the tokens: while it is away, those known last stay valid.
    """

    def __init__(self) -> None:
        self._tokens: TokenStore | None = None

    async def follow(self, engine: Engine) -> None:
        """Keep the tokens current until cancelled."""
        self._tokens = TokenStore(engine)
        await self._tokens.follow()

    def check(self, request: http.Request) -> None:
        """Return if the request is allowed.

        Raises:
            Unauthenticated: it has no valid token.
            Forbidden: its token's role or path prefixes do not allow it.
            EngineUnavailable: the tokens are not known yet.
        """
        authorization = request.headers.get("authorization", "")
        grant = EVERYTHING if request.target in _health.OPEN else self.grant(authorization)
        if request.target == BATCH or not (grant.prefixes or grant.role is Role.READ):
            return  # the paths of a batch are in its body: the endpoint checks each, as a read of it
        if request.target.startswith(http.DATA_PREFIX):
            authorize(grant, _needed(request.method), (http.data_path(request.target),))
        else:
            _check_other(grant, request)

    def check_paths(self, request: http.Request, paths: Iterable[UfsPath]) -> None:
        """Return if a request may do to paths that it names by ids what its method says; raises as :meth:`check`."""
        authorize(self.grant(request.headers.get("authorization", "")), _needed(request.method), paths)

    def check_read(self, authorization: str, path: UfsPath) -> None:
        """Return if the sender of an ``Authorization`` may read an object, as :meth:`check` of a GET; raises alike."""
        grant = self.grant(authorization)
        if grant.prefixes:  # without, whatever its role: each may read
            authorize(grant, Role.READ, (path,))

    def s3_record(self, access_key_id: str) -> TokenRecord:
        """Return the token to which an access key of S3 belongs; raises as :meth:`grant`."""
        return self._known().s3_record(access_key_id)

    def grant(self, authorization: str) -> Grant:
        """Return what the sender of an ``Authorization`` may do.

        Raises:
            Unauthenticated, EngineUnavailable: as :meth:`check`.
        """
        return self._known().authenticate(authorization)

    def _known(self) -> TokenStore:
        if self._tokens is None:
            raise EngineUnavailable("The tokens are not known yet.", remedy="Try again.")
        return self._tokens


@asynccontextmanager
async def following_tokens(authorizer: Authorizer | None, engine: Engine) -> AsyncIterator[None]:
    """Keep an authorizer's tokens current while the block runs; when that fails, so does the block."""
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(authorizer.follow(engine)) if authorizer else None
        yield
        if following:
            following.cancel()


def _check_other(grant: Grant, request: http.Request) -> None:
    """Check a request whose paths, if it has any, are in the query; all of them, whichever the endpoint takes."""
    route, _, query = request.target.partition("?")
    fields = parse_qsl(query, keep_blank_values=True)
    paths = [UfsPath.parse(value) for name, value in fields if name in _PATH_FIELDS] if grant.prefixes else []
    operations = {value.lower() for name, value in fields if name.lower() == "optype"}
    changes = route == _LOAD and operations != {"progress"}
    authorize(grant, Role.SUBMIT if changes else _needed(request.method), paths)
    if grant.prefixes and not paths and route not in _health.COUNTERS and not _BY_ID.fullmatch(route):
        raise Forbidden(f"{route} names no path, and the token is bound to some.")


def _needed(method: str) -> Role:
    return Role.READ if method in _READ_METHODS else Role.SUBMIT
