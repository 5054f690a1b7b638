"""The durable index of one directory: a row in SQLite is what makes an object exist.

Rows are written many in a transaction, because one each would cost more than the object's bytes, and without fsync
(WAL, ``synchronous=NORMAL``): they survive the death of the process. A power cut may lose the latest rows, or keep a
row whose bytes were lost; then the checksums tell.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from preheat.errors import StoreError
from preheat.store._base import CachedObject
from preheat.store._catalog import Entry
from preheat.store._faults import disk_faults

_FORMAT = 2
_TABLE = """
CREATE TABLE IF NOT EXISTS objects (
    path TEXT PRIMARY KEY, etag TEXT NOT NULL, size INTEGER NOT NULL, last_modified REAL NOT NULL,
    job_id TEXT NOT NULL, cached_at REAL NOT NULL, checksums BLOB NOT NULL,
    pack INTEGER NOT NULL, pack_offset INTEGER NOT NULL
) WITHOUT ROWID
"""
_PATHS = "SELECT path FROM objects WHERE path >= ? ORDER BY path LIMIT ?"
_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Index:
    """The table of a directory's objects. Its calls must not overlap.

    Raises:
        StoreError: the file is no index, or one of another format.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with ExitStack() as on_failure, disk_faults(file):
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            on_failure.callback(self._db.close)
            self._prepare()
            on_failure.pop_all()

    def put(self, entries: Iterable[Entry]) -> None:
        """Insert objects, each in place of any other at its path; all or none."""
        with disk_faults(self._file), self._db:
            self._db.execute("BEGIN")
            self._db.executemany(_PUT, map(_row, entries))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the rows of these paths, all or none."""
        with disk_faults(self._file), self._db:
            self._db.execute("BEGIN")
            self._db.executemany("DELETE FROM objects WHERE path = ?", ((path,) for path in paths))

    def paths(self, prefix: str, *, after: str, limit: int) -> list[str]:
        """Return the first paths that start with the prefix and are greater than ``after``, in order.

        One look-up and one row per path, however many objects there are: the table is sorted by path.
        """
        first = prefix if prefix > after else f"{after}\0"
        with disk_faults(self._file):
            rows = self._db.execute(_PATHS, (first, limit)).fetchall()
        return [path for (path,) in rows if path.startswith(prefix)]

    def entries(self) -> Iterator[Entry]:
        """Yield every object."""
        with disk_faults(self._file):
            for row in self._db.execute("SELECT * FROM objects"):
                yield _entry(row)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process only: no shared memory, no lock calls
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found not in (0, _FORMAT):
            directory = self._file.parent
            raise StoreError(
                f"{self._file} has format {found}; this version of Preheat reads format {_FORMAT}.",
                remedy=f"Delete {directory}; what it holds can be loaded again.",
            )
        self._db.execute(_TABLE)
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")


def _row(entry: Entry) -> tuple[str | int | float | bytes, ...]:
    item = entry.item
    return (
        item.path, item.etag, item.size, item.last_modified,
        item.job_id, item.cached_at, item.checksums,
        entry.pack, entry.offset,
    )  # fmt: skip


def _entry(row: tuple[Any, ...]) -> Entry:
    path, etag, size, last_modified, job_id, cached_at, checksums, pack, offset = row
    item = CachedObject(
        path=path,
        etag=etag,
        size=size,
        last_modified=last_modified,
        job_id=job_id,
        cached_at=cached_at,
        checksums=checksums,
    )
    return Entry(item=item, pack=pack, offset=offset)
