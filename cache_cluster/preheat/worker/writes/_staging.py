"""Where bodies wait until they are whole: in memory if they are small, else in files of one directory."""

from __future__ import annotations

import errno
import hashlib
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from preheat.errors import InvalidRequest, Overloaded, StoreError, StoreFull
from preheat.settings import WriteSettings
from preheat.units import human_size
from preheat.worker.writes._body import in_thread

Chunks = AsyncIterator[bytes | memoryview]
BUFFER_BYTES = 4 << 20
"""A body holds this much in memory; what is more goes to its file, and is read from it in pieces of this size."""
_HASHED_AT_ONCE = 256 << 10
"""More is hashed in a thread."""
_REMEDY = (
    "Try again when other writes have ended, end uploads in parts that are open (GET /v1/uploads), or raise "
    "--staging-size of `preheat worker`."
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Staging:
    """Receives bodies.

    Args:
        directory: is this worker's alone; what is in it is removed now, for nobody was promised it.
        settings: how much may be staged at once, and how much of that in memory; beyond that all goes to files.

    Raises:
        StoreError: the directory cannot be made.
    """

    def __init__(self, directory: Path, settings: WriteSettings | None = None) -> None:
        self.directory = directory
        self._settings = settings or WriteSettings()
        self.in_memory = 0
        """Bytes that are in memory now."""
        self.bodies = 0
        """How many are staged now."""
        self.staged = 0
        """Bytes that are staged now."""
        with _disk_faults(directory):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)

    async def receive(self, chunks: Chunks, *, size: int | None = None) -> Staged:
        """Take a body up whole. The caller closes it.

        Args:
            chunks: the body; what it raises is raised here, and nothing stays.
            size: how many bytes were announced.

        Raises:
            InvalidRequest: there are fewer or more bytes.
            StoreFull: it does not fit.
            Overloaded: it does not fit beside others that wait now.
            StoreError: the disk fails.
        """
        if self.bodies >= self._settings.staged_bodies:
            raise Overloaded(f"{self.bodies} bodies and parts wait to be written here.", remedy=_REMEDY)
        staged = Staged(self)
        try:
            self.check_room(size or 0)
            async for chunk in chunks:
                await staged.append(chunk)
                if size is not None and staged.size > size:
                    break
            _check_size(staged.size, size)
            await staged.end()
        except BaseException:
            staged.close()
            raise
        return staged

    def check_room(self, size: int, *, of: int = 0) -> None:
        """Raise StoreFull or Overloaded if so many bytes more, of a body that has some here, do not fit."""
        most = self._settings.staging_bytes
        if of + size > most:
            raise StoreFull(
                f"{human_size(of + size)} are more than the {human_size(most)} that may wait here to be written.",
                remedy="Raise --staging-size of `preheat worker`.",
            )
        if self.staged + size > most:
            raise Overloaded(
                f"{human_size(size)} do not fit beside the {human_size(self.staged)} that wait here to be written.",
                remedy=_REMEDY,
            )

    def account(self, staged: int, *, held: int, bodies: int = 0) -> None:
        """Note that bytes came or went, ``held`` of them in memory, or bodies did."""
        self.staged += staged
        self.in_memory += held
        self.bodies += bodies

    @property
    def is_crowded(self) -> bool:
        """Whether the memory is used up."""
        return self.in_memory > self._settings.staging_memory


class Staged:
    """A :class:`~preheat.worker.writes._body.Body`, as far as it has come."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._buffer = bytearray()
        self._path = staging.directory / uuid.uuid4().hex
        self._file: BinaryIO | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._closed = False
        self.size = 0
        staging.account(0, held=0, bodies=1)

    @property
    def etag(self) -> str:
        """The MD5 of all of it, after :meth:`end`."""
        return self._md5.hexdigest()

    @property
    def in_memory(self) -> bool:
        """Whether it has no file."""
        return self._file is None

    async def append(self, chunk: bytes | memoryview) -> None:
        """Add bytes; raises StoreFull and StoreError."""
        self._staging.check_room(len(chunk), of=self.size)
        self._staging.account(len(chunk), held=len(chunk))
        self.size += len(chunk)
        self._buffer += chunk
        if self._staging.is_crowded or len(self._buffer) > BUFFER_BYTES:
            await self._clear()

    async def end(self) -> None:
        """Note that it is whole: a file that waits is not kept open, for there may be a hundred thousand.

        What has a file leaves nothing in memory: the ends of an upload's many parts would add up.
        """
        if self._file is not None:
            await self._clear()
            self._file.close()
        if len(self._buffer) > _HASHED_AT_ONCE:
            await in_thread(lambda: self._md5.update(self._buffer))
        else:
            self._md5.update(self._buffer)

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it in order; raises StoreError."""
        if self._file is not None:
            with _disk_faults(self._path), self._path.open("rb", buffering=0) as file:
                while piece := file.read(BUFFER_BYTES):
                    yield piece
        for start in range(0, len(self._buffer), BUFFER_BYTES):
            yield bytes(self._buffer[start : start + BUFFER_BYTES])

    def close(self) -> None:
        """Remove it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._staging.account(-self.size, held=-len(self._buffer), bodies=-1)
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _clear(self) -> None:
        if self._buffer:
            await in_thread(self._spill)
            self._staging.account(0, held=-len(self._buffer))
            self._buffer.clear()

    def _spill(self) -> None:
        """Write what is in memory to the file; blocking."""
        self._md5.update(self._buffer)
        with _disk_faults(self._path):
            if self._file is None:
                self._file = self._path.open("xb", buffering=0)
            rest = memoryview(self._buffer)
            while rest:
                rest = rest[self._file.write(rest) :]


def _check_size(found: int, announced: int | None) -> None:
    if announced not in (None, found):
        more = " or more" if announced is not None and found > announced else ""
        raise InvalidRequest(f"The body has {found} bytes{more} instead of {announced}.")


@contextmanager
def _disk_faults(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull(
                f"{place}: {error.strerror}.", remedy=f"Free space on the disk of {place.parent}, or lower --capacity."
            ) from error
        raise StoreError(
            f"{place}: {error.strerror}.", remedy=f"Check the disk and the permissions of {place.parent}."
        ) from error
