"""Which of S3's operations a request is: told by its method, by what it names, and by the names of its parameters.

The target is decoded here, once: what is a ``%2F`` or a ``+`` in it is a slash or a plus of the key, two slashes stay
two, and nothing is unescaped again behind this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import unquote_plus, unquote_to_bytes

from preheat.worker.port import _http as http
from preheat.worker.s3._errors import S3Error

_MAX_KEY_BYTES = 1024
_COPY_SOURCE = "x-amz-copy-source"
_NOT_HERE = frozenset({
    "accelerate", "acl", "analytics", "attributes", "cors", "encryption", "intelligent-tiering", "inventory",
    "legal-hold", "lifecycle", "logging", "metadataTable", "metrics", "notification", "object-lock",
    "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication",
    "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "versions", "website",
})  # fmt: skip
"""Parameters that name something which is not here: to pass them over would answer another question."""


class Operation(Enum):
    """What is asked for, by S3's names."""

    LIST_BUCKETS = auto()
    HEAD_BUCKET = auto()
    CREATE_BUCKET = auto()
    GET_BUCKET_LOCATION = auto()
    GET_BUCKET_VERSIONING = auto()
    LIST_OBJECTS = auto()
    LIST_MULTIPART_UPLOADS = auto()
    DELETE_OBJECTS = auto()
    GET_OBJECT = auto()
    HEAD_OBJECT = auto()
    PUT_OBJECT = auto()
    COPY_OBJECT = auto()
    DELETE_OBJECT = auto()
    CREATE_MULTIPART_UPLOAD = auto()
    UPLOAD_PART = auto()
    UPLOAD_PART_COPY = auto()
    COMPLETE_MULTIPART_UPLOAD = auto()
    ABORT_MULTIPART_UPLOAD = auto()
    LIST_PARTS = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a request names, decoded."""

    bucket: str
    key: str
    """Empty for the bucket itself."""
    fields: Mapping[str, str]
    """The parameters by name; of several with one name the first counts."""


@lru_cache(maxsize=16384)
def parse_target(target: str) -> Target:
    """Return what a request's target names.

    Raises:
        S3Error: InvalidURI if it is no path, or not UTF-8; KeyTooLongError.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise S3Error("InvalidURI", f"The target {target[:80]!r} is no path.")
    try:
        bucket, _, key = unquote_to_bytes(path[1:].encode("latin-1")).decode().partition("/")
        fields = dict(_field(text) for text in reversed(query.split("&")) if text)
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", f"The target {target[:80]!r} is not UTF-8.") from error
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", f"Your key is too long: it has more than {_MAX_KEY_BYTES} bytes.")
    return Target(bucket=bucket, key=key, fields=MappingProxyType(fields))


def operation_of(method: str, target: Target, headers: Mapping[str, str]) -> Operation:
    """Return what a request asks for.

    Raises:
        S3Error: NotImplemented; S3 has it, and this port has not.
        MethodNotAllowed: S3 has no such thing either.
    """
    if absent := _NOT_HERE.intersection(target.fields):
        raise S3Error("NotImplemented", f"{', '.join(sorted(absent))} is not implemented by Preheat.")
    if target.fields.get("versionId", "null") != "null":
        raise S3Error("NotImplemented", "Objects have no versions here but the present one, versionId=null.")
    if target.key:
        return _of_object(method, target.fields, headers)
    return _of_bucket(method, target.fields) if target.bucket else _of_all(method)


def _of_all(method: str) -> Operation:
    if method in ("GET", "HEAD"):
        return Operation.LIST_BUCKETS
    raise _not_allowed(method, "GET", "HEAD")


def _of_bucket(method: str, fields: Mapping[str, str]) -> Operation:
    if method == "GET":
        return next((found for name, found in _BUCKET_GETS.items() if name in fields), Operation.LIST_OBJECTS)
    if method == "POST" and "delete" in fields:
        return Operation.DELETE_OBJECTS
    if method == "DELETE":
        raise S3Error("NotImplemented", "Buckets are not deleted through Preheat. Delete it where the data is.")
    if method in (known := {"HEAD": Operation.HEAD_BUCKET, "PUT": Operation.CREATE_BUCKET}):
        return known[method]
    raise _not_allowed(method, "GET", "HEAD", "PUT")


def _of_object(method: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    if "uploadId" in fields and method in _UPLOADS:
        copied = method == "PUT" and _COPY_SOURCE in headers
        return Operation.UPLOAD_PART_COPY if copied else _UPLOADS[method]
    if method == "POST" and "uploads" in fields:
        return Operation.CREATE_MULTIPART_UPLOAD
    if method == "PUT" and _COPY_SOURCE in headers:
        return Operation.COPY_OBJECT
    if method not in _OBJECTS:
        raise _not_allowed(method, *_OBJECTS)
    return _OBJECTS[method]


def _field(text: str) -> tuple[str, str]:
    name, _, value = text.encode("latin-1").decode().partition("=")
    return unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")


def _not_allowed(method: str, *allowed: str) -> http.MethodNotAllowed:
    return http.MethodNotAllowed(f"{method} is not possible here.", allow=allowed)


_BUCKET_GETS = {
    "location": Operation.GET_BUCKET_LOCATION,
    "versioning": Operation.GET_BUCKET_VERSIONING,
    "uploads": Operation.LIST_MULTIPART_UPLOADS,
}
_OBJECTS = {
    "GET": Operation.GET_OBJECT,
    "HEAD": Operation.HEAD_OBJECT,
    "PUT": Operation.PUT_OBJECT,
    "DELETE": Operation.DELETE_OBJECT,
}
_UPLOADS = {
    "GET": Operation.LIST_PARTS,
    "PUT": Operation.UPLOAD_PART,
    "POST": Operation.COMPLETE_MULTIPART_UPLOAD,
    "DELETE": Operation.ABORT_MULTIPART_UPLOAD,
}
