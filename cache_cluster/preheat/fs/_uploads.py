"""How an object's bytes are sent: in one request if they are few, else in parts, several at once."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from preheat.errors import PreheatError, VersionChanged
from preheat.fs._writer import Body, Writer
from preheat.paths import UfsPath

PART_BYTES = 16 << 20
"""What fits goes in one request. S3 allows 10,000 parts of an object."""
LEAST_PART_BYTES = 5 << 20
"""What S3 allows for all parts but the last."""
_PARTS_OF_A_SIZE = 1000
"""Parts after which the next ones are twice as large, so that 10,000 are enough for any object."""
_IN_FLIGHT = 4
"""Parts of one object under way at once: with one that is being filled they are its memory."""
_ABORT_SECONDS = 10.0

Source = Callable[[int, int], Awaitable[Body]]
"""Returns bytes [start, end)."""


def part_bytes(parts: int) -> int:
    """Return how large the part behind so many others is."""
    return int(PART_BYTES << (parts // _PARTS_OF_A_SIZE))


class Upload:
    """One object sent in parts. Leaving its context without :meth:`complete` gives it up.

    Args:
        writer: sends.
        path: where the object will be.
        only_new: whether it must not exist.
    """

    def __init__(self, writer: Writer, path: UfsPath, *, only_new: bool = False) -> None:
        self._writer = writer
        self._path = path
        self._only_new = only_new
        self._id: str | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._etags: dict[int, str] = {}
        self.parts = 0
        """How many were added."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self.abort()

    async def add(self, part: Body) -> None:
        """Send the next part; return as soon as another one may be prepared.

        Raises:
            PreheatError: this or an earlier part could not be sent.
        """
        if self._id is None:
            self._id = await self._writer.create_upload(self._path)
        self.parts += 1
        self._pending.add(asyncio.create_task(self._send(self._id, self.parts, part)))
        await self._settle(_IN_FLIGHT - 1)

    async def complete(self) -> None:
        """Make the object out of the parts.

        Raises:
            PreheatError: a part could not be sent, or the object not be made.
        """
        await self._settle(0)
        assert self._id is not None, "nothing was added"
        with told_as_existing(self._path):
            await self._writer.complete_upload(self._path, self._id, self._etags, only_new=self._only_new)

    async def abort(self) -> None:
        """Give up what was sent. A worker that does not answer now drops it by itself after a day."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        self._pending.clear()
        if self._id is not None:
            upload_id, self._id = self._id, None
            with suppress(PreheatError, TimeoutError):
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self._writer.abort_upload(self._path, upload_id)

    async def _send(self, upload_id: str, number: int, part: Body) -> None:
        self._etags[number] = await self._writer.upload_part(self._path, upload_id, number, part)

    async def _settle(self, allowed: int) -> None:
        """Wait until no more parts than this are under way; raises what one of them raised."""
        while len(self._pending) > allowed:
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


async def send(
    writer: Writer,
    path: UfsPath,
    source: Source,
    size: int,
    *,
    only_new: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write an object of ``size`` bytes.

    Raises:
        FileExistsError: it exists, and ``only_new``. Otherwise as a worker answers.
    """
    if size <= PART_BYTES:
        body = await source(0, size)
        with told_as_existing(path):
            await writer.put(path, body, only_new=only_new)
        progress(size)
        return
    async with Upload(writer, path, only_new=only_new) as upload:
        done = 0
        while done < size:
            end = min(size, done + part_bytes(upload.parts))
            await upload.add(await source(done, end))
            done = end
            progress(done)
        await upload.complete()


@contextmanager
def told_as_existing(path: UfsPath) -> Iterator[None]:
    """Raise FileExistsError in place of VersionChanged: a write has no other condition than that nothing is there."""
    try:
        yield
    except VersionChanged as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
