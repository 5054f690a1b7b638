"""An under store that lists any number of objects and holds none: a listing without an origin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from preheat.versions import ObjectInfo

URI = "s3://bench/synthetic/"
"""What is listed."""
_PREFIX = "synthetic/shard-"
_PAGE = 1000
_SIZE = 4096
_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
_MODIFIED = 1.7e9


class SyntheticListing(MemoryUnderStore):
    """Objects that are made as they are listed, in pages of 1,000; to everything else than a listing they do not exist.

    Args:
        count: how many objects there are.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of objects in the order of their keys."""
        first = int(after.removeprefix(_PREFIX)) + 1 if after else 0
        for start in range(first, self._count, _PAGE):
            yield [_info(number) for number in range(start, min(start + _PAGE, self._count))]


def _info(number: int) -> ObjectInfo:
    return ObjectInfo(key=f"{_PREFIX}{number:09d}", size=_SIZE, etag=_ETAG, last_modified=_MODIFIED)
