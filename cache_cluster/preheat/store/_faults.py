"""The seam where errors of the disk and of SQLite become errors of the page store."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preheat.errors import StoreError, StoreFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN)
"""Of this process or machine, not of the directory."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PASSING_SQLITE = (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)
_PRIMARY = 0xFF
"""An extended result code of SQLite has the code it extends in its lowest byte."""


class DirectoryFailed(StoreError):
    """A directory cannot be used any more: its disk fails, it vanished, or it may not be written."""


class IndexDamaged(DirectoryFailed):
    """The index is no database, or SQLite finds it malformed."""


@contextmanager
def disk_faults(place: Path) -> Iterator[None]:
    """Translate errors of the file or directory ``place``.

    Raises:
        StoreFull: the disk, the quota or the file-size limit is exhausted.
        DirectoryFailed: the directory cannot be used any more.
        StoreError: any other error of the operating system or of SQLite.
    """
    try:
        yield
    except OSError as error:
        raise disk_fault(place, error) from error
    except sqlite3.Error as error:
        raise _index_fault(place, error) from error


def disk_fault(place: Path, error: OSError) -> StoreError:
    """Return what an error of the operating system means for the store."""
    if error.errno in _NO_ROOM:
        return _full(f"{place}: {error.strerror}.", place)
    kind = StoreError if error.errno in _PASSING else DirectoryFailed
    return kind(f"{place}: {error.strerror}.", remedy=_remedy(place))


def _index_fault(place: Path, error: sqlite3.Error) -> StoreError:
    code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & _PRIMARY
    if code == sqlite3.SQLITE_FULL:
        return _full(f"{place}: {error}.", place)
    if code in _DAMAGED:
        return IndexDamaged(f"{place}: {error}.", remedy="Restart the worker; it rebuilds the index from the data.")
    kind = StoreError if code in _PASSING_SQLITE else DirectoryFailed
    return kind(f"{place}: {error}.", remedy=_remedy(place))


def _full(message: str, place: Path) -> StoreFull:
    return StoreFull(message, remedy=f"Free space on the disk of {place.parent}, or lower --capacity.")


def _remedy(place: Path) -> str:
    return f"Check the disk and the permissions of {place.parent}."
