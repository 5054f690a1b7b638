"""Presigned URLs by AWS's Signature Version 2: boto3 makes no others unless told to, or the region is a newer one.

Of the query this signature covers only what names a part of a resource, so that a URL with anything else is refused:
who got it could have changed that. Pure, as :mod:`preheat.worker.s3._sigv4`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import unquote, unquote_plus

from preheat.worker.s3._errors import S3Error

_OWN = frozenset({"AWSAccessKeyId", "Expires", "Signature"})
_COVERED = frozenset(
    {
        "delete",
        "location",
        "partNumber",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "uploadId",
        "uploads",
    }
)
"""Those that Preheat knows."""
_HEADERS = ("content-md5", "content-type", "x-amz-")
"""Headers are covered where they are sent; botocore repeats them in the query, where they say nothing."""


def is_presigned_v2(query: str) -> bool:
    """Whether a request claims to be presigned by this version."""
    return query.startswith("AWSAccessKeyId=") or "&AWSAccessKeyId=" in query


def verify_v2(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    secret_of: Callable[[str], str],
    now: float,
    max_expires: float,
) -> str:
    """Return the access key's id by which a URL was presigned; the arguments are those of ``_sigv4.verify``.

    Raises:
        S3Error: AccessDenied, SignatureDoesNotMatch, or what ``secret_of`` raises.
    """
    path, _, query = target.partition("?")
    fields = {name: value for name, _, value in (text.partition("=") for text in query.split("&"))}
    if len(fields) <= query.count("&"):
        raise S3Error("AccessDenied", "The presigned query names a parameter twice, and only one of them is signed.")
    if missing := sorted(_OWN - fields.keys()):
        raise S3Error("AccessDenied", f"The presigned query has no {missing[0]}.")
    if others := sorted(name for name in fields.keys() - _OWN - _COVERED if not name.startswith(_HEADERS)):
        raise S3Error(
            "AccessDenied",
            f"Signature Version 2 does not cover the parameter {others[0][:80]!r}.",
            remedy="Presign with Signature Version 4: in boto3 Config(signature_version='s3v4').",
        )
    _check_expiry(fields["Expires"], now, max_expires)
    access_key = unquote_plus(fields["AWSAccessKeyId"])
    text = _string_to_sign(method, path, fields, headers)
    right = base64.b64encode(hmac.digest(secret_of(access_key).encode(), text.encode("latin-1"), "sha1"))
    if not hmac.compare_digest(right, unquote(fields["Signature"]).encode()):
        raise S3Error("SignatureDoesNotMatch", "The signature is not the one of this URL by this access key.")
    return access_key


def _check_expiry(text: str, now: float, max_expires: float) -> None:
    expires = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if now > expires:
        raise S3Error("AccessDenied", "Request has expired.", remedy="Presign another URL.")
    if expires > now + max_expires:
        raise S3Error("AccessDenied", f"A presigned URL is valid for {max_expires:g} seconds at most.")


def _string_to_sign(method: str, path: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> str:
    plain = (headers.get("content-md5", ""), headers.get("content-type", ""), fields["Expires"])
    amazon = [f"{name}:{headers[name].strip()}" for name in sorted(headers) if name.startswith("x-amz-")]
    covered = sorted(fields.keys() & _COVERED)
    shown = [f"{name}={unquote(fields[name], 'latin-1')}" if fields[name] else name for name in covered]
    resource = path + ("?" + "&".join(shown) if shown else "")
    return "\n".join((method, *plain, *amazon, resource))
