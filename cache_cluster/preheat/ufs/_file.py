"""``file://``: a directory that every worker and the coordinator see at the same place.

- Keys are ordered as S3 orders them: a directory sorts as its name with a slash, so ``a-b`` comes before ``a/b``.
- An etag is the modification time in nanoseconds and the size, both in hexadecimal, joined by a dash. It is the same on
  every machine that mounts the directory. A file that is rewritten in place with the same size within one tick of the
  file system's clock keeps its etag.
- Symbolic links are followed, to files and to directories, except a link to a directory that it stands in. Links that
  lead nowhere, sockets, pipes and devices hold no data and are left out.
- A file is written beside its target under a name like ``.preheat-*.part`` until it is whole and durable. Such names
  are left out of listings; one whose writer died stays until somebody removes it.
- A write puts a file in the place of a link; a removal removes the link. Directories that a removal leaves empty stay.
- A walk holds the names of one directory per level, never those of the whole tree.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

from preheat.attributes import NONE, Attributes
from preheat.errors import InvalidPath, ObjectNotFound, PreheatError
from preheat.paths import UfsPath
from preheat.ufs._base import Download
from preheat.ufs._download import byte_range, check_version, checked
from preheat.ufs._file_draft import Draft, is_draft
from preheat.ufs._file_local import info_of, local, read_error, stat_file, write_error
from preheat.ufs._selection import Selection
from preheat.ufs._settings import UfsSettings
from preheat.ufs._upload import parts
from preheat.ufs._walk import walk
from preheat.versions import ObjectInfo

_COPY_BYTES = 64 << 20
"""What the kernel copies in one go, after which the copy can be cancelled."""


class FileUnderStore:
    """Files on this machine or on a shared file system.

    Args:
        settings: the sizes of pages and chunks.
    """

    def __init__(self, settings: UfsSettings | None = None) -> None:
        self._settings = settings or UfsSettings()

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of the files at and below a path; see :class:`~preheat.ufs.UnderStore`."""
        files = _files(path, after)
        while page := await asyncio.to_thread(lambda: [*islice(files, self._settings.page_size)]):
            yield page

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return one file's size and etag; see :class:`~preheat.ufs.UnderStore`."""
        return await asyncio.to_thread(stat_file, path)

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read a file; see :class:`~preheat.ufs.UnderStore`.

        A file that changes while it is read raises VersionChanged, never a mixture of both.
        """
        info = await self.stat(path)
        check_version(path, info, etag)
        start, end = byte_range(path, info.size, start, end)
        chunks = self._chunks(path, info, start, end)
        return Download(info=info, start=start, end=end, chunks=checked(path, chunks, end - start))

    async def put(
        self,
        path: UfsPath,
        chunks: AsyncIterator[bytes | memoryview],
        *,
        size: int,
        attributes: Attributes = NONE,  # noqa: ARG002 - a file has none
    ) -> ObjectInfo:
        """Write a file; see :class:`~preheat.ufs.UnderStore`."""
        async with _drafted(path) as draft:
            async for part in parts(path, chunks, size, self._settings.part_bytes):
                await asyncio.to_thread(draft.append, part)
            return await asyncio.to_thread(draft.publish)

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        """Let the kernel copy a file, if both are on one file system; see :class:`~preheat.ufs.UnderStore`."""
        info = await self.stat(source)
        check_version(source, info, etag)
        start = 0
        async with _drafted(target) as draft:
            while start < info.size:
                copied = await asyncio.to_thread(draft.append_from, source, info, start, _COPY_BYTES)
                if not copied:
                    return None
                start += copied
            return await asyncio.to_thread(draft.publish)

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        """Remove a file; see :class:`~preheat.ufs.UnderStore`."""
        return await asyncio.to_thread(_delete, path, etag)

    async def close(self) -> None:
        """Nothing stays open between calls."""

    async def _chunks(self, path: UfsPath, info: ObjectInfo, start: int, end: int) -> AsyncIterator[memoryview]:
        while start < end:
            size = min(self._settings.chunk_bytes, end - start)
            chunk = await asyncio.to_thread(_read, path, info, start, size)
            if not chunk:
                return
            start += len(chunk)
            yield memoryview(chunk)


@asynccontextmanager
async def _drafted(path: UfsPath) -> AsyncIterator[Draft]:
    """Leave nothing of a draft behind that was not published."""
    draft = Draft(path)
    try:
        yield draft
    finally:
        await asyncio.shield(asyncio.to_thread(draft.discard))


def _delete(path: UfsPath, etag: str | None) -> bool:
    try:
        check_version(path, stat_file(path), etag)
        os.unlink(local(path.key))  # noqa: PTH108 - see local
    except FileNotFoundError:  # ObjectNotFound is one
        return False
    except PreheatError:
        raise
    except OSError as error:
        raise write_error(error, path) from error
    return True


def _read(path: UfsPath, info: ObjectInfo, start: int, size: int) -> bytes:
    """Read bytes of exactly this version: the etag is compared after they were read."""
    try:
        with open(local(path.key), "rb", buffering=0) as file:  # noqa: PTH123 - see local
            data = os.pread(file.fileno(), size, start)
            status = os.fstat(file.fileno())
    except OSError as error:
        raise read_error(error, path) from error
    check_version(path, info_of(path.key, status), info.etag)
    return data


def _files(path: UfsPath, after: str) -> Iterator[ObjectInfo]:
    selection = Selection.of(path, after)
    if selection.exact is not None:
        with suppress(ObjectNotFound):  # it is a directory, or nothing
            yield stat_file(path)
            return
    if selection.prefix is not None:
        for entry in walk(
            selection.prefix, after, lambda prefix: sorted(_children(path.with_key(prefix)), key=_child_key)
        ):
            with suppress(ObjectNotFound):  # a link that leads nowhere, no regular file, or gone meanwhile
                yield stat_file(path.with_key(_key(entry)))


def _children(directory: UfsPath) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    try:
        with os.scandir(local(directory.key)) as entries:
            for entry in entries:
                if is_draft(entry.name):
                    continue
                key = _key(entry)
                if not _leads_to_directory(entry):
                    yield key, entry
                elif not (entry.is_symlink() and _is_own_parent(entry)):
                    yield f"{key}/", None
    except OSError as error:
        mapped = read_error(error, directory)
        if not isinstance(mapped, ObjectNotFound):  # else there is none, or it was removed meanwhile
            raise mapped from error


def _child_key(child: tuple[str, object]) -> str:
    return child[0]


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False  # links that lead to each other
        raise


def _is_own_parent(link: os.DirEntry[str]) -> bool:
    """Whether a link to a directory leads to one that it stands in; to follow it would never end."""
    target = link.stat()
    return any(os.path.samestat(target, parent.stat()) for parent in Path(link.path).parents)


def _key(entry: os.DirEntry[str]) -> str:
    key = entry.path.removeprefix("/")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidPath(
            f"{os.fsencode(entry.path)!r} is a file name that is not UTF-8.", remedy="Rename the file."
        ) from error
    return key
