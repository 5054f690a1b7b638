"""The pages of one query, asked for before they are wanted; of a long listing, several at once.

Where a page goes on is known from the page before it, so that a listing takes as many round trips as it has pages. But
keys often count, and then the page tells about where the ones after the next will begin. These are asked for as well,
twice as many after each guess that was right, and cut so that no key comes twice. A wrong guess costs a request. What
gains with a distant server only costs one that is busy, or that has to search for where a page begins: its answers to
guesses take long, and then there are no more of them.
"""

from __future__ import annotations

import math
from asyncio import Future
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import pairwise
from operator import lt
from typing import Protocol

from preheat.ufs.s3._guess import Guess
from preheat.ufs.s3._listing import Answer, ListingPage

LANES = 8
"""Guessed pages that are asked for at most; with the answer in use they are the memory of a listing."""
_MISSES = 2
"""Pages in a row that may end before the first guess."""
_PATIENCE = 8
"""Pages in sequence after which another guess is tried, when guesses were too slow."""
_SEARCHING_SERVERS = ("MinIO",)
"""Servers that have to list from the beginning to find where a guessed page begins."""


class Source(Protocol):
    """A query of which any part can be asked for."""

    def ask(self, *, after: str = "", token: str = "") -> Future[Answer]:
        """Ask for the page behind a key, or where a page before said that it goes on; returns at once."""
        ...

    def parse(self, answer: Answer) -> ListingPage:
        """Return the page in an answer."""
        ...

    def disorder(self, before: str, name: str) -> Exception:
        """Return the error of a name that does not come after the one before it."""
        ...


@dataclass(frozen=True, slots=True)
class _Lane:
    after: str
    answer: Future[Answer]


class Pages:
    """Reads the pages of a source once, in order.

    Args:
        source: what to ask.
        after: the key to begin behind.
    """

    def __init__(self, source: Source, after: str) -> None:
        self._source = source
        self._after = after
        self._next: Future[Answer] | None = None
        self._next_is_guessed = False
        self._usual_seconds = math.inf
        self._sequential = 0
        self._lanes: deque[_Lane] = deque()
        self._guess: Guess | None = None
        self._width = 1
        self._misses = 0
        self._last = ""

    def start(self) -> Future[Answer]:
        """Ask for the first page."""
        if self._next is None:
            self._next = self._source.ask(after=self._after)
        return self._next

    async def read(self) -> AsyncGenerator[ListingPage, None]:
        """Yield the pages; the second one is asked for when it is wanted, later ones before.

        Raises:
            BucketNotFound, AccessDenied, OriginUnavailable: as named; the last one also of a server that lists in
                another order, which must not become a hole.
        """
        try:
            self.start()
            answer = await self._take()
            page = self._source.parse(answer)
            yield self._checked(page)
            self._ask_on(answer)
            self._look_ahead(page)
            while self._next is not None:
                answer = await self._take()
                if not self._lanes:  # before the page is parsed, for the sake of time
                    self._ask_on(answer)
                page = self._source.parse(answer)
                cut = self._cut(answer, page) if self._lanes else page
                self._look_ahead(page)
                yield self._checked(cut)
        finally:
            self.close()

    def close(self) -> None:
        """Drop what was asked for and not used."""
        self._drop_lanes()
        if self._next is not None:
            _drop(self._next)
            self._next = None

    async def _take(self) -> Answer:
        assert self._next is not None
        answer = await self._next
        self._next = None
        self._learn(answer)
        return answer

    def _learn(self, answer: Answer) -> None:
        """Set how many guesses are worth while: of ``n`` requests at once each may take nearly ``n`` times as long."""
        if answer.server.startswith(_SEARCHING_SERVERS):
            self._width = 0
        elif self._next_is_guessed:
            slow = answer.seconds > (self._width + 1) * self._usual_seconds
            self._width = self._width // 2 if slow else min(2 * self._width, LANES)
            self._sequential = 0
        else:
            self._usual_seconds = min(self._usual_seconds, answer.seconds)
            self._sequential += 1
            if not self._width and self._sequential > _PATIENCE:
                self._width = 1

    def _ask_on(self, answer: Answer) -> None:
        if answer.token is not None:
            self._next, self._next_is_guessed = self._source.ask(token=answer.token), False

    def _cut(self, answer: Answer, page: ListingPage) -> ListingPage:
        """Go on in a lane that the page reaches, and return what comes before it; else where the page ends."""
        keys = [item.key for item in page.objects]
        if page.prefixes or answer.token is None:
            self._drop_lanes()
        while keys and self._lanes and self._lanes[0].after <= keys[-1]:
            lane, self._misses = self._lanes.popleft(), 0
            end = bisect_right(keys, lane.after)
            if end > len(keys) // 2:
                self._next, self._next_is_guessed = lane.answer, True
                return ListingPage(objects=page.objects[:end], prefixes=())
            _drop(lane.answer)  # the guess was far off: that page would bring little that is not here already
            self._width = min(self._width, 1)
        self._ask_on(answer)
        self._misses += 1
        if self._misses > _MISSES:
            self._drop_lanes()
        return page

    def _look_ahead(self, page: ListingPage) -> None:
        """Guess more lanes, behind the last one."""
        if not self._lanes:
            fit = self._next is not None and self._width and len(page.objects) > 1 and not page.prefixes
            self._guess = Guess.of([item.key for item in page.objects]) if fit else None
            self._misses = 0
        while len(self._lanes) < self._width and self._guess and (guess := self._guess.next()):
            self._guess = guess
            self._lanes.append(_Lane(str(guess), self._source.ask(after=str(guess))))

    def _checked(self, page: ListingPage) -> ListingPage:
        keys = [item.key for item in page.objects]
        directories = [prefix.rstrip("/") for prefix in page.prefixes]
        for names in (keys, directories):
            if names and not (names[0] > self._last and all(map(lt, names, names[1:]))):
                before, name = next(pair for pair in pairwise([self._last, *names]) if pair[0] >= pair[1])
                raise self._source.disorder(before, name)
        self._last = max([self._last, *keys[-1:], *directories[-1:]])
        return page

    def _drop_lanes(self) -> None:
        for lane in self._lanes:
            _drop(lane.answer)
        self._lanes.clear()
        self._width = min(self._width, 1)


def _drop(answer: Future[Answer]) -> None:
    """Let an answer go; if it is an error, nobody has to be told."""
    if not answer.cancel() and not answer.cancelled():
        answer.exception()
