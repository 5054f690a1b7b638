"""The bytes of files, as Alluxio's clients ask for them: whole, by pages, and their beginnings and ends."""

from __future__ import annotations

from http import HTTPStatus

from preheat.errors import InvalidRequest, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE
from preheat.units import parse_size
from preheat.versions import ObjectInfo
from preheat.worker._forward import WISHES, Forward
from preheat.worker._ranges import Asked, resolve
from preheat.worker.port import _http as http
from preheat.worker.port._alluxio._routes import Route, number
from preheat.worker.port._answers import Stream

_OK = HTTPStatus.OK.value
_HEAD_BYTES = "1024"


class Contents:
    """Answers the GETs of ``/v1/chunk``, ``/v1/file``, ``/v1/head`` and ``/v1/tail``.

    Args:
        reads: where the bytes come from: a client of Alluxio may ask any worker.
    """

    def __init__(self, reads: Forward) -> None:
        self._reads = reads

    async def answer(self, request: http.Request, route: Route, path: UfsPath) -> bytes | Stream:
        """Return the bytes that a request asks for; what lies behind the end of the file is left out.

        Raises:
            InvalidRequest: it asks for more than the page, or no number of bytes. Otherwise as ``Forward.open``.
        """
        asked = _asked(route)
        try:
            return await self._part(request, path, asked)
        except VersionChanged:  # it was replaced before its first page was read
            return await self._part(request, path, asked)

    async def _part(self, request: http.Request, path: UfsPath, asked: Asked | None) -> bytes | Stream:
        wish = {name: request.headers[name] for name in WISHES if name in request.headers}
        if request.is_head:
            info, hit = await self._reads.stat(path, wish=wish)
            return _head(request, info, *_resolved(asked, info.size), hit=hit)
        try:
            opened = await self._reads.open(path, asked=asked, wish=wish)
        except http.UnsatisfiableRange:  # what an owner says of a range behind the end
            info, hit = await self._reads.stat(path, wish=wish)
            return _head(request, info, 0, 0, hit=hit)
        start, end = _resolved(asked, opened.info.size)
        head = _head(request, opened.info, start, end, hit=opened.hit)
        if start == end:
            return head
        pages = opened.pages(start, end)
        return Stream(head=head, length=end - start, first=await anext(pages), rest=pages)


def _head(request: http.Request, info: ObjectInfo, start: int, end: int, *, hit: bool) -> bytes:
    return http.head_of_part(info, _OK, start, end, hit=hit, keep_alive=request.keep_alive)


def _resolved(asked: Asked | None, size: int) -> tuple[int, int]:
    """Return the bytes [start, end) that there are of what is asked for."""
    start, end = resolve(asked or (0, None), size)
    return start, max(start, end)


def _asked(route: Route) -> Asked | None:
    match route.name:
        case "page":
            return _page(route)
        case "head":
            return 0, _count(route)
        case "tail":
            count = _count(route)
            return (-count, None) if count else (0, 0)
        case _:
            return None


def _page(route: Route) -> Asked:
    """Return the bytes of a page, or of a part of it."""
    start = number(route.page, "page") * PAGE_SIZE
    offset = number(route.fields.get("offset", "0"), "offset")
    length = number(route.fields.get("length", str(max(0, PAGE_SIZE - offset))), "length")
    if offset + length > PAGE_SIZE:
        raise InvalidRequest(
            f"offset={offset} and length={length} reach beyond the page, which has {PAGE_SIZE} bytes.",
            remedy="Leave alluxio.worker.page.store.page.size at 1MB.",
        )
    return start + offset, start + offset + length


def _count(route: Route) -> int:
    return parse_size(route.fields.get("numOfBytes", _HEAD_BYTES), field="numOfBytes")
