"""What a worker and its readers send each other when many objects are read by one request, ``POST /v1/batch``.

The request is a :class:`Batch` as JSON. The answer is a sequence of frames, one for each read, with a status each: a
header of 24 bytes (little endian: index, status, flags, bytes of info, bytes of body, size of the object), the info
(the etag of what is sent, or else the problem as JSON) and the body. The end of the HTTP body is the end of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from http import HTTPStatus
from struct import Struct
from typing import Annotated, Protocol

import msgspec

from preheat.errors import InvalidRequest, PreheatError, from_problem

BATCH = "/v1/batch"
CONTENT_TYPE = "application/vnd.preheat.batch"
MAX_READS = 10_000
"""Reads in one batch."""
MAX_BODY = 1 << 20
"""Bytes that one read may ask for: a larger one gains nothing here, and would keep the others waiting."""
MAX_OFFSET = (1 << 53) - 1
"""What every reader of JSON takes for a whole number."""
_MAX_INFO = 64 << 10
_HEADER = Struct("<IHHIIQ")
_HIT = 1
_OK = HTTPStatus.OK.value
_Offset = Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)]


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


class Frame(msgspec.Struct, gc=False):
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

    @property
    def problem(self) -> PreheatError:
        """The error that the info tells of."""
        try:
            problem = msgspec.json.decode(self.info, type=dict)
        except msgspec.MsgspecError:
            problem = {}
        return from_problem(problem, self.status)


class Tagged(Protocol):
    """A version of an object."""

    @property
    def etag(self) -> str:
        """What tells it from others."""
        ...


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


def hit_frames(first: int, objects: Iterable[tuple[Tagged, bytes]]) -> list[bytes]:
    """Return the frames of whole objects that were cached, each in two pieces; ``first`` is the first one's index."""
    pieces: list[bytes] = []
    encode, add = _HEADER.pack, pieces.append
    for index, (version, body) in enumerate(objects, first):
        info, size = version.etag.encode(), len(body)
        add(encode(index, _OK, _HIT, len(info), size, size) + info)
        add(body)
    return pieces


class FrameDecoder:
    """Makes frames of the bytes of an answer, which come in pieces of any length; each body is copied once.

    Args:
        reads: how many were asked for.
    """

    def __init__(self, reads: int) -> None:
        self._reads = reads
        self._head = b""
        """What came of a header and its info."""
        self._begun: Frame | None = None
        """The frame whose body has come in part: in these pieces."""
        self._pieces: list[memoryview] = []
        self._missing = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that end in the next bytes.

        Raises:
            BrokenFrame: a header says what no worker sends.
        """
        view = memoryview(self._head + data)
        frames: list[Frame] = []
        start = self._go_on(view, frames)
        while not self._begun and len(view) - start >= _HEADER.size:
            index, status, flags, info_length, length, size = _HEADER.unpack_from(view, start)
            if index >= self._reads or info_length > _MAX_INFO or length > MAX_BODY:
                raise BrokenFrame(f"Frame {index} of {self._reads}, {info_length} bytes of info, {length} of body.")
            info_start = start + _HEADER.size
            body_start = info_start + info_length
            if body_start > len(view):
                break
            start = body_start + length
            info, body = bytes(view[info_start:body_start]), view[body_start:start]
            frame = Frame(index, status, flags & _HIT == _HIT, info, size, b"")
            if len(body) < length:
                self._begun, self._pieces, self._missing = frame, [body], length - len(body)
            else:
                frame.body = bytes(body)
                frames.append(frame)
        self._head = bytes(view[start:])
        return frames

    def _go_on(self, view: memoryview, frames: list[Frame]) -> int:
        """Take what belongs to the frame that has begun, and return where the next one begins."""
        if not self._begun:
            return 0
        piece = view[: self._missing]
        self._pieces.append(piece)
        self._missing -= len(piece)
        if not self._missing:
            self._begun.body = b"".join(self._pieces)
            frames.append(self._begun)
            self._begun = None
        return len(piece)
