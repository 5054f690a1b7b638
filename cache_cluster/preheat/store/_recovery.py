"""Opening a directory: the index is compared with the files, or rebuilt from them if it is lost or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from preheat.errors import CorruptPage
from preheat.logs import get_logger
from preheat.store._catalog import PACKED, FileKey, Pack
from preheat.store._entries import Entries
from preheat.store._faults import IndexDamaged
from preheat.store._files import Files, Found
from preheat.store._format import (
    DEAD,
    FILE_HEADER_SIZE,
    HEAD_SIZE,
    SALT_IN_RECORD,
    TRAILER_SIZE,
    Record,
    decode_record,
    footer_record_size,
    record_size,
    salt_of,
    segment_count,
)
from preheat.store._holdings import Holdings
from preheat.store._index import Index, Row, Totals

log = get_logger("store")
_FIRST_READ = 1024
_SEARCH_STEP = 4 << 20
_ROWS = 1000


def open_holdings(directory: Path, files: Files, *, limit: int) -> Holdings:
    """Return what a directory holds, after removing what a crash left half done.

    Args:
        directory: where the index is.
        files: its files.
        limit: how many entries to keep in memory; if there are no more objects all of them are.

    Raises:
        StoreError: the directory cannot be used, or has another format.
    """
    file = directory / "index.sqlite"
    try:
        return _open(files, file, limit)
    except IndexDamaged as error:
        log.warning("The index is damaged; it is rebuilt.", action="index_damaged", error=str(error))
        Index.delete_file(file)
        return _open(files, file, limit)


def _open(files: Files, file: Path, limit: int) -> Holdings:
    with ExitStack() as on_failure:
        index = Index(file)
        on_failure.callback(index.close)
        holdings = Holdings(files, index, Entries(limit))
        if index.fresh:
            holdings.damaged = _rebuild(files, index)
            index.finish()
        _take_stock(holdings)
        if holdings.catalog.objects <= limit:
            _load_entries(holdings)
        else:
            holdings.entries.complete = False
        on_failure.pop_all()
        return holdings


def _load_entries(holdings: Holdings) -> None:
    sequence = 0
    while rows := holdings.index.rows(after=sequence, limit=_ROWS):
        sequence = rows[-1].sequence
        for row in rows:
            if entry := holdings.believe(row, row.path):
                holdings.entries.add(entry, 0)


def _take_stock(holdings: Holdings) -> None:
    """Fill the catalog. Rows without their bytes, bytes without their rows, and files without any are removed."""
    files, index, catalog = holdings.files, holdings.index, holdings.catalog
    found = files.found()
    totals = _whole(index, found)
    for number, there in found.items():
        if total := totals.get(number):
            catalog.add_pack(_pack(files, total, there))
        else:
            files.remove_all(number)
    last = max(
        (pack for pack in catalog.packs.values() if not pack.segments), key=lambda pack: pack.number, default=None
    )
    if last and (salt := salt_of(files.header(last.key))):
        last.salt = salt
        catalog.filling = last
    holdings.next_sequence = 1 + max((total.last_sequence for total in totals.values()), default=0)
    index.take_uses(catalog.packs)
    ticks = (max(pack.last_read, default=pack.admitted) for pack in catalog.packs.values())
    holdings.ticks = count(1 + max(holdings.next_sequence, *ticks, 0))


def _whole(index: Index, found: dict[int, Found]) -> dict[int, Totals]:
    """Return what each number's rows come to, after removing the rows whose bytes are not there."""
    totals = index.totals()
    index.delete_numbers(total.number for total in totals if total.number not in found)
    for total in totals:
        there = found.get(total.number)
        if there and not there.segments:
            index.delete_behind(total.number, there.size)
    return {total.number: total for total in index.totals()}


def _pack(files: Files, total: Totals, there: Found) -> Pack:
    size = there.size
    if not there.segments and size > total.file_end:
        size = total.file_end
        files.truncate((total.number, PACKED), size)
    return Pack(
        number=total.number,
        size=size,
        segments=there.segments,
        admitted=total.first_sequence,
        objects=total.objects,
        live=total.live,
        ordinals=total.ordinals,
    )


def _rebuild(files: Files, index: Index) -> int:
    """Fill the index from the files; return how many stretches of them could not be understood."""
    damaged = 0
    pending: dict[str, Row] = {}
    for number, found in files.found().items():
        rows = _rows_of_segments(files, number, found) if found.segments else _rows_of_pack(files, number, found)
        for row in rows:
            if row is None:
                damaged += 1
                continue
            other = pending.get(row.path) or index.get(row.path)
            if other and other.sequence > row.sequence:
                _kill(files, row)
                continue
            if other:
                _kill(files, other)
            pending[row.path] = row
            if len(pending) >= _ROWS:
                index.put(pending.values())
                pending.clear()
    index.put(pending.values())
    if index.totals() or damaged:
        log.warning("The index was rebuilt from the data.", action="index_rebuilt", damaged=damaged)
    return damaged


def _kill(files: Files, row: Row) -> None:
    """Let nothing find the older one of two records of a path."""
    if _is_large(row):
        files.remove_all(row.number)
    else:
        files.mark((row.number, PACKED), DEAD, row.file_end - row.size - len(row.record))


def _is_large(row: Row) -> bool:
    record = decode_record(row.record)
    return record is not None and record.segment_size > 0


def _rows_of_pack(files: Files, number: int, found: Found) -> Iterator[Row | None]:
    """Yield the live objects of a pack, and nothing for each stretch that is damaged."""
    key = (number, PACKED)
    salt = salt_of(files.header(key))
    if salt is None:
        yield None
        return
    offset, ordinal = FILE_HEADER_SIZE, 0
    while offset < found.size:
        data = _record_at(files, key, offset, found.size)
        record = decode_record(data, salt)
        end = offset + record.length + record.item.size if record else 0
        if record is None or record.segment_size or end > found.size:
            yield None
            offset = _next_record(files, key, offset + 1, found.size, salt)
            continue
        if record.live:
            yield _row(record, data, number=number, ordinal=ordinal, file_end=end)
        ordinal += 1
        offset = end


def _rows_of_segments(files: Files, number: int, found: Found) -> Iterator[Row | None]:
    """Yield a large object, or nothing if it was not published, or is damaged."""
    key = (number, found.segments - 1)
    try:
        size = files.size(key)
        length = footer_record_size(files.read(key, size - TRAILER_SIZE, TRAILER_SIZE)) if size > TRAILER_SIZE else None
        data = files.read(key, max(size - TRAILER_SIZE - (length or 0), 0), length or 0)
    except CorruptPage:
        length, data = None, b""
    record = decode_record(data, salt_of(files.header(key)) or b"") if length else None
    if record is None or not _is_whole(record, found):
        yield None
    else:
        yield _row(record, data, number=number, ordinal=0, file_end=size)


def _is_whole(record: Record, found: Found) -> bool:
    if not record.segment_size or found.segments != segment_count(record.item.size, record.segment_size):
        return False
    return found.size == found.segments * FILE_HEADER_SIZE + record.item.size + record.length + TRAILER_SIZE


def _row(record: Record, data: bytes, *, number: int, ordinal: int, file_end: int) -> Row:
    return Row(
        sequence=record.sequence,
        path=record.item.path,
        number=number,
        ordinal=ordinal,
        file_end=file_end,
        size=record.item.size,
        record=data[: record.length],
    )


def _record_at(files: Files, key: FileKey, offset: int, size: int) -> bytes:
    """Return the bytes of what may be a record, and perhaps more; fewer if they cannot be read."""
    try:
        data = files.read(key, offset, min(_FIRST_READ, size - offset))
        length = record_size(data) if len(data) >= HEAD_SIZE else 0
        if len(data) < length <= size - offset:
            data = files.read(key, offset, length)
    except CorruptPage:
        return b""
    return data


def _next_record(files: Files, key: FileKey, offset: int, size: int, salt: bytes) -> int:
    """Return the offset of the next thing that has a record's salt; the size of the file if there is none."""
    while offset < size:
        try:
            data = files.read(key, offset, _SEARCH_STEP + SALT_IN_RECORD + len(salt))
        except CorruptPage:
            return size
        at = data.find(salt, SALT_IN_RECORD)
        if at >= 0:
            return offset + at - SALT_IN_RECORD
        offset += _SEARCH_STEP
    return size
