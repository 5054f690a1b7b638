"""The rows of the index as the entries that they stand for, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from preheat.errors import CorruptPage
from preheat.store._catalog import Entry, Pack
from preheat.store._files import Files
from preheat.store._format import HEAD_SIZE, TRAILER_SIZE, decode_record
from preheat.store._index import Row


class Page(NamedTuple):
    """Some objects, in the order of their paths."""

    entries: list[Entry]
    last: str | None
    """The last path that was looked at; none if there was none."""
    removals: int
    """Of the directory at that time: while it has the same, all of the entries are there."""


def row_of(entry: Entry, record: bytes) -> Row:
    """Return the row of an object."""
    behind = TRAILER_SIZE if entry.segment_size else entry.item.size
    return Row(
        sequence=entry.sequence,
        path=entry.item.path,
        number=entry.pack.number,
        ordinal=entry.ordinal,
        file_end=entry.record + entry.record_length + behind,
        size=entry.item.size,
        record=record,
    )


def entry_of(row: Row, path: str, packs: Mapping[int, Pack]) -> Entry | None:
    """Return the object that a row has for a path; none if the row was damaged.

    Its pack may be one that is not among ``packs``.
    """
    record = decode_record(row.record) if isinstance(row.record, bytes) else None
    if record is None or (record.item.path, record.sequence, path) != (row.path, row.sequence, row.path):
        return None
    if not isinstance(row.file_end, int) or record.length != len(row.record):
        return None
    behind = TRAILER_SIZE if record.segment_size else record.item.size
    return Entry(
        item=record.item,
        sequence=row.sequence,
        pack=packs.get(row.number) or Pack(number=row.number, size=0),
        ordinal=row.ordinal,
        record=row.file_end - record.length - behind,
        record_length=record.length,
        segment_size=record.segment_size,
    )


def is_there(entry: Entry, row: Row, packs: Mapping[int, Pack], files: Files) -> bool:
    """Return whether the record that a row names is where it should be, and live."""
    pack = entry.pack
    known = packs.get(pack.number) is pack and bool(pack.segments) == bool(entry.segment_size)
    if not known or entry.record < 0:
        return False
    try:
        return files.read(pack.key, entry.record, HEAD_SIZE) == row.record[:HEAD_SIZE]
    except CorruptPage:
        return False
