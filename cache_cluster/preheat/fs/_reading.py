"""The half of the filesystem that reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike

from preheat.batch_read import MAX_BODY, MAX_OFFSET, Read
from preheat.errors import InvalidPath, ObjectNotFound
from preheat.fs._batch import LEAST_READS
from preheat.fs._connected import ConnectedFileSystem
from preheat.fs._demand import Demand
from preheat.fs._file import new_file
from preheat.fs._listing import Info, below, child, directories, directory_info, file_info, next_start, under_store_path
from preheat.paths import UfsPath


class ReadingFileSystem(ConnectedFileSystem):
    """Listings and reads. Each call takes ``freshness=`` and ``version=``, in place of the filesystem's own."""

    # What there is.

    async def _info(self, path: str, **options: Any) -> Info:
        name = self._strip_protocol(path)
        demand = self._demanded(options)
        if not name:
            return directory_info(name)
        root = under_store_path(name)
        if below(root) != root.key:
            try:
                return file_info(root, await self._reader.stat(root, demand))
            except ObjectNotFound:
                root = root.with_key(below(root))
        if (await self._reader.list(root, demand, limit=1)).objects:
            return directory_info(name)
        raise ObjectNotFound(f"path='{root}': nothing is at or below it.")

    async def _ls(self, path: str, detail: bool = True, **options: Any) -> list[Info] | list[str]:  # noqa: FBT001, FBT002 - fsspec's
        name = self._strip_protocol(path)
        root = under_store_path(name)
        children = await self._children(root.with_key(below(root)), self._demanded(options))
        infos = list(children.values()) or [await self._info(name, **options)]
        return infos if detail else [info["name"] for info in infos]

    async def _children(self, root: UfsPath, demand: Demand) -> dict[str, Info]:
        """Return the direct children of a directory, skipping what lies deeper wherever a page ends in it."""
        found: dict[str, Info] = {}
        after: str | None = ""
        while after is not None:
            page = await self._reader.list(root, demand, after=after)
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
        infos = await self._found(root, self._demanded(options))
        if withdirs:
            infos = dict(sorted((infos | directories(root, infos)).items()))
        return infos if options.get("detail") else list(infos)

    async def _found(self, root: UfsPath, demand: Demand) -> dict[str, Info]:
        """Return what is at and below a path; of a dataset version, below: it is known by the directory's slash."""
        infos: dict[str, Info] = {}
        if demand.version:
            directory = root.with_key(below(root))
            infos = {info["name"]: info async for info in self._flat(directory, demand)}
        return infos or {info["name"]: info async for info in self._flat(root, demand)}

    async def _flat(self, root: UfsPath, demand: Demand) -> AsyncIterator[Info]:
        after: str | None = ""
        while after is not None:
            page = await self._reader.list(root, demand, after=after)
            for item in page.objects:
                yield file_info(root, item)
            after = page.next

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **options: Any) -> Any:  # noqa: FBT001, FBT002 - fsspec's
        infos: Any = await self._find(path, maxdepth=maxdepth, **options, detail=True)
        sizes = {name: info["size"] for name, info in infos.items()}
        return sum(sizes.values()) if total else sizes

    # Reading.

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, *, etag: str = "", **options: Any
    ) -> bytes:
        name = self._strip_protocol(path)
        first, stop = await self._bounds(name, start, end, options)
        if stop is not None and first >= stop:
            return b""
        return await self._reader.read(
            Read(str(under_store_path(name)), first, stop, etag or None), self._demanded(options)
        )

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
            names = sorted({name for root in names for name in await self._find(root, **options)})
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
            self._reader.read_many(list(reads.values()), self._demanded(options)),
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

    async def _bounds(
        self, name: str, start: int | None, end: int | None, options: dict[str, Any]
    ) -> tuple[int, int | None]:
        """Return the bounds with none below zero, as a slice would read them."""
        if (start or 0) >= 0 and (end or 0) >= 0:
            return start or 0, end
        first, stop, _ = slice(start, end).indices((await self._info(name, **options))["size"])
        return first, stop

    async def _get_file(self, rpath: str, lpath: Any, *, callback: Callback = DEFAULT_CALLBACK, **options: Any) -> None:
        demand = self._demanded(options)
        path = under_store_path(self._strip_protocol(rpath))
        if isfilelike(lpath):
            await self._reader.download(path, demand, lpath, callback.absolute_update)
        elif not _is_directory(lpath):  # one among the sources: its files made it already
            with new_file(Path(lpath)) as file:
                await self._reader.download(path, demand, file, callback.absolute_update)


def _is_directory(path: str) -> bool:
    return Path(path).is_dir()
