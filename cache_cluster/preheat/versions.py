"""What a version is: of one object, and of a whole dataset.

An object's version is its (etag, size). A dataset's version is a SHA-256 hash chain over its ordered listing::

    v0 = 32 zero bytes
    vi = SHA-256(v(i-1) ‖ len(key) as 4 bytes big-endian ‖ key in UTF-8 ‖ size as 8 bytes big-endian ‖ etag in UTF-8)

written ``sha256:<hex of the last v>``. A chain and not one long hash, because its state is the 32 bytes that stand in
the job's record next to the listing cursor: a coordinator that takes a job over goes on from both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One object as an under store lists it.

    A struct, and not a dataclass as other values are: a listing makes millions of them, nine times as fast.
    """

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes; opaque, never assumed to be an MD5."""
    last_modified: float
    """Seconds since the epoch."""
    attributes: str = ""
    """What its writer said of it besides, as :func:`preheat.attributes.lines_of` has it; a listing does not tell."""


class DatasetVersion:
    """The hash chain over an ordered listing."""

    def __init__(self, state: str = "") -> None:
        self._state = bytes.fromhex(state) if state else bytes(32)

    def update(self, objects: Iterable[ObjectInfo]) -> None:
        """Append objects, in the order of the listing."""
        state = self._state
        for item in objects:
            key = item.key.encode()
            state = hashlib.sha256(
                b"".join((state, len(key).to_bytes(4), key, item.size.to_bytes(8), item.etag.encode()))
            ).digest()
        self._state = state

    @property
    def state(self) -> str:
        """The chain's state in hex: what a record stores to go on from here."""
        return self._state.hex()

    def __str__(self) -> str:
        return f"sha256:{self._state.hex()}"
