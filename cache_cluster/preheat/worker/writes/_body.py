"""What is to be written: bytes that are all here, and can be read again and again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, TypeVar

T = TypeVar("T")


class Body(Protocol):
    """The whole content of an object."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def etag(self) -> str:
        """What S3 would call it: its MD5, or that of the MD5s of its parts with their number."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether a piece of it is to be had without a wait."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it in order, a few MiB at a time; blocking if it is not in memory."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """Several bodies as one."""

    parts: Sequence[Body]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.size for part in self.parts)

    @property
    def etag(self) -> str:
        """The MD5 of the parts' MD5s, and how many there are."""
        digests = b"".join(bytes.fromhex(part.etag) for part in self.parts)
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"

    @property
    def in_memory(self) -> bool:
        """Whether all parts are."""
        return all(part.in_memory for part in self.parts)

    def pieces(self) -> Iterator[bytes]:
        """Yield the parts, one behind the other."""
        return chain.from_iterable(part.pieces() for part in self.parts)


async def chunks(body: Body) -> AsyncIterator[bytes]:
    """Yield a body without blocking the loop."""
    pieces = body.pieces()
    if body.in_memory:
        for piece in pieces:
            yield piece
        return
    while piece := await in_thread(lambda: next(pieces, b"")):
        yield piece


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread. A caller that is cancelled waits for its end: a thread cannot be stopped."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
