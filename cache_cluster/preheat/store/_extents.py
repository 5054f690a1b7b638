"""Bytes that may be sent to a socket from where they are in a file."""

from __future__ import annotations

from typing import NamedTuple, Protocol

EXTENT_BYTES = (16 << 10) + 1
"""Objects from this size on are sent from their file; smaller ones are copied as quickly."""


class ReadableFile(Protocol):
    """A file that is open as long as somebody has it."""

    @property
    def descriptor(self) -> int: ...


class Extent(NamedTuple):
    """Intact bytes of an object in a file."""

    file: ReadableFile
    offset: int
    size: int
