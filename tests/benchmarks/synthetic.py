"""An under store that lists any number of objects and holds none: a listing without an origin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from preheat.errors import ObjectNotFound
from preheat.paths import UfsPath
from preheat.ufs import Download
from preheat.versions import ObjectInfo

URI = "s3://bench/synthetic/"
"""What is listed."""
_PREFIX = "synthetic/shard-"
_PAGE = 1000
_SIZE = 4096
_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
_MODIFIED = 1.7e9


class SyntheticListing:
    """An :class:`~preheat.ufs.UnderStore` whose objects are made as they are listed, in pages of 1,000.

    Args:
        count: how many objects there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of objects in the order of their keys; a path below it lists nothing."""
        first = int(after.removeprefix(_PREFIX)) + 1 if after else 0
        if _PREFIX.startswith(path.key):
            for start in range(first, self._count, _PAGE):
                yield [_info(number) for number in range(start, min(start + _PAGE, self._count))]

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Say that there is no such object."""
        raise ObjectNotFound(f"path='{path}': a synthetic listing has no objects.")

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:  # noqa: ARG002 - the port's signature
        """Say that there is no such object."""
        raise ObjectNotFound(f"path='{path}': a synthetic listing has no objects.")

    async def put(self, path: UfsPath, chunks: AsyncIterator[bytes | memoryview], *, size: int) -> ObjectInfo:  # noqa: ARG002 - as above
        """Refuse to write."""
        raise ObjectNotFound(f"path='{path}': a synthetic listing takes no objects.")

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:  # noqa: ARG002 - as above
        """Say that there is no such object."""
        raise ObjectNotFound(f"path='{source}': a synthetic listing has no objects.")

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:  # noqa: ARG002 - as above
        """Say that there was no such object."""
        return False

    async def close(self) -> None:
        """Nothing is open."""


def _info(number: int) -> ObjectInfo:
    return ObjectInfo(key=f"{_PREFIX}{number:09d}", size=_SIZE, etag=_ETAG, last_modified=_MODIFIED)
