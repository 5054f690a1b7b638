"""What every under store checks of a download."""

from __future__ import annotations

from collections.abc import AsyncIterator

from preheat.errors import InvalidRequest, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo


def check_version(path: UfsPath, found: ObjectInfo, etag: str | None) -> None:
    """Raise VersionChanged unless the object found is of the version asked for."""
    if etag is not None and found.etag != etag:
        raise version_changed(path, etag, found.etag)


def version_changed(path: UfsPath, etag: str | None, found: str = "") -> VersionChanged:
    """Return the error of an object that has another etag than was asked for."""
    now = f"; it is {found!r} now" if found else ""
    return VersionChanged(f"path='{path}' is no longer the version with etag {etag!r}{now}.")


def byte_range(path: UfsPath, size: int, start: int, end: int | None) -> tuple[int, int]:
    """Return the bytes [start, end) that an object of this size has of those asked for.

    Raises:
        InvalidRequest: the range starts beyond the object's end, or ends before it starts.
    """
    stop = size if end is None else min(end, size)
    if start < 0 or start > size or stop < start:
        raise range_error(path, start, end)
    return start, stop


def range_error(path: UfsPath, start: int, end: int | None) -> InvalidRequest:
    """Return the error of a range that the object does not have."""
    return InvalidRequest(f"path='{path}' has no bytes [{start}, {'' if end is None else end}).")


async def checked(path: UfsPath, chunks: AsyncIterator[memoryview], expected: int) -> AsyncIterator[memoryview]:
    """Yield the chunks of a body that must have ``expected`` bytes.

    Raises:
        OriginUnavailable: the body ended early, or went on.
    """
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > expected:
            break
        yield chunk
    if received != expected:
        raise OriginUnavailable(f"path='{path}': the body has {received} bytes instead of {expected}.")
