"""What a worker and its readers send each other when many objects are read by one request, ``POST /v1/batch``.

The request is a :class:`Batch` as JSON. The answer is a sequence of frames, one for each read, with a status each: a
header of 24 bytes (little endian: index, status, flags, bytes of info, bytes of body, size of the object), the info
(the etag of what is sent, or else the problem as JSON) and the body. The end of the HTTP body is the end of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from struct import Struct
from typing import Annotated

import msgspec

from preheat.errors import InvalidRequest

CONTENT_TYPE = "application/vnd.preheat.batch"
MAX_READS = 10_000
"""Reads in one batch."""
MAX_BODY = 1 << 20
"""Bytes that one read may ask for: a larger one gains nothing here, and would keep the others waiting."""
_MAX_INFO = 64 << 10
_HEADER = Struct("<IHHIIQ")
_HIT = 1
_Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Read(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An object, or bytes [start, end) of it; ``etag`` is the only version to send, as ``If-Match`` of a GET."""

    path: str
    """URI in the under store."""
    start: _Offset = 0
    end: _Offset | None = None
    """None is the object's end."""
    etag: str | None = None


class Order(StrEnum):
    """In which order the reads are answered."""

    ASKED = "asked"
    READY = "ready"  #: what is cached first, the rest as it comes


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request asks for."""

    order: Order = Order.ASKED
    reads: Annotated[list[Read], msgspec.Meta(max_length=MAX_READS)]


class Frame(msgspec.Struct, frozen=True, gc=False):
    """The answer to one read."""

    index: int
    """Which of the batch's reads it answers, from 0."""
    status: int
    """What a GET would have answered."""
    hit: bool
    """Whether it was cached."""
    info: bytes
    """The etag; below 200 and from 300 on the problem as JSON."""
    size: int
    """Of the whole object; 0 with a problem."""
    body: bytes


class BrokenFrame(Exception):
    """The bytes are not frames."""


_decode_batch = msgspec.json.Decoder(Batch).decode


def encode_batch(reads: Sequence[Read], order: Order) -> bytes:
    """Return the body of a request."""
    return msgspec.json.encode(Batch(reads=list(reads), order=order))


def decode_batch(body: bytes) -> Batch:
    """Read the body of a request.

    Raises:
        InvalidRequest: it is no batch, or has too many reads.
    """
    try:
        return _decode_batch(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The body is not a batch of at most {MAX_READS} reads: {error}.",
            remedy='Write {"reads": [{"path": "s3://BUCKET/KEY"}]}.',
        ) from error


def frame_head(index: int, status: int, info: bytes, *, hit: bool, size: int, length: int) -> bytes:
    """Return a frame without its body, which has ``length`` bytes."""
    return _HEADER.pack(index, status, _HIT if hit else 0, len(info), length, size) + info


class FrameDecoder:
    """Makes frames of the bytes of an answer, which come in pieces of any length."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that end in the next bytes.

        Raises:
            BrokenFrame: a header says a length that no worker sends.
        """
        if not self._rest:
            frames, used = _frames(data)
            self._rest += memoryview(data)[used:]
        else:
            self._rest += data
            frames, used = _frames(self._rest)
            del self._rest[:used]
        return frames

    @property
    def at_end(self) -> bool:
        """Whether the bytes so far end with a whole frame."""
        return not self._rest


def _frames(data: bytes | bytearray) -> tuple[list[Frame], int]:
    """Return the whole frames that some bytes begin with, and their length."""
    frames = []
    start, available = 0, len(data)
    with memoryview(data) as view:
        while available - start >= _HEADER.size:
            index, status, flags, info_length, length, size = _HEADER.unpack_from(view, start)
            if info_length > _MAX_INFO or length > MAX_BODY:
                raise BrokenFrame(f"A frame with {info_length} bytes of info and {length} of body.")
            info_start = start + _HEADER.size
            body_start = info_start + info_length
            end = body_start + length
            if end > available:
                break
            info, body = bytes(view[info_start:body_start]), bytes(view[body_start:end])
            frames.append(Frame(index, status, flags & _HIT == _HIT, info, size, body))
            start = end
    return frames, start
