"""How much of a listing the workers hold, in exactly the versions that it names. Pure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from preheat.coordinator._comparison import Ahead, Objects
from preheat.jobs import Tally


@dataclass
class Heat:
    """What is expected, and how much of it is hot: held by a worker in this version."""

    expected: Tally = field(default_factory=Tally)
    hot: Tally = field(default_factory=Tally)
    fewest_copies: int | None = None
    """Of the object that has the fewest; none if nothing is expected."""

    @property
    def fraction(self) -> float:
        """The share of the objects that is hot; of nothing, none is."""
        return self.hot.objects / self.expected.objects if self.expected.objects else 0.0

    def add(self, expected: Objects, copies: Iterable[str]) -> None:
        """Count what comes next: what is expected there, and for each copy that matches it the key."""
        number = Counter(copies)
        hot = [item.size for item in expected if number[item.key]]
        self.expected += Tally(objects=len(expected), bytes=sum(item.size for item in expected))
        self.hot += Tally(objects=len(hot), bytes=sum(hot))
        for item in expected:
            copies_here = number[item.key]
            self.fewest_copies = copies_here if self.fewest_copies is None else min(self.fewest_copies, copies_here)


async def heat_of(expected: AsyncIterator[Objects], held: Sequence[AsyncIterator[Objects]]) -> Heat:
    """Count an ordered listing beside what each worker holds, in order; pages end anywhere.

    Memory holds a page of each.

    Raises:
        ExceptionGroup: of what the workers' listings raised; the expected one's errors come as they are.
    """
    heat, workers = Heat(), [Ahead(pages) for pages in held]
    async for page in expected:
        wanted = {item.key: (item.etag, item.size) for item in page}
        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(_copies(worker, wanted, page[-1].key)) for worker in workers]
        heat.add(page, chain.from_iterable(task.result() for task in found))
        await asyncio.sleep(0)  # others' turn, even if no listing waits
    return heat


async def _copies(worker: Ahead, wanted: Mapping[str, tuple[str, int]], end: str) -> list[str]:
    """Return the keys up to one of those that a worker holds as they are wanted."""
    found = list[str]()
    while await worker.has_more() and (objects := worker.take(end)):
        found += [item.key for item in objects if wanted.get(item.key) == (item.etag, item.size)]
    return found
