"""Files as objects: their names, their etags, and what the operating system's errors are called."""

from __future__ import annotations

import errno
import os
import stat

from preheat.errors import AccessDenied, Conflict, ObjectNotFound, OriginUnavailable, PreheatError
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

_NOWHERE = {errno.ELOOP, errno.ENAMETOOLONG}
_READ_REMEDY = "Let the user of the coordinator and the workers read the directory and its files."
_WRITE_REMEDY = "Let the user of the workers write to the directory."
_OUTAGE_REMEDY = "Check that the file system is mounted on the coordinator and on every worker."
_IN_THE_WAY = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


def local(key: str) -> str:
    """Return the file's path as a string: pathlib would drop the slash at the end of a key."""
    return f"/{key}"


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    """Return what the status of a file says of it as an object."""
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key=key, size=status.st_size, etag=etag, last_modified=status.st_mtime)


def stat_file(path: UfsPath) -> ObjectInfo:
    """Return one file as an object; raises Preheat's errors."""
    try:
        status = os.stat(local(path.key))  # noqa: PTH116 - see local
    except OSError as error:
        raise read_error(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        raise ObjectNotFound(f"path='{path}' is not a file.")
    return info_of(path.key, status)


def read_error(error: OSError, path: UfsPath) -> PreheatError:
    """Return Preheat's error for what the operating system says of a read."""
    reason = os.strerror(error.errno or 0)
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)) or error.errno in _NOWHERE:
        return ObjectNotFound(f"path='{path}' does not exist.")
    if isinstance(error, PermissionError):
        return AccessDenied(f"path='{path}' cannot be read: {reason}.", remedy=_READ_REMEDY)
    return OriginUnavailable(f"path='{path}' cannot be read: {reason}.", remedy=_OUTAGE_REMEDY)


def write_error(error: OSError, path: UfsPath) -> PreheatError:
    """Return Preheat's error for what the operating system says of a write or a removal."""
    reason = os.strerror(error.errno or 0)
    if isinstance(error, _IN_THE_WAY) or error.errno in _NOWHERE:
        return Conflict(f"path='{path}' cannot be written: {reason}.", remedy="A file cannot stand there; rename it.")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return AccessDenied(f"path='{path}' cannot be written: {reason}.", remedy=_WRITE_REMEDY)
    return OriginUnavailable(f"path='{path}' cannot be written: {reason}.", remedy=_OUTAGE_REMEDY)
