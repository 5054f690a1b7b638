"""Checksums that origins keep of their objects."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping

from awscrt import checksums

from preheat.errors import OriginCorrupt
from preheat.paths import UfsPath

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
                raise OriginCorrupt(f"path='{path}': the bytes that came do not match the origin's {name}.")
            return
