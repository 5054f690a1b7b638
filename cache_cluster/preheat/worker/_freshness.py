"""Whether what is cached may be told now, or the under store has to be asked first. Pure.

What is known of an object is as old as the last word of the under store about it: the answer that brought the copy, a
look at the object since, the listing that named it. A mount says how old that may be, and a reader may want it younger
or bear it older, in the words of RFC 9111: ``Cache-Control: no-cache``, ``max-age=N``, ``max-stale``, ``max-stale=N``,
``only-if-cached``. A path that is bound to a dataset version has no age: it is that version, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from math import inf

from preheat.errors import PreheatError
from preheat.mounts import Freshness, Mount

VERSION_HEADER = "x-preheat-version"
"""Names the dataset version that a reader wants, ``sha256:…``."""
_MAX_DIGITS = 18


class NotCached(PreheatError):
    """The reader wants only what is cached, and this is not, or is older than it may be."""

    code = "not_cached"
    status = 504
    default_remedy = "Ask without Cache-Control: only-if-cached."


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """How one reader wants it, besides what the mount says."""

    max_age: float = inf
    """Seconds that the last word of the under store may be old."""
    max_stale: float = 0.0
    """Seconds by which it may be older than both the mount and ``max_age`` say."""
    only_cached: bool = False
    """Ask nobody."""
    version: str = ""
    """The dataset version that the object has to belong to; empty is any."""

    @property
    def is_plain(self) -> bool:
        """Whether a copy that the mount lets pass does."""
        return self.max_age == inf and not self.version


ANY = Wish()
"""Of a reader who says nothing."""


class Verdict(Enum):
    """What to do with what is cached."""

    SERVE = auto()
    ASK = auto()  #: the under store, whether it is current
    REFUSE = auto()  #: it would have to be asked, and must not


def lifetime(mounts: Iterable[Mount], wish: Wish) -> float:
    """Return the seconds for which a word of the under store holds: by the strictest of some mounts, and a wish."""
    return min((wish.max_age, *map(_lifetime, mounts))) + wish.max_stale


def judge(age: float, holds: float, *, only_cached: bool = False) -> Verdict:
    """Decide about what is cached.

    Args:
        age: seconds since the under store's last word about it; infinite if that is not known, and below 0 if a clock
            was set back since, which tells as little.
        holds: seconds for which such a word holds.
        only_cached: whether nobody may be asked.
    """
    if holds == inf or 0 <= age < holds:
        return Verdict.SERVE
    return Verdict.REFUSE if only_cached else Verdict.ASK


@lru_cache(maxsize=1024)
def wish_of(cache_control: str, version: str) -> Wish:
    """Return what the header lines ``Cache-Control`` and ``X-Preheat-Version`` of a request say; either may be empty.

    Of who says nothing it is :data:`ANY` itself. What is not understood is left out, except that an age that is no
    number is taken for 0: it asks once too often.
    """
    said: dict[str, str] = {}
    for directive in cache_control.lower().split(","):
        name, _, value = directive.partition("=")
        said[name.strip()] = value.strip(' \t"')
    checked = "no-cache" in said
    wish = Wish(
        max_age=0.0 if checked else _seconds(said.get("max-age"), absent=inf),
        max_stale=0.0 if checked or said.get("max-stale") is None else _seconds(said["max-stale"] or None, absent=inf),
        only_cached="only-if-cached" in said,
        version=version.strip(),
    )
    return ANY if wish == ANY else wish


def wished(headers: Mapping[str, str]) -> Wish:
    """Return what a request's headers say, by their names in lower case."""
    return wish_of(headers.get("cache-control", ""), headers.get(VERSION_HEADER, ""))


def _lifetime(mount: Mount) -> float:
    if mount.freshness is Freshness.ALWAYS_CHECK:
        return 0.0
    return mount.max_age if mount.freshness is Freshness.MAX_AGE else inf


def _seconds(text: str | None, *, absent: float) -> float:
    if text is None:
        return absent
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0.0
