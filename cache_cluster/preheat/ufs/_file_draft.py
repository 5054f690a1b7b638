"""A file that is being written: out of sight of listings until it is whole; blocking, for threads."""

from __future__ import annotations

import errno
import os
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from preheat.errors import Conflict, PreheatError
from preheat.paths import UfsPath
from preheat.ufs._download import check_version
from preheat.ufs._file_local import info_of, local, read_error, write_error
from preheat.versions import ObjectInfo

_NAME = re.compile(r"\.preheat-[0-9a-f]{32}\.part")
_CANNOT_COPY = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def is_draft(name: str) -> bool:
    """Whether a file of this name is one that is being written, or was when its writer died."""
    return _NAME.fullmatch(name) is not None


class Draft:
    """A file with a name of its own beside its target, whose place it takes when it is published.

    A thread cannot be cancelled, so one call may still run when the next one comes: they take turns, and what comes
    after :meth:`discard` is refused.

    Args:
        path: the target; its directories are made when they are needed.
    """

    def __init__(self, path: UfsPath) -> None:
        self._path = path
        self._target = Path(local(path.key))
        self._draft = self._target.with_name(f".preheat-{uuid.uuid4().hex}.part")
        self._turn = threading.Lock()
        self._file: BinaryIO | None = None
        self._ended = False

    def append(self, data: bytes) -> None:
        """Add bytes; raises Preheat's errors, as all methods do."""
        with self._open() as file:
            file.write(data)

    def append_from(self, source: UfsPath, info: ObjectInfo, start: int, size: int) -> int:
        """Let the kernel add up to ``size`` bytes of a version of another file; return how many, 0 if it cannot."""
        with self._open() as file:
            try:
                with Path(local(source.key)).open("rb", buffering=0) as original:
                    copied = _copy_range(original.fileno(), file.fileno(), start, size)
                    status = os.fstat(original.fileno())
            except OSError as error:
                raise read_error(error, source) from error
            check_version(source, info_of(source.key, status), info.etag)
            return copied

    def publish(self) -> ObjectInfo:
        """Make the file durable, put it in the target's place, and return it."""
        with self._open() as file:
            file.flush()
            os.fsync(file.fileno())
            self._draft.replace(self._target)
            self._ended = True
            info = info_of(self._path.key, os.fstat(file.fileno()))
            file.close()
            _sync_directory(self._target.parent)
            return info

    def discard(self) -> None:
        """Remove what was written, unless it was published."""
        with self._turn:
            if self._file is not None and not self._ended:
                self._file.close()
                self._draft.unlink(missing_ok=True)
            self._ended = True

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with self._turn:
            try:
                yield self._file or self._create()
            except PreheatError:  # some are errors of the operating system too
                raise
            except OSError as error:
                raise write_error(error, self._path) from error

    def _create(self) -> BinaryIO:
        if self._ended:
            raise Conflict(f"path='{self._path}' is not being written any more.")
        if self._path.key.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, "")
        self._draft.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._draft.open("xb")
        return self._file


def _copy_range(source: int, target: int, start: int, size: int) -> int:
    try:
        return os.copy_file_range(source, target, size, offset_src=start)
    except OSError as error:
        if error.errno in _CANNOT_COPY:
            return 0
        raise


def _sync_directory(directory: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to synchronise
            raise
    finally:
        os.close(descriptor)
