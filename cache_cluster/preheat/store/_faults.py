"""The seam where errors of the disk and of SQLite become errors of the page store."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preheat.errors import StoreError, StoreFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_faults(place: Path) -> Iterator[None]:
    """Translate errors of the file or directory ``place``.

    Raises:
        StoreFull: the disk, the quota or the file-size limit is exhausted.
        StoreError: any other error of the operating system or of SQLite.
    """
    try:
        yield
    except OSError as error:
        raise disk_fault(place, error) from error
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        raise _fault(f"{place}: {error}.", place, full=full) from error


def disk_fault(place: Path, error: OSError) -> StoreError:
    """Return what an error of the operating system means for the store."""
    return _fault(f"{place}: {error.strerror}.", place, full=error.errno in _NO_ROOM)


def _fault(message: str, place: Path, *, full: bool) -> StoreError:
    if full:
        return StoreFull(message, remedy=f"Free space on the disk of {place.parent}, or lower --capacity.")
    return StoreError(message, remedy=f"Check the disk and the permissions of {place.parent}.")
