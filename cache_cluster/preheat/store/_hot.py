"""The bytes of small objects that are read again and again: from memory they cost a third of a read of the file."""

from __future__ import annotations

import threading
from collections import deque

from preheat.store._catalog import Entry

HOT_BYTES = 16 << 10
"""Objects up to this size may be kept."""
_LIMIT = 32 << 20


class HotBodies:
    """Keeps a bounded number of bytes at the entries that they belong to, those that came last.

    They were verified when they were read, and go with their entry: another version has another one.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._kept: deque[tuple[Entry, int]] = deque()
        self._lock = threading.Lock()

    def keep(self, entry: Entry, body: bytes) -> None:
        """Keep the body of an entry, in place of those that came first."""
        with self._lock:
            if entry.body is not None:
                return
            entry.body = body
            self._kept.append((entry, len(body)))
            self._size += len(body)
            while self._size > self._limit:
                oldest, size = self._kept.popleft()
                oldest.body = None
                self._size -= size
