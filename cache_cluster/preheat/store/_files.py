"""The pack and segment files of one directory: the only place that reads, writes and removes them."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from preheat.errors import CorruptPage, StoreError
from preheat.store._catalog import PACKED, FileKey
from preheat.store._faults import disk_fault, disk_faults
from preheat.store._format import FILE_HEADER_SIZE, SEGMENT_START
from preheat.store._verified import Verified

Buffer = bytes | bytearray | memoryview
_MAX_OPEN_FILES = 256
_WRITE_STEP = 64 << 10
"""Bytes of one write. For a larger one Linux caches the file in larger pieces of memory, and of just these a virtual
machine gives its host back what is free: getting them again took 2.5 s of CPU per GiB, where small steps take 0.5."""
_ONE_WRITE = 2 * _WRITE_STEP - 1
"""Bytes up to which one write is cheaper than two, and its pieces are small enough."""
_LOST = (errno.EIO, errno.ENOENT)
_KEEP_SIZE = 1
_fallocate = ctypes.CDLL(None).fallocate  # os.posix_fallocate would make the file longer
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The files of one number, as they stand."""

    size: int
    """Bytes of all of them, without the holes before segments' data."""
    segments: int
    """How many; 0 if it is a pack."""


class _OpenFile:
    """An open file. It is closed when the last thread that uses it lets go of it, hence not in the middle of a call."""

    def __init__(self, path: Path, flags: int) -> None:
        self.descriptor = os.open(path, flags, 0o644)
        self.verified = Verified(self.descriptor)
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self.descriptor, size, offset)
        while (done := len(data)) < size:  # one call reads 2 GiB at most
            piece = os.pread(self.descriptor, size - done, offset + done)
            if not piece:
                break
            data += piece
        return data

    def write(self, data: memoryview, offset: int, head: bytes = b"") -> None:
        step = _ONE_WRITE if len(head) + len(data) <= _ONE_WRITE else _WRITE_STEP
        while head or data:
            written = os.pwritev(self.descriptor, (head, data[:step]), offset)
            offset += written
            of_head = min(written, len(head))
            head, data = head[of_head:], data[written - of_head :]

    def reserve(self, offset: int, size: int) -> None:
        _fallocate(self.descriptor, _KEEP_SIZE, offset, size)  # what it cannot do, the writes will

    def truncate(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)


class Files:
    """Creates, writes, reads and removes files by key; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._packs, self._segments = directory / "packs", directory / "segments"
        self._open: dict[FileKey, _OpenFile] = {}  # the one opened first first; looked up without the lock
        self._lock = threading.Lock()
        with disk_faults(directory):
            self._packs.mkdir(exist_ok=True)
            self._segments.mkdir(exist_ok=True)

    def path(self, key: FileKey) -> Path:
        """Return where a file is."""
        number, segment = key
        return (
            self._packs / f"{number:08d}.pack" if segment == PACKED else self._segments / f"{number:08d}.{segment:04d}"
        )

    def found(self) -> dict[int, Found]:
        """Return what files there are, by number, in order."""
        with disk_faults(self._directory):
            packs = {int(path.stem): path.stat().st_size for path in self._packs.glob("[0-9]*.pack")}
            segments: dict[int, list[int]] = {}
            for path in self._segments.glob("[0-9]*.[0-9]*"):
                size = max(path.stat().st_size - SEGMENT_START, 0) + FILE_HEADER_SIZE
                segments.setdefault(int(path.stem), []).append(size)
        found = {number: Found(size=size, segments=0) for number, size in packs.items()}
        found |= {number: Found(size=sum(sizes), segments=len(sizes)) for number, sizes in segments.items()}
        return dict(sorted(found.items()))

    def create(self, key: FileKey, header: bytes) -> None:
        """Create a file that has its header only.

        Raises:
            StoreFull, StoreError: the disk refused; then there is no file.
        """
        path = self.path(key)
        with disk_faults(path), self._lock:
            file = _OpenFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                file.write(memoryview(header), 0)
            except OSError:
                path.unlink()
                raise
            self._keep(key, file)

    def write(self, key: FileKey, data: Buffer, offset: int, head: bytes = b"") -> None:
        """Write bytes at an offset, ``head`` and then ``data``.

        Raises:
            StoreFull, StoreError: the disk refused; some of the bytes may stand there.
        """
        try:
            self._file(key).write(memoryview(data), offset, head)
        except OSError as error:
            raise disk_fault(self._directory, error) from error

    def reserve(self, key: FileKey, offset: int, size: int) -> None:
        """Take room on the disk for bytes that are going to be written, if that can be, without a longer file.

        Writing them takes a third less CPU then (ext4): Linux need not promise each of their blocks by itself.
        """
        with suppress(OSError):
            self._file(key).reserve(offset, size)

    def mark(self, key: FileKey, state: bytes, offset: int) -> None:
        """Write over the state of a record; nothing if its file is gone, and so the record."""
        try:
            self._file(key).write(memoryview(state), offset)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_fault(self._directory, error) from error

    def read(self, key: FileKey, offset: int, size: int) -> bytes:
        """Return bytes; fewer if the file ends before.

        Raises:
            CorruptPage: the file is gone or its disk cannot read it.
            StoreError: it cannot be opened now.
        """
        try:
            return self._file(key).read(offset, size)
        except OSError as error:
            raise self._unreadable(key, error) from error

    def opened(self, key: FileKey) -> _OpenFile | None:
        """Return a file that was used lately; none if it was not, or is gone."""
        return self._open.get(key)

    def truncate(self, key: FileKey, size: int) -> None:
        """Cut what stands behind ``size`` bytes off."""
        with disk_faults(self._directory):
            self._file(key).truncate(size)

    def header(self, key: FileKey) -> bytes:
        """Return the header of a file; nothing if it cannot be read."""
        try:
            return self.read(key, 0, FILE_HEADER_SIZE)
        except CorruptPage:
            return b""

    def size(self, key: FileKey) -> int:
        """Return the bytes of a file."""
        with disk_faults(self._directory):
            return self.path(key).stat().st_size

    def remove(self, number: int, segments: int) -> None:
        """Unlink a pack (no segments), or the segments of a large object; a thread that reads them now still can.

        The last segment goes first: without it the object does not exist.
        """
        keys: Iterable[FileKey] = ((number, segment) for segment in reversed(range(segments)))
        for key in keys if segments else [(number, PACKED)]:
            path = self.path(key)
            with disk_faults(path), self._lock:
                self._open.pop(key, None)
                path.unlink(missing_ok=True)

    def remove_all(self, number: int) -> None:
        """Unlink whatever files have a number, however many there are."""
        with disk_faults(self._directory):
            for path in sorted(self._segments.glob(f"{number:08d}.*"), reverse=True):
                path.unlink()
            self.path((number, PACKED)).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the open files."""
        with self._lock:
            self._open.clear()

    def _unreadable(self, key: FileKey, error: OSError) -> StoreError:
        if error.errno in _LOST:
            return CorruptPage(f"{self.path(key)}: {error.strerror}.")
        return disk_fault(self._directory, error)

    def _file(self, key: FileKey) -> _OpenFile:
        if file := self._open.get(key):
            return file
        with self._lock:
            return self._open.get(key) or self._keep(key, _OpenFile(self.path(key), os.O_RDWR))

    def _keep(self, key: FileKey, file: _OpenFile) -> _OpenFile:
        self._open[key] = file
        if len(self._open) > _MAX_OPEN_FILES:
            del self._open[next(iter(self._open))]
        return file
