"""Two ordered listings side by side: what changed, was added and was deleted between them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

from preheat.jobs import Tally
from preheat.versions import DatasetVersion, ObjectInfo

Objects = Sequence[ObjectInfo]


class ChangeKind(StrEnum):
    """What happened to an object."""

    CHANGED = "changed"  #: it has another etag or size
    ADDED = "added"  #: it was not there
    DELETED = "deleted"  #: it is not there any more


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An object that is not as it was."""

    kind: ChangeKind
    key: str
    old: ObjectInfo | None = None
    new: ObjectInfo | None = None


@dataclass
class Comparison:
    """What a listing is beside an earlier one.

    Args:
        limit: how many changes are named; the counts have all.
    """

    limit: int
    unchanged: Tally = field(default_factory=Tally)
    counts: dict[ChangeKind, int] = field(default_factory=lambda: dict.fromkeys(ChangeKind, 0))
    examples: list[Change] = field(default_factory=list)
    old_version: DatasetVersion = field(default_factory=DatasetVersion)
    new_version: DatasetVersion = field(default_factory=DatasetVersion)

    @property
    def drifted(self) -> bool:
        """Whether anything is not as it was."""
        return any(self.counts.values())

    def add(self, old: Objects, new: Objects) -> None:
        """Compare the same stretch of both listings, the one that comes next."""
        self.old_version.update(old)
        self.new_version.update(new)
        before = {item.key: item for item in old}
        after = {item.key: item for item in new}
        same = [item for item in new if _is_same(before.get(item.key), item)]
        self.unchanged += Tally(objects=len(same), bytes=sum(item.size for item in same))
        if len(same) == len(old) == len(new):
            return
        for key in sorted(before.keys() | after.keys()):
            self._compare(key, before.get(key), after.get(key))

    def _compare(self, key: str, old: ObjectInfo | None, new: ObjectInfo | None) -> None:
        if _is_same(old, new):
            return
        kind = ChangeKind.ADDED if old is None else ChangeKind.DELETED if new is None else ChangeKind.CHANGED
        self.counts[kind] += 1
        if len(self.examples) < self.limit:
            self.examples.append(Change(kind=kind, key=key, old=old, new=new))


async def side_by_side(
    old: AsyncIterator[Objects], new: AsyncIterator[Objects]
) -> AsyncIterator[tuple[Objects, Objects]]:
    """Yield two ordered listings, whose pages end anywhere, in stretches that end at the same key.

    Memory holds a page of each.
    """
    left, right = Ahead(old), Ahead(new)
    while (await left.has_more()) | (await right.has_more()):
        end = min(side.last for side in (left, right) if side.last is not None)
        yield left.take(end), right.take(end)


class Ahead:
    """A listing of which a page was read ahead."""

    def __init__(self, pages: AsyncIterator[Objects]) -> None:
        self._pages = pages
        self._page: Objects = ()

    async def has_more(self) -> bool:
        """Whether there is anything left; if so, some of it is read."""
        while not self._page:
            page = await anext(self._pages, None)
            if page is None:
                return False
            self._page = page
        return True

    @property
    def last(self) -> str | None:
        """The last key that is read; none at the end."""
        return self._page[-1].key if self._page else None

    def take(self, end: str) -> Objects:
        """Return what is left up to and including a key."""
        count = bisect_right(self._page, end, key=attrgetter("key"))
        taken, self._page = self._page[:count], self._page[count:]
        return taken


def _is_same(old: ObjectInfo | None, new: ObjectInfo | None) -> bool:
    return old is not None and new is not None and (old.etag, old.size) == (new.etag, new.size)
