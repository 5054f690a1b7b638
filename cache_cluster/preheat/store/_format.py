"""The files of one directory of a page store, format 3.

::

    DIRECTORY/lock                     held while the directory is open
    DIRECTORY/members.json             which directories belong together
    DIRECTORY/pins.json                prefixes that are never evicted
    DIRECTORY/index.sqlite             one row an object: where it is, and a copy of its record
    DIRECTORY/packs/00000001.pack      many small objects
    DIRECTORY/segments/00000002.0000   a large object, cut into segments of equal size
    DIRECTORY/segments/00000002.0001   its last segment ends with its record

    pack      ┌────────┬────────┬──────┬────────┬──────┬────────┬────
              │ header │ record │ data │ record │ data │ record │ ...
              └────────┴────────┴──────┴────────┴──────┴────────┴────
    segments  ┌────────┬──────────────────┐ ┌────────┬──────┬────────┬─────────┐
              │ header │ data             │ │ header │ data │ record │ trailer │    (data begin at 64 KiB)
              └────────┴──────────────────┘ └────────┴──────┴────────┴─────────┘

    header    "PREHEAT" · 3 · salt (8)                     one salt a pack, or an object's segments
    record    state (4) · CRC-32C (4) · salt (8) · sequence (8) · size of the description (4) · description
    trailer   size of the record (4) · "FOOT"

The state is ``LIVE`` or ``DEAD``, and alone may change. The CRC covers what follows it. The description (msgpack) is
path, etag, size, last modified, job, cached at, the CRC-32C of each 64 KiB of data, the segment size (0 in a pack),
and, if any are known, the object's attributes as lines of a head. The salt is random, so that no object's data can
pose as a record. Numbers are little endian. The sequence rises with every object of a directory, whatever the clock
says: of two records of a path the higher one is the newer.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from awscrt.checksums import crc32c

from preheat.store._base import CachedObject

FORMAT = 3
LIVE, DEAD = b"LIVE", b"DEAD"
_MAGIC = b"PREHEAT" + bytes([FORMAT])
_SALT_SIZE = 8
FILE_HEADER_SIZE = len(_MAGIC) + _SALT_SIZE
SEGMENT_START = 64 << 10
"""Where the data of a segment begin, behind a hole: aligned writes take Linux 0.4 s of CPU per GiB, others 0.6 s."""
_HEAD = struct.Struct("<4sI8sQI")
_COVERED_HEAD = struct.Struct("<8sQI")
HEAD_SIZE = _HEAD.size
SALT_IN_RECORD = 8
"""Where in a record its salt is."""
_COVERED = 8
"""Where in a record the bytes begin that its CRC covers."""
_TRAILER = struct.Struct("<I4s")
TRAILER_SIZE = _TRAILER.size
_FOOT = b"FOOT"
_MAX_NUMBERS_SIZE = 64
"""Bytes of a description besides its texts and checksums, at most."""

_encoder = msgspec.msgpack.Encoder()


class _Description(msgspec.Struct, frozen=True, array_like=True, gc=False):
    path: str
    etag: str
    size: int
    last_modified: float
    job_id: str
    cached_at: float
    checksums: bytes
    segment_size: int
    attributes: str = ""


_decoder = msgspec.msgpack.Decoder(_Description)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a record says."""

    item: CachedObject
    sequence: int
    segment_size: int
    """Bytes of data per segment; 0 in a pack."""
    length: int
    """Bytes of the record itself."""
    live: bool


def new_file_header() -> bytes:
    """Return the header of a new pack, or of all segments of a new object."""
    return _MAGIC + os.urandom(_SALT_SIZE)


def salt_of(file_header: bytes) -> bytes | None:
    """Return the salt of a file, if it is one of this format."""
    whole = len(file_header) == FILE_HEADER_SIZE and file_header.startswith(_MAGIC)
    return file_header[len(_MAGIC) :] if whole else None


def describe(item: CachedObject, segment_size: int = 0) -> bytes:
    """Return the description of an object."""
    always = (
        item.path, item.etag, item.size, item.last_modified, item.job_id, item.cached_at, item.checksums, segment_size,
    )  # fmt: skip
    return _encoder.encode((*always, item.attributes) if item.attributes else always)


def encode_record(description: bytes, *, sequence: int, salt: bytes) -> bytes:
    """Return the record of an object that is live."""
    covered = _COVERED_HEAD.pack(salt, sequence, len(description)) + description
    crc: int = crc32c(covered)
    return b"%b%b%b" % (LIVE, crc.to_bytes(4, "little"), covered)


def record_size(head: bytes) -> int:
    """Return how long a record says it is, from its first :data:`HEAD_SIZE` bytes or more."""
    return HEAD_SIZE + int(_HEAD.unpack_from(head)[4])


def decode_record(data: bytes, salt: bytes | None = None) -> Record | None:
    """Return the record at the start of the data; none unless it is whole, intact, and has the salt, if one is asked.

    Data may go on behind the record.
    """
    if len(data) < HEAD_SIZE:
        return None
    state, crc, found_salt, sequence, size = _HEAD.unpack_from(data)
    length = HEAD_SIZE + size
    if state not in (LIVE, DEAD) or (salt is not None and found_salt != salt) or len(data) < length:
        return None
    if crc32c(memoryview(data)[_COVERED:length]) != crc:
        return None
    found = _decoder.decode(memoryview(data)[HEAD_SIZE:length])
    item = CachedObject(
        path=found.path,
        etag=found.etag,
        size=found.size,
        last_modified=found.last_modified,
        job_id=sys.intern(found.job_id),
        cached_at=found.cached_at,
        checksums=found.checksums,
        attributes=sys.intern(found.attributes),
    )
    return Record(item=item, sequence=sequence, segment_size=found.segment_size, length=length, live=state == LIVE)


def encode_footer(record: bytes) -> bytes:
    """Return what ends the last segment of an object."""
    return record + _TRAILER.pack(len(record), _FOOT)


def footer_record_size(trailer: bytes) -> int | None:
    """Return how many bytes before the trailer the record takes; none if it is no trailer."""
    if len(trailer) != TRAILER_SIZE:
        return None
    size, magic = _TRAILER.unpack(trailer)
    return int(size) if magic == _FOOT else None


def record_bound(announced: CachedObject, block_size: int) -> int:
    """Return how many bytes the record and trailer of an object take at most."""
    texts = sum(len(text.encode()) for text in (announced.path, announced.etag, announced.job_id, announced.attributes))
    checksums = 4 * -(-announced.size // block_size)
    return HEAD_SIZE + _MAX_NUMBERS_SIZE + texts + checksums + TRAILER_SIZE


def segment_count(size: int, segment_size: int) -> int:
    """Return how many segments an object of this size has."""
    return max(1, -(-size // segment_size))


def pieces(start: int, end: int, segment_size: int) -> Iterator[tuple[int, int, int]]:
    """Yield where bytes [start, end) of a large object are: segment, offset in its file, and how many."""
    while start < end:
        segment, within = divmod(start, segment_size)
        size = min(segment_size - within, end - start)
        yield segment, SEGMENT_START + within, size
        start += size
