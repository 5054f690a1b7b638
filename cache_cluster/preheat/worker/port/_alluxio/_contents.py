"""The bytes of files, as Alluxio's clients ask for them: whole, by pages, and their beginnings and ends."""

from __future__ import annotations

from preheat.errors import InvalidRequest, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE
from preheat.units import parse_size
from preheat.worker._forward import Forward
from preheat.worker._ranges import Asked, resolve
from preheat.worker.port import _http as http
from preheat.worker.port._alluxio._routes import Route
from preheat.worker.port._answers import Stream

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
        opened = await self._reads.open(path, asked=asked, wish=request.headers)
        start, end = resolve(asked or (0, None), opened.info.size)
        end = max(start, end)
        head = http.head_of_part(opened.info, 200, start, end, hit=opened.hit, keep_alive=request.keep_alive)
        if start == end or request.is_head:
            return head
        pages = opened.pages(start, end)
        return Stream(head=head, length=end - start, first=await anext(pages), rest=pages)


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
    start = route.number(route.page, "page") * PAGE_SIZE
    offset = route.number(route.fields.get("offset", "0"), "offset")
    length = route.number(route.fields.get("length", str(max(0, PAGE_SIZE - offset))), "length")
    if offset + length > PAGE_SIZE:
        raise InvalidRequest(
            f"offset={offset} and length={length} reach beyond the page, which has {PAGE_SIZE} bytes.",
            remedy="Leave alluxio.worker.page.store.page.size at 1MB.",
        )
    return start + offset, start + offset + length


def _count(route: Route) -> int:
    return parse_size(route.fields.get("numOfBytes", _HEAD_BYTES), field="numOfBytes")
