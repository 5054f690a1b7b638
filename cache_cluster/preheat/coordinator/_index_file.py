"""Index files: a file of the under store that names a job's objects, one a line (see the REST reference).

The file is read in chunks of one version of it. What is held of it is one chunk, one line and the names of one block;
a position in it is all that a later reader needs to go on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Self
from urllib.parse import quote, unquote

from preheat.coordinator._catalog import patiently
from preheat.coordinator._lookup import Name
from preheat.errors import InvalidPath, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.jobs import FailedObject
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo

_BLOCK_LINES = 1000
_CHUNK_BYTES = 256 << 10
_READ_SECONDS = 60.0
"""Deadline of one chunk."""
_MAX_LINE_BYTES = 4096
_SHOWN_CHARACTERS = 300
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A place in one version of an index file; its text is a job's cursor."""

    etag: str = ""
    offset: int = 0
    """The first byte of the line that comes next."""
    line: int = 1
    """That line's number."""
    within: str = ""
    """What is done of the block that begins there: a key of its directory, or a number of its pages."""

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Read a cursor; an empty one is the beginning of whatever version there is."""
        if not cursor:
            return cls()
        etag, offset, line, within = cursor.split(":", 3)
        return cls(etag=unquote(etag), offset=int(offset), line=int(line), within=within)

    def __str__(self) -> str:
        return f"{quote(self.etag, safe='')}:{self.offset}:{self.line}:{self.within}"

    def after(self, size: int) -> Self:
        """Return the position behind a line of so many bytes."""
        return replace(self, offset=self.offset + size, line=self.line + 1, within="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A directory to list, or consecutive names to look up. From one start it always ends at the same line."""

    start: Position
    end: Position
    names: tuple[Name, ...] = ()
    directory: UfsPath | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    start: Position
    end: Position
    text: bytes
    """Without its line feed; of one that is too long only enough to tell."""


class IndexFile:
    """One index file.

    Args:
        ufs: where it is.
        path: its path.
        attempts: tries of one request that the under store does not answer.
    """

    def __init__(self, ufs: UnderStore, path: UfsPath, *, attempts: int) -> None:
        self._ufs = ufs
        self._path = path
        self._attempts = attempts

    async def blocks(self, start: Position) -> AsyncIterator[Block]:
        """Yield the blocks from a position on, where the first one begins.

        Raises:
            ObjectNotFound: there is no such file, or it names nothing.
            VersionChanged: the file has changed since the position was taken, or changes now.
            OriginUnavailable: the under store does not answer.
        """
        names: list[Name] = []
        first = last = start
        async for line, name in self._names(start):
            directory = name if isinstance(name, UfsPath) and is_directory(name) else None
            if names and (directory or len(names) == _BLOCK_LINES):
                yield Block(start=first, end=last, names=tuple(names))
                names = []
            if directory:
                yield Block(start=line.start, end=line.end, directory=directory)
            else:
                first = first if names else line.start
                names.append(name)
            last = line.end
        if names:
            yield Block(start=first, end=last, names=tuple(names))
        if not last.offset:
            raise ObjectNotFound(f"index='{self._path}' names nothing.", remedy="Write one path a line into it.")

    async def _names(self, start: Position) -> AsyncIterator[tuple[_Line, Name]]:
        async for line in self._lines(start):
            name = parse_line(line.text, line.start.line, self._path)
            if name is not None:
                yield line, name

    async def _lines(self, start: Position) -> AsyncIterator[_Line]:
        info = await self._open(start)
        at, head, length = replace(start, etag=info.etag), b"", 0
        async for chunk in self._chunks(info, start.offset):
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                end = at.after(length + len(piece) + 1)
                yield _Line(start=at, end=end, text=_enough(head + piece))
                at, head, length = end, b"", 0
            head, length = _enough(head + rest), length + len(rest)
        if length:
            yield _Line(start=at, end=at.after(length), text=head)

    async def _open(self, start: Position) -> ObjectInfo:
        info = await patiently(lambda: self._ufs.stat(self._path), attempts=self._attempts)
        if start.etag not in ("", info.etag):
            raise self._changed(start.etag)
        return info

    async def _chunks(self, info: ObjectInfo, start: int) -> AsyncIterator[bytes]:
        for offset in range(start, info.size, _CHUNK_BYTES):
            yield await patiently(partial(self._read, info, offset), attempts=self._attempts)

    async def _read(self, info: ObjectInfo, start: int) -> bytes:
        end = min(start + _CHUNK_BYTES, info.size)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                download = await self._ufs.get(self._path, etag=info.etag, start=start, end=end)
                body = b"".join([bytes(chunk) async for chunk in download.chunks])
        except VersionChanged as error:
            raise self._changed(info.etag) from error
        except TimeoutError as error:
            raise OriginUnavailable(f"index='{self._path}' did not arrive within {_READ_SECONDS:g} s.") from error
        if len(body) != end - start:
            raise OriginUnavailable(f"index='{self._path}' has {len(body)} bytes where {end - start} were asked for.")
        return body

    def _changed(self, etag: str) -> VersionChanged:
        return VersionChanged(
            f"index='{self._path}' changed while the job ran: it is no longer the version with etag {etag!r}.",
            remedy="Submit the job again; what is cached is skipped.",
        )


def is_directory(path: UfsPath) -> bool:
    """Whether a path names all that is below it: it ends with a slash, or is a whole bucket."""
    return not path.key or path.key.endswith("/")


def parse_line(text: bytes, number: int, index: UfsPath) -> Name | None:
    """Return what a line names: a path, a failure if it is no path, nothing if it is blank.

    A line is a URI, or a key in the bucket of the index file. One carriage return at its end is not part of it; all
    other spaces are, except in a line that has nothing else.
    """
    if number == 1:
        text = text.removeprefix(_BYTE_ORDER_MARK)
    text = text.removesuffix(b"\r")
    if not text.strip():
        return None
    if len(text) > _MAX_LINE_BYTES:
        return _invalid(text, number, index, f"it has more than {_MAX_LINE_BYTES} bytes.")
    try:
        return _path_of(text.decode(), index)
    except UnicodeDecodeError:
        return _invalid(text, number, index, "it is not UTF-8.")
    except InvalidPath as error:
        return _invalid(text, number, index, error.message)


def _path_of(line: str, index: UfsPath) -> UfsPath:
    if _URI.match(line):
        return UfsPath.parse(line)
    key = line.removeprefix("/") if index.scheme == "file" else line  # of a file an absolute path as people write it
    return UfsPath.parse(f"{index.with_key('')}{key}")


def _invalid(text: bytes, number: int, index: UfsPath, reason: str) -> FailedObject:
    message = f"Line {number} of {index}: {_short(reason)}"
    path = _short(_printable(text.decode(errors="backslashreplace")))
    return FailedObject(path=path, size=0, code=InvalidPath.code, message=message)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _enough(text: bytes) -> bytes:
    """Return enough of a line to read it, or to tell that it is too long."""
    return text[: _MAX_LINE_BYTES + len(_BYTE_ORDER_MARK) + 2]
