"""The pack files of one directory: objects one after the other, nothing else."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from pathlib import Path

from preheat.errors import CorruptPage, StoreError
from preheat.store._faults import disk_fault, disk_faults

_MAX_OPEN_FILES = 256
_LOST = (errno.EIO, errno.ENOENT)
_WRITE_STEP = 64 << 10
"""Bytes of one write. For a larger one Linux caches the file in larger pieces of memory, and of just these a virtual
machine gives its host back what is free: getting them again took 2.5 s of CPU per GiB, where small steps take 0.5."""


class _OpenFile:
    """An open pack. It is closed when the last thread that uses it lets go of it, hence not in the middle of a call."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags, 0o644)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while (done := len(data)) < size:  # one call reads 2 GiB at most
            piece = os.pread(self._descriptor, size - done, offset + done)
            if not piece:
                break
            data += piece
        return data

    def read_into(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while rest := buffer[done:]:
            size = os.preadv(self._descriptor, (rest,), offset + done)
            if not size:
                break
            done += size
        return done

    def write(self, data: memoryview, offset: int) -> None:
        while data:
            written = os.pwrite(self._descriptor, data[:_WRITE_STEP], offset)
            data, offset = data[written:], offset + written


class PackFiles:
    """Creates, writes, reads and removes packs by number; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[int, _OpenFile] = {}  # the one opened first first; looked up without the lock
        self._lock = threading.Lock()
        with disk_faults(directory):
            directory.mkdir(exist_ok=True)

    def sizes(self) -> dict[int, int]:
        """Return the bytes of each pack by number, in order."""
        with disk_faults(self._directory):
            found = {int(path.stem): path.stat().st_size for path in self._directory.glob("[0-9]*.pack")}
        return dict(sorted(found.items()))

    def create(self, number: int) -> None:
        """Create an empty pack.

        Raises:
            StoreFull, StoreError: the disk refused.
        """
        path = self._path(number)
        with disk_faults(path), self._lock:
            self._keep(number, _OpenFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    def write(self, number: int, data: bytearray | memoryview, offset: int) -> None:
        """Write bytes at an offset.

        Raises:
            StoreFull, StoreError: the disk refused; some of the bytes may stand there.
        """
        with disk_faults(self._directory):
            self._file(number).write(memoryview(data), offset)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes; fewer if the pack ends before.

        Raises:
            CorruptPage: the pack is gone or its disk cannot read it.
            StoreError: it cannot be opened now.
        """
        try:
            return self._file(number).read(offset, size)
        except OSError as error:
            raise self._unreadable(number, error) from error

    def read_into(self, number: int, offset: int, buffer: memoryview) -> int:
        """Fill the buffer as :meth:`read` would, and return how many bytes came."""
        try:
            return self._file(number).read_into(offset, buffer)
        except OSError as error:
            raise self._unreadable(number, error) from error

    def remove(self, number: int) -> None:
        """Unlink a pack; a thread that reads it now still can."""
        path = self._path(number)
        with disk_faults(path), self._lock:
            self._open.pop(number, None)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the open files."""
        with self._lock:
            self._open.clear()

    def _unreadable(self, number: int, error: OSError) -> StoreError:
        if error.errno in _LOST:
            return CorruptPage(f"{self._path(number)}: {error.strerror}.")
        return disk_fault(self._directory, error)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.pack"

    def _file(self, number: int) -> _OpenFile:
        if file := self._open.get(number):
            return file
        with self._lock:
            return self._open.get(number) or self._keep(number, _OpenFile(self._path(number), os.O_RDWR))

    def _keep(self, number: int, file: _OpenFile) -> _OpenFile:
        self._open[number] = file
        if len(self._open) > _MAX_OPEN_FILES:
            del self._open[next(iter(self._open))]
        return file
