"""What a worker holds, asked over HTTP: ``GET /v1/cached`` of its data port."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from preheat.coordinator._cached import CachedPage
from preheat.copies import CachedCopy
from preheat.errors import Unavailable
from preheat.paths import UfsPath
from preheat.settings import TlsSettings
from preheat.tls import client_context

_ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 5.0


class _Item(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    key: str
    size: int
    etag: str
    last_modified: float
    job: str = ""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    objects: list[_Item]
    next: str | None = None


class HttpCachedListing:
    """A :class:`~preheat.coordinator._cached.CachedListing` of real workers; opens nothing before its first use.

    Args:
        token: bearer token for the data ports, if they want one.
        tls: whom to trust, if the data ports speak HTTPS.
        answer_seconds: deadline of one request.
    """

    def __init__(
        self, *, token: str = "", tls: TlsSettings | None = None, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self._tls = tls or TlsSettings()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = aiohttp.ClientTimeout(total=answer_seconds, sock_connect=_CONNECT_SECONDS)
        self._session: aiohttp.ClientSession | None = None

    async def list(self, worker_url: str, path: UfsPath, *, after: str, limit: int) -> CachedPage:
        """Return one page of what a worker holds; see :class:`~preheat.coordinator._cached.CachedListing`."""
        query = urlencode({"path": str(path), "after": after, "limit": limit})
        url = f"{worker_url.rstrip('/')}/v1/cached?{query}"
        try:
            answer = msgspec.json.decode(await self._get(url), type=_Answer)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise Unavailable(f"{url} does not answer as a worker does: {error!r}.") from error
        if answer.next is not None and answer.next <= after:
            raise Unavailable(f"{url} goes on after {answer.next!r}, which is no step ahead.")
        return CachedPage(objects=[_copy(item) for item in answer.objects], next=answer.next)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(ssl=client_context(self._tls)),
            )
        async with self._session.get(URL(url, encoded=True)) as response:
            body = await response.read()
            if response.status != HTTPStatus.OK:
                raise Unavailable(f"{url} answers {response.status}: {body[:300].decode(errors='replace')}")
            return body


def _copy(item: _Item) -> CachedCopy:
    return CachedCopy(key=item.key, size=item.size, etag=item.etag, last_modified=item.last_modified, job_id=item.job)
