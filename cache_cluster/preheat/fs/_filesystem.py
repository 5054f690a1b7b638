"""The fsspec filesystem ``preheat://``: reads of an under store, served by the cache's workers.

``preheat://bucket/key`` is ``s3://bucket/key``, and ``preheat:///absolute/path`` is ``file:///absolute/path``. The
client computes itself which worker owns an object, so a coordinator is needed once, for the placement map, and never
for a read. The filesystem is read-only: data is written to the under store, where it belongs.
"""

from __future__ import annotations

import asyncio
import errno
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import get_loop
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike, tokenize

from preheat.batch_read import MAX_BODY, MAX_OFFSET, Read
from preheat.errors import InvalidPath, ObjectNotFound
from preheat.fs._batch import LEAST_READS
from preheat.fs._client import Client
from preheat.fs._file import PreheatFile, new_file
from preheat.fs._listing import Info, below, child, directories, directory_info, file_info, next_start, under_store_path
from preheat.fs._read_only import ReadOnlyFileSystem, refuse_to_write
from preheat.fs._session import ClientSettings, Environment, ReadStats
from preheat.paths import UfsPath

_DEFAULT_COORDINATOR = "http://127.0.0.1:19999"


class PreheatFileSystem(ReadOnlyFileSystem):
    """Reads objects through the cache.

    A file that is open, and a read with ``etag=``, stays with one version: VersionChanged is raised rather than bytes
    of another one returned. Errors are those of ``preheat.errors``, which are FileNotFoundError, PermissionError etc.

    Args:
        coordinator: base URL; by default PREHEAT_COORDINATOR_URL, or the local one.
        token: sent to coordinator and workers; by default PREHEAT_TOKEN.
        workers: base URLs of workers to use without a coordinator. Their ids are not known, so an object may be looked
            for on another worker than the one that a job loaded it to: right bytes, but a miss.
        **options: as for every fsspec filesystem.
    """

    protocol = "preheat"
    root_marker = ""
    cachable = True
    _environment = Environment()
    _extra_tokenize_attributes = ("_environment",)  # another cluster there is another filesystem

    def __init__(
        self,
        coordinator: str | None = None,
        *,
        token: str | None = None,
        workers: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._pid: int = os.getpid()
        self._settings = ClientSettings(
            coordinator=coordinator or os.environ.get("PREHEAT_COORDINATOR_URL") or _DEFAULT_COORDINATOR,
            token=token if token is not None else os.environ.get("PREHEAT_TOKEN", ""),
            workers=tuple(workers),
        )
        self._clients: dict[tuple[int, asyncio.AbstractEventLoop], Client] = {}
        self.stats = ReadStats()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that synchronous calls run in; a forked child gets one of its own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        loop: asyncio.AbstractEventLoop | None = self._loop
        return loop

    @property
    def fsid(self) -> str:
        """What tells this filesystem from others."""
        return f"preheat_{tokenize(self._settings.coordinator, self._settings.workers)}"

    async def aclose(self) -> None:
        """Close the connections of the running loop; needed only with ``asynchronous=True``."""
        client = self._clients.pop((os.getpid(), asyncio.get_running_loop()), None)
        if client:
            await client.close()

    def _client(self) -> Client:
        """Return the running loop's client. One that a forked child inherited stays as it is, unused."""
        key = os.getpid(), asyncio.get_running_loop()
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = Client(self._settings, self.stats)
            weakref.finalize(self, _close, client, *key)
        return client

    # What there is.

    async def _info(self, path: str, **_: Any) -> Info:
        name = self._strip_protocol(path)
        if not name:
            return directory_info(name)
        root = under_store_path(name)
        if below(root) != root.key:
            try:
                return file_info(root, await self._client().stat(root))
            except ObjectNotFound:
                root = root.with_key(below(root))
        if (await self._client().list(root, limit=1)).objects:
            return directory_info(name)
        raise ObjectNotFound(f"path='{root}': nothing is at or below it.")

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Info] | list[str]:  # noqa: FBT001, FBT002 - fsspec's
        name = self._strip_protocol(path)
        root = under_store_path(name)
        children = await self._children(root.with_key(below(root)))
        infos = list(children.values()) or [await self._info(name)]
        return infos if detail else [info["name"] for info in infos]

    async def _children(self, root: UfsPath) -> dict[str, Info]:
        """Return the direct children of a directory, skipping what lies deeper wherever a page ends in it."""
        found: dict[str, Info] = {}
        after: str | None = ""
        while after is not None:
            page = await self._client().list(root, after=after)
            found |= {info["name"]: info for info in (child(root, item) for item in page.objects)}
            after = next_start(root, page.next) if page.next else None
        return found

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002 - fsspec's
        **options: Any,
    ) -> dict[str, Info] | list[str]:
        if maxdepth is not None:
            found: dict[str, Info] | list[str]
            found = await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **options)
            return found
        root = under_store_path(self._strip_protocol(path))
        infos = {info["name"]: info async for info in self._flat(root)}
        if withdirs:
            infos = dict(sorted((infos | directories(root, infos)).items()))
        return infos if options.get("detail") else list(infos)

    async def _flat(self, root: UfsPath) -> AsyncIterator[Info]:
        after: str | None = ""
        while after is not None:
            page = await self._client().list(root, after=after)
            for item in page.objects:
                yield file_info(root, item)
            after = page.next

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **_: Any) -> Any:  # noqa: FBT001, FBT002 - fsspec's
        infos: Any = await self._find(path, maxdepth=maxdepth, detail=True)
        sizes = {name: info["size"] for name, info in infos.items()}
        return sum(sizes.values()) if total else sizes

    # Reading.

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, *, etag: str = "", **_: Any
    ) -> bytes:
        name = self._strip_protocol(path)
        first, stop = await self._bounds(name, start, end)
        if stop is not None and first >= stop:
            return b""
        byte_range = f"bytes={first}-{'' if stop is None else stop - 1}" if first or stop is not None else ""
        return await self._client().read(under_store_path(name), byte_range=byte_range, etag=etag)

    async def _cat(
        self,
        path: str | list[str],
        recursive: bool = False,  # noqa: FBT001, FBT002 - fsspec's
        on_error: str = "raise",
        batch_size: int | None = None,
        *,
        start: int | None = None,
        end: int | None = None,
        **options: Any,
    ) -> Any:
        names = await self._expand_path(path)
        if recursive:  # fsspec would ask for the directories' bytes too
            names = sorted({name for root in names for name in await self._find(root)})
            if not names:
                raise ObjectNotFound(f"path={path!r}: nothing is at or below it.")
        failing = "raise" if on_error == "raise" else "return"
        found = await self._cat_ranges(names, start, end, None, batch_size, failing, **options)
        if not recursive and isinstance(path, str) and names == [self._strip_protocol(path)]:
            return found[0]
        by_name = dict(zip(names, found, strict=True))
        return {name: data for name, data in by_name.items() if on_error != "omit" or isinstance(data, bytes)}

    async def _cat_ranges(  # noqa: PLR0917 - fsspec's
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        *,
        etag: str = "",
        **options: Any,
    ) -> list[bytes | Exception]:
        if max_gap is not None:
            raise NotImplementedError("max_gap")  # as fsspec's own
        starts, ends = (bound if isinstance(bound, Iterable) else [bound] * len(paths) for bound in (starts, ends))
        spans = list(zip(paths, starts, ends, strict=True))
        reads = {at: read for at, span in enumerate(spans) if (read := self._small_read(*span, etag))}
        if len(reads) < LEAST_READS:
            reads = {}
        alone = [at for at in range(len(spans)) if at not in reads]
        columns = [[spans[at][column] for at in alone] for column in range(3)]
        together, others = await asyncio.gather(
            self._client().read_many(list(reads.values())),
            super()._cat_ranges(*columns, None, batch_size, etag=etag, **options),
        )
        results = dict(zip([*reads, *alone], [*together, *others], strict=True))
        found = [results[at] for at in range(len(spans))]
        if on_error != "return" and (failed := [result for result in found if isinstance(result, Exception)]):
            raise failed[0]
        return found

    def _small_read(self, path: str, start: int | None, end: int | None, etag: str) -> Read | None:
        """Return a read that a batch may hold: not a long range, nor one that has to be counted from the end."""
        first = start or 0
        if not 0 <= first <= MAX_OFFSET or (end is not None and not first < end <= min(first + MAX_BODY, MAX_OFFSET)):
            return None
        try:
            uri = str(under_store_path(self._strip_protocol(path)))
        except InvalidPath:
            return None
        return Read(uri, first, end, etag or None)

    async def _bounds(self, name: str, start: int | None, end: int | None) -> tuple[int, int | None]:
        """Return the bounds with none below zero, as a slice would read them."""
        if (start or 0) >= 0 and (end or 0) >= 0:
            return start or 0, end
        first, stop, _ = slice(start, end).indices((await self._info(name))["size"])
        return first, stop

    async def _get_file(self, rpath: str, lpath: Any, *, callback: Callback = DEFAULT_CALLBACK, **_: Any) -> None:
        path = under_store_path(self._strip_protocol(rpath))
        if isfilelike(lpath):
            await self._client().download(path, lpath, callback.absolute_update)
        elif not _is_directory(lpath):  # one among the sources: its files made it already
            with new_file(Path(lpath)) as file:
                await self._client().download(path, file, callback.absolute_update)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, cache_options: Any = None, **options: Any
    ) -> PreheatFile:
        if mode != "rb":
            refuse_to_write(path)
        details = self.info(path)
        if details["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        cache_type = options.get("cache_type", "readahead")
        return PreheatFile(
            self,
            path,
            details=details,
            block_size=block_size,
            cache_type=cache_type,
            cache_options=cache_options,
        )

    def ukey(self, path: str) -> str:
        """Return what changes when the file does: its etag and size."""
        info = self.info(path)
        return str(tokenize(info.get("etag"), info["size"]))

    def checksum(self, path: str) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    def modified(self, path: str) -> datetime:
        """Return when the under store last changed the object, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    def created(self, path: str) -> datetime:
        """Return :meth:`modified`: an object is replaced, never edited."""
        return self.modified(path)


def _is_directory(path: str) -> bool:
    return Path(path).is_dir()


def _close(client: Client, pid: int, loop: asyncio.AbstractEventLoop) -> None:
    """Close what a filesystem leaves behind, unless a fork inherited it or its loop is gone."""
    if pid == os.getpid() and loop.is_running():
        asyncio.run_coroutine_threadsafe(client.close(), loop)
