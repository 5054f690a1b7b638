"""What readers ask for in ranges, and when an object that is not cached is worth filling for them. Pure.

A range is read from the under store at once, for its reader must not wait for what stands in front of it, and an
object of many gigabytes is not brought here for the sake of its last bytes. But who reads a good part of an object is
likely to read all of it. So small objects are filled with the first range, and larger ones once the ranges that were
read of them add up to a quarter of their size: at the worst a quarter is read twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from preheat.versions import ObjectInfo

Asked = tuple[int, int | None]
"""A range of an object whose size may not be known: [start, end), to the end if that is none; the last ``-start``
bytes if the start is negative."""
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)\s*", re.IGNORECASE)
_MAX_DIGITS = 18
_SMALL = 8 << 20
_SHARE = 4
_MAX_OBJECTS = 4096


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The one range that a ``Range`` names: its first and last byte, or else, without a first, how many at the end."""

    first: int | None
    last: int | None
    """None is the object's end."""

    @property
    def asked(self) -> Asked:
        """The range as far as it alone tells; a byte where it has none, of which the answer will say so."""
        if self.first is None:
            return (-self.last, None) if self.last else (0, 1)
        return self.first, None if self.last is None else self.last + 1

    def within(self, size: int) -> tuple[int, int]:
        """Return the bytes [start, end) of an object of this size; none of them if start is not below end."""
        if self.first is None:
            return max(0, size - (self.last or 0)), size
        return self.first, size if self.last is None else min(size, self.last + 1)


def parse_range(header: str | None) -> ByteRange | None:
    """Read a ``Range``; none if it is malformed or names several, and so is to be ignored, as RFC 9110 allows."""
    match = _RANGE.fullmatch(header) if header else None
    first, last = map(_position, match.groups()) if match else (None, None)
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)


def asked_by(header: str | None) -> Asked | None:
    """Return what a ``Range`` asks for as far as it alone tells; none if that is all of the object."""
    found = parse_range(header)
    return found.asked if found else None


def resolve(asked: Asked, size: int) -> tuple[int, int]:
    """Return the bytes [start, end) that a range means in an object of this size."""
    start, end = asked
    return (max(0, size + start) if start < 0 else start), (size if end is None else min(end, size))


class RangeReads:
    """Remembers the objects whose versions or ranges were asked for last."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ObjectInfo, int]] = {}  # the latest last

    def learn(self, uri: str, info: ObjectInfo, size: int = 0) -> None:
        """Note the present version of an object, and that ``size`` bytes of it are read from the under store."""
        before = self._known.pop(uri, None)
        total = before[1] if before and before[0].etag == info.etag else 0
        self._known[uri] = (info, total + size)
        if len(self._known) > _MAX_OBJECTS:
            del self._known[next(iter(self._known))]

    def info(self, uri: str, etag: str | None) -> ObjectInfo | None:
        """Return what was learnt of an object, if it was of this version (none: any). It may have changed since."""
        info, _ = self._known.get(uri, (None, 0))
        return info if info is not None and etag in (None, info.etag) else None

    def forget(self, uri: str) -> None:
        """Know nothing of an object any more."""
        self._known.pop(uri, None)

    def is_worth_filling(self, uri: str, asked: Asked) -> bool:
        """Whether the object should be filled now that this range is asked for; false if its size is not known."""
        if uri not in self._known:
            return False
        info, total = self._known[uri]
        start, end = resolve(asked, info.size)
        return info.size <= _SMALL or (total + max(0, end - start)) * _SHARE >= info.size


def _position(digits: str) -> int | None:
    digits = digits.lstrip("0") or digits[:1]
    return int(digits[: _MAX_DIGITS + 1]) if digits else None  # with one digit more it is behind every object
