"""Pinned prefixes: what is never evicted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from preheat.errors import StoreError
from preheat.store._small_files import read_json, write_json

_NAME = "pins.json"


class Pins:
    """The pinned prefixes of a store, noted in each of its directories.

    Args:
        directories: those that can be used; none keeps the pins in memory.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._lock = threading.Lock()
        found = [read_json(directory / _NAME, list[str]) or [] for directory in directories]
        self.prefixes = tuple(sorted({prefix for prefixes in found for prefix in prefixes}))
        """In order."""

    def add(self, prefix: str, directories: Sequence[Path]) -> None:
        """Add a prefix.

        Raises:
            StoreError: it could be noted nowhere.
        """
        with self._lock:
            self._set({*self.prefixes, prefix}, directories)

    def remove(self, prefix: str, directories: Sequence[Path]) -> bool:
        """Remove a prefix; false if it is none of them."""
        with self._lock:
            if prefix not in self.prefixes:
                return False
            self._set({*self.prefixes} - {prefix}, directories)
            return True

    def _set(self, prefixes: set[str], directories: Sequence[Path]) -> None:
        faults: list[StoreError] = []
        for directory in directories:
            try:
                write_json(directory / _NAME, sorted(prefixes))
            except StoreError as error:
                faults.append(error)
        if faults and len(faults) == len(directories):
            raise faults[0]
        self.prefixes = tuple(sorted(prefixes))
