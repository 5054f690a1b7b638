"""What is known of objects that are not cached: the sizes and versions that metadata loads noted.

A note lasts until its object is cached, when the copy tells the same and more, or until the store is deleted.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from preheat.store._faults import disk_faults
from preheat.versions import ObjectInfo

_TABLE = """
CREATE TABLE IF NOT EXISTS notes (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL, last_modified REAL NOT NULL
) WITHOUT ROWID
"""


class Notes:
    """Notes by path, durable as the store's index is.

    Args:
        file: where they are; none keeps them in memory.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or Path(":memory:")
        with disk_faults(self._file):
            self._db = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_TABLE)
            (self._count,) = self._db.execute("SELECT count(*) FROM notes").fetchone()

    def put(self, path: str, info: ObjectInfo) -> None:
        """Note an object, in place of an older note."""
        row = (path, info.size, info.etag, info.last_modified)
        with disk_faults(self._file):
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)", row)
        self._count += 1

    def get(self, path: str, *, key: str) -> ObjectInfo | None:
        """Return what is noted of a path; ``key`` is the part of it that names the object in its bucket."""
        if not self._count:
            return None
        with disk_faults(self._file):
            row = self._db.execute("SELECT size, etag, last_modified FROM notes WHERE path = ?", (path,)).fetchone()
        return ObjectInfo(key=key, size=row[0], etag=row[1], last_modified=row[2]) if row else None

    def forget(self, path: str) -> None:
        """Drop a note, if there is one."""
        if self._count:  # at most so many: most stores have none, and a fill need not ask
            with disk_faults(self._file):
                self._db.execute("DELETE FROM notes WHERE path = ?", (path,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
