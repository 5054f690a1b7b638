"""Checksums that origins keep of their objects."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping

from awscrt import checksums

from preheat.errors import OriginCorrupt
from preheat.paths import UfsPath
from preheat.ufs._base import Checksum

Data = bytes | memoryview


def _crc(function: Callable[[Data], int], size: int) -> Callable[[Data], bytes]:
    return lambda data: function(data).to_bytes(size, "big")


_ALGORITHMS: dict[str, Callable[[Data], bytes]] = {
    "crc64nvme": _crc(checksums.crc64nvme, 8),
    "crc32c": _crc(checksums.crc32c, 4),
    "crc32": _crc(checksums.crc32, 4),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
}
"""The quickest first."""
_COMBINED: dict[str, tuple[Callable[[Data, int], int], Callable[[int, int, int], int], int]] = {
    "crc64nvme": (checksums.crc64nvme, checksums.combine_crc64nvme, 8),
    "crc32c": (checksums.crc32c, checksums.combine_crc32c, 4),
    "crc32": (checksums.crc32, checksums.combine_crc32, 4),
}
"""How a checksum goes on with more bytes, how two are combined, and its bytes."""


def check_bytes(path: UfsPath, data: Data, kept: Mapping[str, str]) -> None:
    """Compare an object's bytes with the checksum that its origin keeps, the quickest if there are several.

    Args:
        path: the object.
        data: all its bytes.
        kept: base64 by algorithm, as S3 spells both; unknown algorithms are passed over.

    Raises:
        OriginCorrupt: they do not match.
    """
    for name, digest in _ALGORITHMS.items():
        if name in kept:
            if base64.b64encode(digest(data)).decode() != kept[name]:
                raise _corrupt(path, name)
            return


class PieceChecksums:
    """Checksums of an object's pieces, which come at the same time, to be compared with that of the whole.

    Args:
        kept: what the origin keeps of the object; a cyclic redundancy check, for no other can be combined.
    """

    def __init__(self, kept: Checksum) -> None:
        self._kept = kept
        self._update, self._combine, self._size = _COMBINED[kept.name]
        self._pieces: dict[int, tuple[int, int]] = {}

    def add(self, start: int, data: Data) -> None:
        """Add the next bytes of the piece that begins at ``start``; each piece belongs to one thread."""
        checksum, size = self._pieces.get(start, (0, 0))
        self._pieces[start] = self._update(data, checksum), size + len(data)

    def check(self, path: UfsPath) -> None:
        """Compare all pieces; raises OriginCorrupt."""
        whole = 0
        for _, (checksum, size) in sorted(self._pieces.items()):
            whole = self._combine(whole, checksum, size)
        if base64.b64encode(whole.to_bytes(self._size, "big")).decode() != self._kept.value:
            raise _corrupt(path, self._kept.name)


def _corrupt(path: UfsPath, name: str) -> OriginCorrupt:
    return OriginCorrupt(f"path='{path}': the bytes that came do not match the origin's {name}.")
