"""What Alluxio's clients write, move and remove.

What is acknowledged is where the mount's write mode wants it. So the pages of a file are not collected until it is
whole, which no client says: with each page the object is written anew, as long as all its pages so far. That takes
time that grows with the square of their number, so whoever has more than a few sends the file as one chunked body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from preheat.destinations import check as check_destination
from preheat.errors import Conflict, InvalidRequest, ObjectNotFound, ReadOnly, VersionChanged
from preheat.mounts import WriteMode
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE
from preheat.worker._freshness import Wish
from preheat.worker._reads import OpenedRead, ReadService
from preheat.worker.port import _http as http
from preheat.worker.port._alluxio._jobs import Jobs
from preheat.worker.port._alluxio._routes import Route, number
from preheat.worker.writes import WriteService

_MAX_PAGES = 64
_LISTED = 1000
_NOW = Wish(max_age=0)
"""What is there is what the under store says: it is not to be overwritten because it is too new to be known here."""
_AT_ONCE = 16
_RECURSIVE = frozenset({"recursive", "recursiveAlias"})
_UNKNOWN_OPTIONS = frozenset({"sync_parent_next_time", "remove_unchecked_option", "delete_mount_point"})

Body = AsyncIterator[bytes | memoryview]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """A request, and the path that it names by an id."""

    request: http.Request
    route: Route
    path: UfsPath

    @property
    def authorization(self) -> str | None:
        """By whose right it is asked for."""
        return self.request.headers.get("authorization")

    @property
    def options(self) -> frozenset[str]:
        """Those that are on."""
        return frozenset(name for name, value in self.route.fields.items() if value.lower() == "true")


class Changes:
    """Answers the POSTs.

    Args:
        reads: what knows the objects.
        writes: what writes them; none if nothing is written here.
        jobs: what copies, moves and frees more than one object.
    """

    def __init__(self, reads: ReadService, writes: WriteService | None, jobs: Jobs) -> None:
        self._reads = reads
        self._some_writes = writes
        self._jobs = jobs
        self._of_one: dict[str, Callable[[_Change], Awaitable[object]]] = {
            "chunk": self._put,
            "page": self._put_page,
            "touch": self._touch,
            "mkdir": self._make_directory,
            "rm": self._remove,
        }

    async def answer(self, request: http.Request, route: Route, path: UfsPath, target: UfsPath | None) -> http.Answer:
        """Make a change; ``target`` is where a copy or a move goes.

        Raises:
            PreheatError: it is not possible; of more than one object, some may have been changed.
        """
        change = _Change(request=request, route=route, path=path)
        if target is None:
            await self._of_one[route.name](change)
        else:
            await self._copy(change, target)
        return http.json_answer({"success": True})

    @property
    def _writes(self) -> WriteService:
        if self._some_writes is None:
            raise ReadOnly("This worker writes nothing.")
        return self._some_writes

    async def _put(self, change: _Change) -> None:
        await self._writes.put(change.path, _body(change.request), size=change.request.length)

    async def _put_page(self, change: _Change) -> None:
        path, route = change.path, change.route
        index, page = number(route.page, "page"), await _held_page(change.request)
        if index >= _MAX_PAGES:
            raise InvalidRequest(
                f"page={index}: a file that is written by pages has at most {_MAX_PAGES}.",
                remedy="Write it with alluxiofs's write_bytes or upload, with S3 or with fsspec.",
            )
        if not index:
            await self._writes.put(path, _pieces(page), size=len(page))
            return
        opened, start = await self._reads.open(path, wish=_NOW), index * PAGE_SIZE
        if not start <= opened.info.size <= start + PAGE_SIZE:
            raise Conflict(
                f"page={index} cannot be written: '{path}' has {opened.info.size} bytes.",
                remedy="Write the pages in their order, all but the last one of 1 MiB.",
            )
        body = _pieces(page, before=opened, end=start)
        await self._writes.put(path, body, size=start + len(page), if_match=opened.info.etag)

    async def _touch(self, change: _Change) -> None:
        try:
            await self._writes.put(change.path, _pieces(b""), size=0, if_none_match=True)
        except VersionChanged:  # it is there: touching a file must not empty it
            return

    async def _make_directory(self, change: _Change) -> None:
        """Do nothing where it could be written: a directory is there as soon as there is a file in it."""
        self._check_writable(change.path)

    async def _remove(self, change: _Change) -> None:
        path, options = change.path, change.options
        if refused := options & _UNKNOWN_OPTIONS:
            raise InvalidRequest(
                f"{', '.join(sorted(refused))} has no meaning here; nothing was removed.",
                remedy="alluxiofs 1.1.17 sends its rm(remove_alluxio_only=True) as sync_parent_next_time. "
                "Use `preheat fs free` to remove what is cached and nothing else.",
            )
        if "remove_alluxio_only" in options:
            await self._jobs.run("free", str(path), authorization=change.authorization)
        elif options & _RECURSIVE:
            await self._remove_all(path)
        elif not await self._writes.delete(path):
            await self._refuse_directory(path)

    async def _remove_all(self, path: UfsPath) -> None:
        after, found = "", False
        while page := await self._reads.list(path, after=after, limit=_LISTED):
            for start in range(0, len(page), _AT_ONCE):
                infos = page[start : start + _AT_ONCE]
                await _all(self._writes.delete(path.with_key(info.key)) for info in infos)
            after, found = page[-1].key, True
        if not found:
            raise ObjectNotFound(f"path='{path}': there is nothing at or below it.")

    async def _refuse_directory(self, path: UfsPath) -> None:
        if await self._is_directory(path):
            raise Conflict(f"path='{path}' is a directory.", remedy="Say recursive=True if all of it is meant.")
        raise ObjectNotFound(f"path='{path}' does not exist.")

    async def _copy(self, change: _Change, target: UfsPath) -> None:
        path, options, moves = change.path, change.options, change.route.name == "mv"
        check_destination(str(path), str(target))
        for written in (target, path) if moves else (target,):
            self._check_writable(written)
        if await self._exists(path):
            if "forced" not in options and await self._exists(target):
                raise Conflict(f"'{target}' exists.", remedy="Remove it first; a copy also takes force=True.")
            await self._writes.copy(path, target)
            if moves:
                await self._writes.delete(path)
        elif moves or options & _RECURSIVE:
            await self._jobs.run(
                "move" if moves else "copy",
                _directory(path),
                destination=_directory(target),
                authorization=change.authorization,
            )
        else:
            await self._refuse_directory(path)

    def _check_writable(self, path: UfsPath) -> None:
        if self._reads.policies.mounts.of(str(path)).writes is WriteMode.READ_ONLY:
            raise ReadOnly(f"path='{path}' cannot be written.")

    async def _exists(self, path: UfsPath) -> bool:
        try:
            await self._reads.stat(path, wish=_NOW)
        except ObjectNotFound:
            return False
        return True

    async def _is_directory(self, path: UfsPath) -> bool:
        return bool(await self._reads.list(UfsPath.parse(_directory(path)), after="", limit=1))


def _directory(path: UfsPath) -> str:
    return str(path) if not path.key or path.key.endswith("/") else f"{path}/"


async def _body(request: http.Request) -> Body:
    if request.stream is None:
        yield request.body
        return
    async for piece in request.stream:
        yield piece


async def _held_page(request: http.Request) -> bytes:
    held = bytearray()
    async for piece in _body(request):
        held += piece
        if len(held) > PAGE_SIZE:
            raise InvalidRequest(f"A page has at most {PAGE_SIZE} bytes.")
    return bytes(held)


async def _pieces(page: bytes, *, before: OpenedRead | None = None, end: int = 0) -> Body:
    if before is not None:
        async for piece in before.pages(0, end):
            yield piece
    if page:
        yield page


async def _all(changes: Iterable[Awaitable[object]]) -> None:
    """Await all of some changes, and then raise the first error, so that none goes on behind an answer."""
    for done in await asyncio.gather(*changes, return_exceptions=True):
        if isinstance(done, BaseException):
            raise done
