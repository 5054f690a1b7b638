"""The half of the filesystem that writes, where the mounts allow it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsspec.asyn import sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from preheat.errors import Conflict, InvalidPath, ObjectNotFound
from preheat.fs._connected import ConnectedFileSystem
from preheat.fs._listing import under_store_path
from preheat.fs._uploads import send
from preheat.fs._writer import Body
from preheat.paths import UfsPath

_DELETIONS = 32
"""Objects that are deleted at once."""


class WritingFileSystem(ConnectedFileSystem):
    """Writes whole objects. There are no empty directories: making one is checked, and nothing is done."""

    async def _pipe_file(self, path: str, value: Body, mode: str = "overwrite", **_: Any) -> None:
        view = memoryview(value).cast("B")

        async def source(start: int, end: int) -> Body:
            return view[start:end]

        await send(self._writer, self._object(path), source, len(view), only_new=mode == "create")

    async def _put_file(
        self, lpath: Any, rpath: str, mode: str = "overwrite", *, callback: Callback = DEFAULT_CALLBACK, **_: Any
    ) -> None:
        if await asyncio.to_thread(_is_directory, lpath):
            return
        file = await asyncio.to_thread(open, lpath, "rb")
        try:
            size = os.fstat(file.fileno()).st_size
            callback.set_size(size)

            async def source(start: int, end: int) -> Body:
                data = await asyncio.to_thread(os.pread, file.fileno(), end - start, start)
                if len(data) < end - start:
                    raise Conflict(f"file='{lpath}' became shorter while it was read.")
                return data

            path, only_new = self._object(rpath), mode == "create"
            await send(self._writer, path, source, size, only_new=only_new, progress=callback.absolute_update)
        finally:
            file.close()

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        source, target = self._object(path1), self._object(path2)
        try:
            await self._writer.copy(source, target)
        except ObjectNotFound:
            if not await self._isdir(path1):  # one among the sources: its files are copied by themselves
                raise

    async def _rm_file(self, path: str, **_: Any) -> None:
        try:
            await self._writer.delete(self._object(path))
        except ObjectNotFound:
            if await self._isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
            raise

    async def _rm(
        self,
        path: str | list[str],
        recursive: bool = False,  # noqa: FBT001, FBT002 - fsspec's
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        await self._rm_files(await self._files(path, recursive=recursive, maxdepth=maxdepth), batch_size)

    async def _files(self, path: str | list[str], *, recursive: bool, maxdepth: int | None) -> list[str]:
        """Return what a path, or a pattern, names; with ``recursive`` the files at and below it."""
        names: list[str] = await self._expand_path(path)
        if not recursive:
            return names
        found = [await self._find(name, maxdepth=maxdepth) for name in names]
        files = sorted({name for below in found for name in below})
        if not files:
            raise ObjectNotFound(f"path={path!r}: nothing is at or below it.")
        return files

    async def _rm_files(self, names: Sequence[str], batch_size: int | None = None) -> None:
        """Delete objects; the first error is raised when all have been tried."""
        turns = asyncio.Semaphore(batch_size or self.batch_size or _DELETIONS)

        async def delete(name: str) -> None:
            async with turns:
                await self._rm_file(name)

        results = await asyncio.gather(*map(delete, names), return_exceptions=True)
        if errors := [result for result in results if isinstance(result, BaseException)]:
            raise errors[0]

    async def _mv(
        self,
        path1: str,
        path2: str,
        recursive: bool = False,  # noqa: FBT001, FBT002 - fsspec's
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """Copy, then delete what was copied, and not what has come since."""
        if self._strip_protocol(path1) == self._strip_protocol(path2):
            return
        files = await self._files(path1, recursive=recursive, maxdepth=maxdepth)
        await self._copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
        await self._rm_files(files)

    mv = sync_wrapper(_mv)

    async def _touch(self, path: str, truncate: bool = True, **_: Any) -> None:  # noqa: FBT001, FBT002 - fsspec's
        if not truncate and await self._exists(path):
            raise NotImplementedError("An object's time of modification cannot be set.")
        await self._writer.put(self._object(path), b"")

    touch = sync_wrapper(_touch)

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: FBT001, FBT002, ARG002 - fsspec's
        if under_store_path(self._strip_protocol(path)).key:
            return
        if await self._exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        raise NotImplementedError(f"path={path!r}: buckets are made at the under store.")

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - fsspec's
        if not exist_ok:
            await self._mkdir(path)

    async def _rmdir(self, path: str) -> None:
        if await self._exists(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    rmdir = sync_wrapper(_rmdir)

    def _object(self, name: str) -> UfsPath:
        """Return the path to write to; raises InvalidPath if it is a bucket's or none."""
        path = under_store_path(self._strip_protocol(name))
        if not path.key:
            raise InvalidPath(f"path={name!r} names a bucket, not an object.")
        return path


def _is_directory(path: Any) -> bool:
    return Path(path).is_dir()
