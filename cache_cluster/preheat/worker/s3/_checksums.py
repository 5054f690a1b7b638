"""What a client says of the bytes that it sends, compared as they pass: one look at each, none is kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from awscrt import checksums

from preheat.worker.s3._errors import S3Error

Data = bytes | memoryview


class Running(Protocol):
    """A checksum of what has passed."""

    def update(self, data: Data, /) -> None:
        """Take the next bytes."""
        ...

    def digest(self) -> bytes:
        """Return it for all bytes so far."""
        ...


class _Crc:
    def __init__(self, function: Callable[[Data, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: Data, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


ALGORITHMS: Mapping[str, Callable[[], Running]] = MappingProxyType(
    {
        "x-amz-checksum-crc32": lambda: _Crc(checksums.crc32, 4),
        "x-amz-checksum-crc32c": lambda: _Crc(checksums.crc32c, 4),
        "x-amz-checksum-crc64nvme": lambda: _Crc(checksums.crc64nvme, 8),
        "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
        "x-amz-checksum-sha256": hashlib.sha256,
    }
)
"""By the header or the trailer in which a client sends them."""
_MD5 = "content-md5"


class Checks:
    """Everything that a body has to match.

    Args:
        headers: of the request, which may have checksums.
        trailers: the names of those that come behind the body.
        sha256: of the body, in hexadecimal, as it was signed; empty if it was not.

    Raises:
        S3Error: InvalidDigest or InvalidRequest; what a header says is no checksum.
    """

    def __init__(self, headers: Mapping[str, str], *, trailers: tuple[str, ...] = (), sha256: str = "") -> None:
        self._sha256 = sha256
        self._signed = hashlib.sha256() if sha256 else None
        self._expected = {name: headers[name].strip() for name in ALGORITHMS if name in headers}
        self._trailers = trailers
        self._running = {name: ALGORITHMS[name]() for name in (*self._expected, *trailers)}
        if _MD5 in headers:
            self._expected[_MD5] = headers[_MD5].strip()
            self._running[_MD5] = hashlib.md5(usedforsecurity=False)
        for name, value in self._expected.items():
            _check_form(name, value, len(self._running[name].digest()))
        self._all = [*self._running.values(), *filter(None, [self._signed])]

    def update(self, data: Data) -> None:
        """Take the next bytes."""
        for running in self._all:
            running.update(data)

    def finish(self, trailers: Mapping[str, str]) -> dict[str, str]:
        """Compare, and return the checksums of S3's that were, in base64.

        Args:
            trailers: what came behind the body.

        Raises:
            S3Error: XAmzContentSHA256Mismatch, BadDigest, or MalformedTrailerError if one is missing.
        """
        if self._signed and self._signed.hexdigest() != self._sha256:
            raise S3Error("XAmzContentSHA256Mismatch", "x-amz-content-sha256 is not the SHA-256 of the body.")
        if missing := [name for name in self._trailers if name not in trailers]:
            raise S3Error("MalformedTrailerError", f"The trailer {missing[0]} was announced and did not come.")
        expected = {**self._expected, **{name: trailers[name] for name in self._trailers}}
        for name, value in expected.items():
            if base64.b64encode(self._running[name].digest()).decode() != value:
                raise S3Error("BadDigest", f"The body does not match its {name}.")
        return {name: value for name, value in expected.items() if name != _MD5}


def announced(header: str) -> tuple[str, ...]:
    """Return the checksums that ``x-amz-trailer`` announces.

    Raises:
        S3Error: InvalidRequest; one of them is unknown.
    """
    names = tuple(filter(None, (name.strip().lower() for name in header.split(","))))
    for name in names:
        if name not in ALGORITHMS:
            raise S3Error("InvalidRequest", f"The trailer {name[:80]!r} is not known here.")
    return names


def _check_form(name: str, value: str, size: int) -> None:
    try:
        right = len(base64.b64decode(value, validate=True)) == size
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        right = False
    if not right:
        code = "InvalidDigest" if name == _MD5 else "InvalidRequest"
        raise S3Error(code, f"Value for {name} header is invalid.")
