"""Continuation tokens: where a listing goes on, in a form that is nobody's business to read or to change.

Any worker has to take any other's, so that there is no secret in them; nor does one allow more than ``start-after``.
The digest tells a damaged or an invented one.
"""

from __future__ import annotations

import base64
from hashlib import sha256

from preheat.worker.s3._errors import S3Error

_VERSION = b"\x01"
_DIGEST_BYTES = 9
_MAX_CHARACTERS = 1400
"""Of the token of a key of 1,024 bytes."""


def encode_token(after: str) -> str:
    """Return the token of a listing that goes on after a key."""
    data = _VERSION + after.encode()
    return base64.urlsafe_b64encode(_digest(data) + data).decode()


def decode_token(token: str) -> str:
    """Return the key after which a listing goes on.

    Raises:
        S3Error: InvalidArgument; it is no token of ours.
    """
    try:
        raw = base64.urlsafe_b64decode(token) if len(token) <= _MAX_CHARACTERS else b""
        after = raw[_DIGEST_BYTES + len(_VERSION) :].decode()
    except ValueError as error:
        raise _incorrect() from error
    if encode_token(after) != token:
        raise _incorrect()
    return after


def _incorrect() -> S3Error:
    return S3Error("InvalidArgument", "The continuation token provided is incorrect.")


def _digest(data: bytes) -> bytes:
    return sha256(b"preheat list " + data).digest()[:_DIGEST_BYTES]
