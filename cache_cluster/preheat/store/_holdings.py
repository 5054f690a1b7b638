"""What one directory holds: its files, its index, and the accounts of both, kept in step.

Nothing here is thread-safe, except ``entries.get``. The order of the steps is the crash argument:

1. An object's bytes and record are written before it is visible, and before its row.
2. When a packed object goes (deleted, replaced), its record is marked dead before anything else happens to it. A large
   one goes with the last of its files, which has its record.
3. A row is believed only if the record it names is there, live, and the same, byte for byte.
4. So a live record without a row was written after the last flush, and stands at the end of its pack. Opening cuts it
   off, and a rebuilt index has nothing that went before.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from itertools import count

from preheat.errors import CorruptPage, StoreError
from preheat.store._base import CachedObject
from preheat.store._catalog import PACKED, Catalog, Entry, Pack
from preheat.store._entries import Entries
from preheat.store._files import Buffer, Files
from preheat.store._format import (
    DEAD,
    FILE_HEADER_SIZE,
    describe,
    encode_footer,
    encode_record,
    new_file_header,
    salt_of,
)
from preheat.store._index import Index, Row
from preheat.store._rows import Page, entry_of, is_there, row_of

_MAX_UNSAVED = 1000
"""Rows that may wait for a flush."""


class Holdings:
    """The objects of one directory.

    Args:
        files: its files.
        index: its index.
        entries: the entries to keep in memory; empty.
    """

    def __init__(self, files: Files, index: Index, entries: Entries) -> None:
        self.files = files
        self.index = index
        self.entries = entries
        self.catalog = Catalog()
        self.ticks = count(1)
        """Of reads and admissions."""
        self.corrupt = 0
        """Objects that were dropped because they, their row or their record were damaged."""
        self.removals = 0
        """How often objects went."""
        self.damaged = 0
        """Stretches of the files that a rebuild of the index could not understand."""
        self.next_sequence = 1
        self._unsaved: dict[str, tuple[Entry, bytes]] = {}
        """Visible objects whose rows are not written yet, and their records, by path."""

    # Finding

    def find(self, path: str) -> Entry | None:
        """Return the object at a path."""
        entry = self.entries.get(path) or self._waiting(path)
        if entry or self.entries.complete:
            return entry
        row = self.index.get(path)
        entry = self.believe(row, path) if row else None
        if entry:
            self.entries.add(entry, next(self.ticks))
        return entry

    def page(self, prefix: str, *, after: str, limit: int) -> Page:
        """Return the next objects whose paths start with the prefix and are greater than ``after``, in order."""
        rows = {row.path: row for row in self.index.page(prefix, after=after, limit=limit)}
        unsaved = {path for path in self._unsaved if path.startswith(prefix) and path > after}
        paths = sorted(unsaved.union(rows))[:limit]
        found = [self._at(path, rows.get(path)) for path in paths]
        return Page([entry for entry in found if entry], paths[-1] if paths else None, self.removals)

    def of_pack(self, pack: Pack, ordinals: Container[int]) -> list[Entry]:
        """Return those objects in a pack that have one of the ordinals."""
        rows = {row.path: row for row in self.index.of_number(pack.number) if row.ordinal in ordinals}
        waiting = (entry for entry, _ in self._unsaved.values() if entry.pack is pack and entry.ordinal in ordinals)
        found = (self._at(path, rows.get(path)) for path in rows.keys() | {entry.item.path for entry in waiting})
        return [entry for entry in found if entry and entry.pack is pack]

    def believe(self, row: Row, path: str) -> Entry | None:
        """Return the object of a row, if the record that it names is there; else drop the row."""
        entry = entry_of(row, path, self.catalog.packs)
        if entry is None:
            self.corrupt += 1
            self.index.doubt()
        elif is_there(entry, row, self.catalog.packs, self.files):
            return entry
        self._drop_row(row)
        return None

    # Adding

    def add(self, item: CachedObject, description: bytes, data: Buffer, pack: Pack) -> None:
        """Write a small object with its description at the end of a pack and make it visible."""
        self._save_many()
        self._publish(*self._append(item, description, data, pack))

    def finish_stream(self, item: CachedObject, pack: Pack, segment_size: int, end: int) -> None:
        """Write the record of a large object behind its last segment, which ends at ``end``, and make it visible."""
        self._save_many()
        sequence = self._take_sequence()
        record = encode_record(describe(item, segment_size), sequence=sequence, salt=pack.salt)
        footer = encode_footer(record)
        self.files.write(pack.key, footer, end)
        self.catalog.grow(pack, len(footer))
        entry = Entry(
            item=item,
            sequence=sequence,
            pack=pack,
            ordinal=0,
            record=end,
            record_length=len(record),
            segment_size=segment_size,
        )
        pack.ordinals = 1
        self._publish(entry, record)
        pack.streaming = False

    def new_pack(self, *, segments: int = 0, size: int = 0) -> Pack:
        """Create a pack, or the segments of an object of which so many bytes are promised."""
        header = new_file_header()
        number = self.catalog.next_number
        pack = Pack(
            number=number,
            size=size + FILE_HEADER_SIZE * (segments or 1),
            segments=segments,
            salt=salt_of(header) or b"",
            admitted=next(self.ticks),
            streaming=bool(segments),
        )
        self.catalog.add_pack(pack)
        try:
            for segment in range(segments) if segments else (PACKED,):
                self.files.create((number, segment), header)
        except StoreError:
            with suppress(StoreError):
                self.files.remove(number, segments)
            self.catalog.remove_pack(pack)
            raise
        return pack

    # Removing

    def drop(self, entry: Entry) -> None:
        """Remove an object."""
        self.bury(entry)
        self._release(entry)
        self._forget([entry.item.path])

    def bury(self, entry: Entry) -> None:
        """Mark the record of a packed object dead, so that no rebuilt index has it."""
        if not entry.pack.segments:
            self.files.mark(entry.pack.key, DEAD, entry.record)

    def drop_pack(self, pack: Pack) -> None:
        """Remove a pack with the objects in it."""
        self.removals += 1
        self.catalog.remove_pack(pack)
        self.files.remove(pack.number, pack.segments)
        self.entries.remove_pack(pack)
        waiting = [path for path, (entry, _) in self._unsaved.items() if entry.pack is pack]
        for path in waiting:
            del self._unsaved[path]
        self.index.delete(waiting)
        self.index.delete_numbers([pack.number])

    def move(self, entries: Iterable[Entry], target: Callable[[int], Pack]) -> None:
        """Copy packed objects to the end of other packs, durably; the copies take their place.

        An object that cannot be read any more is left behind. What counts for the others is half of their reads.
        """
        moved: list[tuple[Entry, Entry, bytes]] = []
        try:
            for entry in entries:
                with suppress(CorruptPage):
                    data = self.files.read(entry.pack.key, entry.data, entry.item.size)
                    if len(data) == entry.item.size:
                        moved.append((entry, *self._append(entry.item, describe(entry.item), data, target(len(data)))))
            self.index.put(row_of(copy, record) for _, copy, record in moved)
        except StoreError:
            with suppress(StoreError):
                for _, copy, _ in moved:
                    self.bury(copy)
            raise
        for entry, copy, _ in moved:
            self._replace(entry, copy)

    # Keeping

    def save(self) -> None:
        """Write the rows that wait; all of them, or none."""
        if self._unsaved:
            self.index.put(row_of(entry, record) for entry, record in self._unsaved.values())
            self._unsaved = {}

    def _save_many(self) -> None:
        if len(self._unsaved) >= _MAX_UNSAVED:
            self.save()

    def close(self) -> None:
        """Save what can be saved, and remove what is being written."""
        try:
            self.save()
            self.index.save_uses(pack for pack in self.catalog.packs.values() if not pack.streaming)
        finally:
            for pack in [pack for pack in self.catalog.packs.values() if pack.streaming]:
                self.drop_pack(pack)

    def clear(self) -> None:
        """Hold nothing any more; the files stay as they are."""
        self.removals += 1
        self.entries.clear()
        self._unsaved = {}
        self.catalog = Catalog()

    def _publish(self, entry: Entry, record: bytes) -> None:
        path = entry.item.path
        replaced = self.find(path)
        if replaced:
            self.bury(replaced)
        self._unsaved[path] = (entry, record)
        self.catalog.add(entry.pack, entry.item.size)
        self.entries.add(entry, next(self.ticks))
        if replaced:
            self._release(replaced)

    def _waiting(self, path: str) -> Entry | None:
        waiting = self._unsaved.get(path)
        return waiting[0] if waiting else None

    def _at(self, path: str, row: Row | None) -> Entry | None:
        entry = self.entries.get(path) or self._waiting(path)
        return entry or (self.believe(row, path) if row else None)

    def _drop_row(self, row: Row) -> None:
        self.index.delete_rows([row])
        if pack := self.catalog.packs.get(row.number):
            self.catalog.remove(pack, row.size)
            if not (pack.objects or pack.streaming or pack is self.catalog.filling):
                self.drop_pack(pack)

    def _append(self, item: CachedObject, description: bytes, data: Buffer, pack: Pack) -> tuple[Entry, bytes]:
        """Write an object and its record at the end of a pack."""
        sequence = self._take_sequence()
        record = encode_record(description, sequence=sequence, salt=pack.salt)
        start = pack.size
        try:
            self.files.write(pack.key, data, start, record)
        except StoreError:
            with suppress(StoreError):
                self.files.truncate(pack.key, start)
            raise
        self.catalog.grow(pack, len(record) + len(data))
        pack.ordinals += 1
        length, ordinal = len(record), pack.ordinals - 1
        return Entry(
            item=item, sequence=sequence, pack=pack, ordinal=ordinal, record=start, record_length=length
        ), record

    def _replace(self, entry: Entry, copy: Entry) -> None:
        """Let the copy of an object in another pack take its place."""
        self.removals += 1
        self._unsaved.pop(entry.item.path, None)
        self.catalog.remove(entry.pack, entry.item.size)
        self.catalog.add(copy.pack, entry.item.size)
        use = entry.pack.use(entry.ordinal)
        copy.pack.set_use(copy.ordinal, use.last_read, use.reads // 2)
        self.entries.add(copy, next(self.ticks))

    def _release(self, entry: Entry) -> None:
        self.removals += 1
        self.catalog.remove(entry.pack, entry.item.size)
        if not entry.pack.objects:
            self.catalog.remove_pack(entry.pack)
            self.files.remove(entry.pack.number, entry.pack.segments)

    def _forget(self, paths: list[str]) -> None:
        self.entries.remove(paths)
        for path in paths:
            self._unsaved.pop(path, None)
        self.index.delete(paths)

    def _take_sequence(self) -> int:
        self.next_sequence += 1
        return self.next_sequence - 1
