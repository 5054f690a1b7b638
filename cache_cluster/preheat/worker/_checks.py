"""What the under store said last about the versions of objects, and asking it again.

A reader who wants to know whether a version is current is told by a look at the under store that began after the
reader came: joining one that is under way could miss a change between the two. So of one path at most one look is under
way, and one more is waited for, however many readers there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf

from preheat.errors import ObjectNotFound, OriginUnavailable, Unavailable
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import CachedObject, PageStore
from preheat.versions import ObjectInfo
from preheat.worker._bodies import info_of
from preheat.worker.fills import Counters, Fill

log = get_logger("worker")
_MAX_OBJECTS = 1 << 16
_LONG_SECONDS = 0.1
"""From here on it counts that the under store was asked for a copy before it was complete."""
_SAY_AGAIN_SECONDS = 60.0

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """One look at the under store."""

    begun: float
    task: asyncio.Task[ObjectInfo]


class Checks:
    """Knows how old the under store's last word about each copy is.

    Args:
        store: the copies; one whose object is gone is dropped.
        stat: looks at the under store.
        counters: what is found.
        clock: tells the time.
    """

    def __init__(
        self,
        store: PageStore,
        stat: Callable[[UfsPath], Awaitable[ObjectInfo]],
        counters: Counters,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._store = store
        self._stat = stat
        self._counters = counters
        self.now = clock
        self._said: dict[str, tuple[ObjectInfo, float]] = {}
        """By URI: a version, and when it was current as far as is known; the latest last."""
        self._looks: dict[str, _Look] = {}
        self._overtaken: set[str] = set()
        """By URI: the looks under way that began before something was known better."""
        self._drift = Drift(counters)

    def note(self, path: UfsPath, info: ObjectInfo, at: float) -> None:
        """Know that a version was current at a moment, unless something later is known."""
        uri = str(path)
        if uri in self._said and self._said[uri][1] > at:
            return
        self._said.pop(uri, None)
        self._said[uri] = (info, at)
        if len(self._said) > _MAX_OBJECTS:
            del self._said[next(iter(self._said))]

    def filled(self, path: UfsPath, item: CachedObject, fill: Fill) -> None:
        """Know how old the version of a new copy is, if the moment when it was complete does not tell."""
        if fill.from_peers:
            self.note(path, info_of(path, item), -inf)
        elif str(path) in self._said or self.now() - fill.began_at > _LONG_SECONDS:
            self.note(path, info_of(path, item), fill.began_at)

    def forget(self, path: UfsPath) -> None:
        """Know no more than the copy tells: what was noted, or is being looked at, proved wrong."""
        uri = str(path)
        self._said.pop(uri, None)
        if uri in self._looks:
            self._overtaken.add(uri)

    def age(self, item: CachedObject) -> float:
        """Return the seconds since a copy was known to be current.

        It is infinite if the last word was about another version. Of what was not noted, or so long ago that it is
        forgotten, it is the time since the copy was complete.
        """
        known = self._said.get(item.path)
        if known is None:
            return self.now() - item.cached_at
        return self.now() - known[1] if known[0].etag == item.etag else inf

    async def ask(self, path: UfsPath, holds: float) -> ObjectInfo:
        """Return the current version of an object, as of less than ``holds`` seconds ago; drop a copy if it is gone.

        Raises:
            ObjectNotFound: there is no such object any more.
            OriginUnavailable: the under store cannot be asked; so what is cached, if anything, is not served.
        """
        uri = str(path)
        known, at = self._said.get(uri, (None, 0.0))
        if known is not None and 0 <= self.now() - at < holds:
            return known
        look = self._looks.get(uri)
        if look is not None and (self.now() - look.begun >= holds or uri in self._overtaken):
            await asyncio.wait({look.task})
            look = self._looks.get(uri)  # begun by another who waited
        if look is None:
            look = self._begin(path)
        await asyncio.wait({look.task})  # a reader who leaves must not cancel it for the others
        if look.task.cancelled():
            raise Unavailable("The worker is stopping.")
        return look.task.result()

    async def close(self) -> None:
        """Break off every look; those who wait for one get Unavailable."""
        looks = [look.task for look in self._looks.values()]
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    def found_drift(self, path: UfsPath, *, had: str, now: str | None) -> None:
        """Count an object that is not at the under store as the version ``had`` any more, and say so now and then."""
        self._drift.found(path, had=had, now=now)

    def _begin(self, path: UfsPath) -> _Look:
        task = asyncio.create_task(self._look(path))
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # all who asked may have left
        look = self._looks[str(path)] = _Look(begun=self.now(), task=task)
        return look

    async def _look(self, path: UfsPath) -> ObjectInfo:
        uri, begun = str(path), self.now()
        had = self._store.lookup(uri)
        self._counters.checks += 1
        try:
            info = await self._stat(path)
        except ObjectNotFound:
            self.forget(path)
            if had is not None:
                self._gone(path, had)
            raise
        except OriginUnavailable as error:
            if had is None:
                raise
            raise _unknown(path, error) from error
        finally:
            self._looks.pop(uri, None)
            was_overtaken = uri in self._overtaken
            self._overtaken.discard(uri)
        if not was_overtaken:
            self.note(path, info, begun)
        if had is not None and (had.etag, had.size) != (info.etag, info.size):
            self._counters.checks_changed += 1
            self.found_drift(path, had=had.etag, now=info.etag)
        return info

    def _gone(self, path: UfsPath, had: CachedObject) -> None:
        self._counters.checks_gone += 1
        self.found_drift(path, had=had.etag, now=None)
        if self._store.lookup(str(path)) == had:  # else it came anew meanwhile
            self._store.delete(str(path))


class Drift:
    """Counts objects that changed at the under store, and logs them without flooding the log."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._silent_until = -inf
        self._unsaid = 0

    def found(self, path: UfsPath, *, had: str, now: str | None) -> None:
        """Count one object that is not the version ``had`` any more, but ``now`` if that is known."""
        self._counters.drifted += 1
        if time.monotonic() < self._silent_until:
            self._unsaid += 1
            return
        self._silent_until = time.monotonic() + _SAY_AGAIN_SECONDS
        log.warning(
            "An object is not the version any more at the under store that was read.",
            action="drift",
            path=str(path),
            had=had,
            now=now,
            others=self._unsaid,
        )
        self._unsaid = 0


def _unknown(path: UfsPath, error: OriginUnavailable) -> OriginUnavailable:
    """Return the error, of the same kind, that tells why a copy is not served."""
    return type(error)(
        f"path='{path}' is cached, but nobody can tell whether that version is current: {error.message}",
        remedy="Try again, or read it as it is cached with Cache-Control: max-stale.",
    )
