"""A writer that compares an object with the checksum that its origin keeps, before it is published."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import CachedObject, ObjectWriter
from preheat.ufs import Checksum, PieceChecksums
from preheat.worker.fills._fill import Fill
from preheat.worker.fills._origin import Origin

log = get_logger("worker")
_ANSWER_SECONDS = 5.0
"""How long a load waits for the checksum of an object whose first bytes have come."""


class CheckedWriter:
    """An :class:`~preheat.store.ObjectWriter` whose bytes are checksummed once more on their way.

    Args:
        writer: keeps the bytes.
        path: for messages.
        kept: what the origin keeps of the whole object.
    """

    def __init__(self, writer: ObjectWriter, path: UfsPath, kept: Checksum) -> None:
        self._writer = writer
        self._path = path
        self._checksums = PieceChecksums(kept)

    def append(self, data: bytes | memoryview, *, part: int = 0) -> None:
        """Add bytes to a part; raises as ``ObjectWriter.append``."""
        self._writer.append(data, part=part)
        self._checksums.add(part, data)

    def note(self, start: int, end: int) -> None:
        """Checksum a part that was appended to the writer itself."""
        self._checksums.add(start, self._writer.read(start, end))

    def read(self, start: int, end: int) -> bytes:
        """Return bytes that were appended; raises as ``ObjectWriter.read``."""
        return self._writer.read(start, end)

    def commit(self) -> CachedObject:
        """Publish the object.

        Raises:
            OriginCorrupt: its bytes are not those that the origin keeps. Otherwise as ``ObjectWriter.commit``.
        """
        self._checksums.check(self._path)
        return self._writer.commit()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def ask_checksum(origin: Origin, path: UfsPath, fill: Fill) -> asyncio.Task[Checksum | None] | None:
    """Ask for the checksum of a large object that a job loads; readers do not wait for it, and peers check theirs."""
    wanted = fill.wanted(path.key)
    if wanted is None or fill.source is not None or wanted.size <= fill.pieces.first_bytes:
        return None
    return asyncio.create_task(origin.checksum(path, wanted))


async def checked(
    writer: ObjectWriter, path: UfsPath, asked: asyncio.Task[Checksum | None] | None, first: tuple[int, int]
) -> ObjectWriter:
    """Return a writer for the pieces behind the first one, checked if the origin tells a checksum in time."""
    if asked is None:
        return writer
    await asyncio.wait({asked}, timeout=_ANSWER_SECONDS)
    if not asked.done():
        log.warning("The checksum of an object did not come in time.", action="checksum_late", path=str(path))
        return writer
    kept = asked.result()
    if kept is None:
        return writer
    checking = CheckedWriter(writer, path, kept)
    await asyncio.to_thread(checking.note, *first)
    return checking
