"""What every under store does with the bytes of a write."""

from __future__ import annotations

from collections.abc import AsyncIterator

from preheat.errors import VersionChanged
from preheat.paths import UfsPath


async def parts(
    path: UfsPath, chunks: AsyncIterator[bytes | memoryview], size: int, part_bytes: int
) -> AsyncIterator[bytes]:
    """Yield the chunks regrouped into parts of ``part_bytes``, the last one of what is left; an empty body has none.

    Raises:
        VersionChanged: the chunks have fewer or more than ``size`` bytes.
    """
    received = 0
    buffer = bytearray()
    async for chunk in chunks:
        received += len(chunk)
        if received > size:
            break
        buffer += chunk
        while len(buffer) >= part_bytes:
            yield bytes(buffer[:part_bytes])
            del buffer[:part_bytes]
    if received != size:
        more = " or more" if received > size else ""
        raise VersionChanged(f"path='{path}': its new content has {received} bytes{more} instead of {size}.")
    if buffer:
        yield bytes(buffer)
