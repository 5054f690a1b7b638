"""The durable index of one directory, in SQLite: which objects there are, and where.

Rows are written many in a transaction, because one each would cost more than the object's bytes, and without fsync
(WAL, ``synchronous=NORMAL``): they survive the death of the process. A power cut may lose the latest rows, or keep a
row whose bytes were lost; then the checksums tell. Each row has a copy of the object's record, whose own checksum
tells if the row was damaged.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from preheat.errors import StoreError
from preheat.store._catalog import Pack
from preheat.store._faults import IndexDamaged, disk_faults
from preheat.store._format import FORMAT

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS objects (
        sequence INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, number INTEGER NOT NULL, ordinal INTEGER NOT NULL,
        file_end INTEGER NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS places ON objects (number, ordinal, file_end, size)",
    "CREATE TABLE IF NOT EXISTS uses (number INTEGER PRIMARY KEY, admitted INTEGER, last_read BLOB, reads BLOB)",
)
_COLUMNS = "sequence, path, number, ordinal, file_end, size, record"
_PUT = f"INSERT OR REPLACE INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_SELECT = f"SELECT {_COLUMNS} FROM objects"  # noqa: S608 - constants
_TOTALS = """
SELECT number, count(*), sum(size), max(file_end), max(ordinal) + 1, min(sequence), max(sequence)
FROM objects INDEXED BY places GROUP BY number
"""
_MAX_TICK = 1 << 62
"""None gets there; a number beyond it was damaged."""
_SUFFIXES = ("", "-wal", "-shm")


class Row(NamedTuple):
    """One object."""

    sequence: int
    path: str
    number: int
    ordinal: int
    file_end: int
    """Offset behind it in the pack; of a large object, behind the record in its last segment."""
    size: int
    record: bytes


class Totals(NamedTuple):
    """What the rows of one number come to."""

    number: int
    objects: int
    live: int
    file_end: int
    ordinals: int
    first_sequence: int
    last_sequence: int


class Index:
    """The table of a directory's objects. Its calls must not overlap.

    Raises:
        StoreError: it has another format, or cannot be opened.
        IndexDamaged: the file is no index.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with ExitStack() as on_failure, disk_faults(file):
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._db.text_factory = lambda text: text.decode(errors="replace")  # a damaged one is found by its record
            on_failure.callback(self._db.close)
            self.fresh = self._prepare()
            """Whether it was made now, or :meth:`finish` was never called: it tells nothing of what there is."""
            on_failure.pop_all()

    @staticmethod
    def delete_file(file: Path) -> None:
        """Delete an index."""
        with disk_faults(file):
            for suffix in _SUFFIXES:
                Path(f"{file}{suffix}").unlink(missing_ok=True)

    def finish(self) -> None:
        """Let the index count as whole from now on."""
        with disk_faults(self._file):
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self.fresh = False

    def doubt(self) -> None:
        """Have the index rebuilt when it is opened next, because a row of it was damaged."""
        with disk_faults(self._file):
            self._db.execute("PRAGMA user_version = 0")

    def put(self, rows: Iterable[Row]) -> None:
        """Insert objects, each in place of any other at its path; all or none."""
        self._in_one(_PUT, rows)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the rows of these paths, all or none."""
        self._in_one("DELETE FROM objects WHERE path = ?", ((path,) for path in paths))

    def delete_rows(self, rows: Iterable[Row]) -> None:
        """Delete exactly these rows, all or none."""
        self._in_one("DELETE FROM objects WHERE sequence = ?", ((row.sequence,) for row in rows))

    def delete_numbers(self, numbers: Iterable[int]) -> None:
        """Delete the rows of all objects in these packs, all or none."""
        self._in_one("DELETE FROM objects WHERE number = ?", ((number,) for number in numbers))

    def delete_behind(self, number: int, file_end: int) -> None:
        """Delete the rows of objects that stand behind an offset in a pack."""
        self._in_one("DELETE FROM objects WHERE number = ? AND file_end > ?", [(number, file_end)])

    def get(self, path: str) -> Row | None:
        """Return the row of a path."""
        with disk_faults(self._file):
            row = self._db.execute(f"{_SELECT} WHERE path = ?", (path,)).fetchone()
        return Row(*row) if row else None

    def page(self, prefix: str, *, after: str, limit: int) -> list[Row]:
        """Return the first rows whose path starts with the prefix and is greater than ``after``, in order.

        One look-up and one row per path, however many objects there are.
        """
        first = prefix if prefix > after else f"{after}\0"
        with disk_faults(self._file):
            found = self._db.execute(f"{_SELECT} WHERE path >= ? ORDER BY path LIMIT ?", (first, limit)).fetchall()
        return [row for row in map(Row._make, found) if row.path.startswith(prefix)]

    def of_number(self, number: int) -> list[Row]:
        """Return the rows of all objects in a pack."""
        with disk_faults(self._file):
            found = self._db.execute(f"{_SELECT} WHERE number = ? ORDER BY ordinal", (number,)).fetchall()
        return [Row(*row) for row in found]

    def rows(self, *, after: int, limit: int) -> list[Row]:
        """Return the first rows behind a sequence number, the oldest first."""
        with disk_faults(self._file):
            found = self._db.execute(f"{_SELECT} WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit))
            return [Row(*row) for row in found]

    def totals(self) -> list[Totals]:
        """Return what the rows of each number come to, in order."""
        with disk_faults(self._file):
            found = [Totals(*row) for row in self._db.execute(_TOTALS)]
        if not all(isinstance(number, int) for row in found for number in row):
            raise IndexDamaged(f"{self._file}: a row has something else than numbers.")
        return found

    def save_uses(self, packs: Iterable[Pack]) -> None:
        """Keep how the objects were used, for the next time the index is opened."""
        rows = ((pack.number, pack.admitted, pack.last_read.tobytes(), pack.reads.tobytes()) for pack in packs)
        self._in_one("INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?)", rows)

    def take_uses(self, packs: dict[int, Pack]) -> None:
        """Set how the objects were used, as it was kept, and forget it."""
        with disk_faults(self._file):
            for number, admitted, last_read, reads in self._db.execute("SELECT * FROM uses"):
                ticks = _numbers("Q", last_read)
                if (pack := packs.get(number)) and max(ticks, default=admitted) < _MAX_TICK:
                    pack.admitted, pack.last_read, pack.reads = admitted, ticks, _numbers("H", reads)
            self._db.execute("DELETE FROM uses")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _in_one(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        with disk_faults(self._file), self._db:
            self._db.execute("BEGIN")
            self._db.executemany(statement, values)

    def _prepare(self) -> bool:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process only: no shared memory, no lock calls
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            directory = self._file.parent
            raise StoreError(
                f"{self._file} has format {found}; this version of Preheat reads format {FORMAT}.",
                remedy=f"Delete {directory}; what it holds can be loaded again.",
            )
        for table in _TABLES:
            self._db.execute(table)
        return bool(found == 0)


def _numbers(kind: str, data: bytes) -> array[int]:
    numbers: array[int] = array(kind)
    numbers.frombytes(data[: len(data) // numbers.itemsize * numbers.itemsize])
    return numbers
