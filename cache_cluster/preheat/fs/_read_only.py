"""The half of a filesystem that writes, refused."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

from fsspec.asyn import AsyncFileSystem


class ReadOnlyFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Refuses to write, with the same OSError whatever is tried."""

    async def _pipe_file(self, path: str, *_: Any, **__: Any) -> None:
        refuse_to_write(path)

    async def _put_file(self, _lpath: str, rpath: str, **_: Any) -> None:
        refuse_to_write(rpath)

    async def _cp_file(self, _path1: str, path2: str, **_: Any) -> None:
        refuse_to_write(path2)

    async def _rm_file(self, path: str, **_: Any) -> None:
        refuse_to_write(path)

    async def _mkdir(self, path: str, *_: Any, **__: Any) -> None:
        refuse_to_write(path)

    async def _makedirs(self, path: str, *_: Any, **__: Any) -> None:
        refuse_to_write(path)


def refuse_to_write(path: str) -> NoReturn:
    """Raise the OSError of a filesystem that is read-only."""
    raise OSError(
        errno.EROFS, "preheat:// is read-only; write to the under store, e.g. with s3fs, and preload again", path
    )
