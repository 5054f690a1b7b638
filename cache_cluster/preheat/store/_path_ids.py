"""Which paths ids stand for: Alluxio's clients name a file by the SHA-256 of its path, and some send nothing else.

What is learnt lasts until so much else was learnt that there is no room, or until the store is deleted.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from preheat.store._faults import disk_faults

_TABLE = "CREATE TABLE IF NOT EXISTS path_ids (id BLOB PRIMARY KEY, path TEXT NOT NULL)"
_LIMIT = 5_000_000
"""Rows, each of which takes about 150 bytes."""


def path_id(path: str) -> str:
    """Return the id of a path, spelled as its client spells it: hexadecimal, in lower case."""
    return _digest(path).hex()


class PathIds:
    """Paths by id, durable as the store's index is. It may be used by several threads.

    Args:
        file: where they are; none keeps them in memory.
        limit: how many are kept; those that were learnt first go first.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, file: Path | None = None, *, limit: int = _LIMIT) -> None:
        self._file = file or Path(":memory:")
        self._limit = limit
        self._lock = Lock()
        with disk_faults(self._file):
            self._db = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_TABLE)

    def learn(self, paths: Iterable[str]) -> None:
        """Know these paths by their ids from now on.

        Raises:
            StoreError: the file cannot be used.
        """
        rows = ((_digest(path), path) for path in paths)
        with self._lock, disk_faults(self._file), self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO path_ids VALUES (?, ?)", rows)
            self._db.execute(
                "DELETE FROM path_ids WHERE rowid <= (SELECT max(rowid) FROM path_ids) - ?", (self._limit,)
            )

    def find(self, path_id: str) -> str | None:
        """Return the path that an id stands for, if it was learnt.

        Raises:
            StoreError: the file cannot be used.
        """
        with disk_faults(self._file):
            query = "SELECT path FROM path_ids WHERE id = ?"
            row = self._db.execute(query, (bytes.fromhex(path_id),)).fetchone()
        return str(row[0]) if row else None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _digest(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest()
