"""Paths of the under stores (UFS): ``s3://bucket/key`` and ``file:///absolute/path``.

A key is kept exactly as the store spells it: no slash is merged, nothing is unescaped. Python's order of strings is
the order of their UTF-8 bytes, which is the order in which S3 lists keys; planning relies on it.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import msgspec

from preheat.errors import InvalidPath

SCHEMES = ("s3", "file")
_ALIASES = {"s3a": "s3", "s3n": "s3"}
_IN_NO_BUCKET = frozenset("?#%@ \\")
_MAX_KEY_BYTES = 2048
"""A mount's prefix, and a key of 1,024 bytes below it; whether it takes so long a key is for the under store to say."""


class UfsPath(msgspec.Struct, frozen=True, kw_only=True, order=True, gc=False):
    """One object or prefix of an under store."""

    scheme: str
    bucket: str
    """Empty for ``file``."""
    key: str
    """The object's key, or a prefix; for ``file`` the absolute path without its leading slash."""

    @classmethod
    def parse(cls, uri: str) -> UfsPath:
        """Read a URI.

        Raises:
            InvalidPath: the scheme is unknown, the bucket is missing, or the path is relative.
        """
        scheme, separator, rest = uri.partition("://")
        scheme = _ALIASES.get(scheme, scheme)
        if not separator or scheme not in SCHEMES:
            raise InvalidPath(f"path={uri!r} has no scheme that Preheat knows ({', '.join(SCHEMES)}).")
        bucket, _, key = rest.partition("/")
        if scheme == "s3" and not bucket:
            raise InvalidPath(f"path={uri!r} names no bucket.")
        if scheme == "file" and (bucket or not key):
            raise InvalidPath(f"path={uri!r} is not an absolute path.")
        if scheme == "file" and has_relative_part(key):
            raise InvalidPath(f"path={uri!r} has a relative part.")
        _check_characters(uri, bucket, key)
        return cls(scheme=scheme, bucket=bucket, key=key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def with_key(self, key: str) -> UfsPath:
        """Return the path of another key in the same bucket."""
        return UfsPath(scheme=self.scheme, bucket=self.bucket, key=key)

    @property
    def url_path(self) -> str:
        """The path as it stands in a worker's data URL: ``s3/bucket/percent-encoded-key``."""
        return f"{self.scheme}/{self.bucket}/{quote(self.key, safe='/~')}"

    @classmethod
    def from_url_path(cls, url_path: str) -> UfsPath:
        """Undo :attr:`url_path`.

        Raises:
            InvalidPath: it does not name an object.
        """
        scheme, _, rest = url_path.partition("/")
        bucket, _, key = rest.partition("/")
        try:
            return cls.parse(f"{scheme}://{bucket}/{unquote(key, errors='strict')}")
        except UnicodeDecodeError as error:
            raise InvalidPath(f"path={url_path!r} is not UTF-8.") from error


def has_relative_part(key: str) -> bool:
    """Whether a key has a part that is ``.`` or ``..``: a name like any other to S3, which some stores refuse."""
    return "." in key and any(part in (".", "..") for part in key.split("/"))


def leads_out(key: str) -> bool:
    """Whether a key, to a store that follows ``..``, leads out of where it begins. S3 takes no such key, either."""
    depth = 0
    for part in key.split("/") if ".." in key else ():
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def _check_characters(uri: str, bucket: str, key: str) -> None:
    if "\x00" in uri or not _IN_NO_BUCKET.isdisjoint(bucket):
        raise InvalidPath(f"path={uri!r} has characters that no bucket may have.")
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidPath(f"path={uri!r} is not valid Unicode.") from error
    if size > _MAX_KEY_BYTES:
        raise InvalidPath(f"path={uri[:80]!r}… has a key of {size} bytes; {_MAX_KEY_BYTES} are possible.")
