"""The two locks of a directory: of its process against others, and of its threads."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from preheat.errors import StoreError, StoreInUse
from preheat.store._faults import DirectoryFailed, disk_faults


class Working:
    """Holds the lock of a directory that is open, and gives the directory up if the disk fails meanwhile."""

    def __init__(self, lock: threading.Lock, check: Callable[[], None], give_up: Callable[[StoreError], None]) -> None:
        self._lock = lock
        self._check = check
        self._give_up = give_up

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._check()
        except StoreError:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, DirectoryFailed):
                self._give_up(error)
        finally:
            self._lock.release()


def lock_directory(directory: Path) -> int:
    """Make a directory if it does not exist, and return the open file that keeps other processes out.

    Raises:
        StoreInUse: another process has it open.
        StoreError: it cannot be used.
    """
    with disk_faults(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreInUse(f"The page store in {directory} is open in another process.") from error
    return descriptor
