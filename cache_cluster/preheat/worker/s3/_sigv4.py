"""AWS Signature Version 4 of requests, verified: in the header ``Authorization``, or in the query of a presigned URL.

URLs may be presigned by Version 2 as well, see :mod:`preheat.worker.s3._sigv2`.

Pure: the clock is an argument, and secrets come from a function.
"""

from __future__ import annotations

import calendar
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote_plus

from preheat.worker.s3._canonical import canonical_headers, canonical_path, canonical_query
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._sigv2 import is_presigned_v2, verify_v2

MAX_SKEW = 15 * 60
"""Seconds between the client's clock and ours."""
MAX_EXPIRES = 7 * 86400
"""Seconds for which a presigned URL may be valid."""
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = sha256().hexdigest()

_ALGORITHM = "AWS4-HMAC-SHA256"
_NAMES = frozenset({"Credential", "SignedHeaders", "Signature"})
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """What the signatures of a body's chunks go on from."""

    stamp: str
    scope: str
    key: bytes = field(repr=False)
    seed: str
    """The request's own signature."""

    def sign(self, kind: str, previous: str, *hashes: str) -> str:
        """Return the signature of the next chunk, or of the trailer, behind the one before."""
        text = "\n".join((f"{_ALGORITHM}-{kind}", self.stamp, self.scope, previous, *hashes))
        return hmac.digest(self.key, text.encode(), "sha256").hex()


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What a request's signature vouches for."""

    access_key: str
    content: str
    """The body's SHA-256 in hexadecimal, or how else it is signed, if it is: ``x-amz-content-sha256``."""
    chain: Chain | None = None
    """For a body of signed chunks."""


class _Claim(NamedTuple):
    """What a request says of its signature; a tuple, for one is made for each request."""

    access_key: str
    day: str
    region: str
    signed: str
    """The names of the signed headers, as they stand in the request."""
    signature: str
    stamp: str
    content: str
    query: str
    """Without the signature."""


def verify(
    method: str, target: str, headers: Mapping[str, str], *, secret_of: Callable[[str], str], now: float
) -> Signature:
    """Return who signed a request, and what that covers.

    Args:
        method: of the request.
        target: path and query, as they came.
        headers: by lower-case name; bytes beyond ASCII as Latin-1.
        secret_of: returns the secret of an access key's id, or raises what the client shall see.
        now: seconds since the epoch.

    Raises:
        S3Error: it is not signed, or not rightly: AccessDenied, SignatureDoesNotMatch, RequestTimeTooSkewed,
            AuthorizationHeaderMalformed, AuthorizationQueryParametersError, InvalidArgument or InvalidRequest.
    """
    path, _, query = target.partition("?")
    authorization = headers.get("authorization")
    if authorization is not None:
        claim = _from_header(authorization, headers, query, now)
    elif "X-Amz-Algorithm=" in query:
        claim = _from_query(headers, query, now)
    elif is_presigned_v2(query):
        key_id = verify_v2(method, target, headers, secret_of=secret_of, now=now, max_expires=MAX_EXPIRES)
        return Signature(access_key=key_id, content=UNSIGNED)
    else:
        raise S3Error("AccessDenied", "The request is not signed.", remedy="Give the client an access key.")
    key = signing_key(secret_of(claim.access_key), claim.day, claim.region)
    lines = canonical_headers(claim.signed, headers)
    request = f"{method}\n{canonical_path(path)}\n{claim.query}\n{lines}\n{claim.signed}\n{claim.content}"
    scope = f"{claim.day}/{claim.region}/s3/aws4_request"
    digest = sha256(request.encode("latin-1")).hexdigest()
    text = f"{_ALGORITHM}\n{claim.stamp}\n{scope}\n{digest}"
    right = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(right.encode(), claim.signature.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The signature is not the one of this request by this access key.",
            remedy="Check the secret access key, and that nothing between the client and this port changes requests.",
        )
    signed_chunks = claim.content in SIGNED_CHUNKS
    chain = Chain(stamp=claim.stamp, scope=scope, key=key, seed=claim.signature) if signed_chunks else None
    return Signature(access_key=claim.access_key, content=claim.content, chain=chain)


@lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str) -> bytes:
    """Return the key by which an access key signs on a day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _from_header(authorization: str, headers: Mapping[str, str], query: str, now: float) -> _Claim:
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != _ALGORITHM:
        raise S3Error("InvalidRequest", f"The authorization {algorithm[:40]!r} is not supported. Use {_ALGORITHM}.")
    parts = dict(_pair(text) for text in rest.split(","))
    if parts.keys() != _NAMES:
        raise _malformed("it has to name Credential, SignedHeaders and Signature, once each")
    content = headers.get("x-amz-content-sha256")
    if content is None:
        raise S3Error("InvalidRequest", "The header x-amz-content-sha256 is missing.")
    stamp = _stamp_of(headers)
    if abs(_seconds(stamp) - now) > MAX_SKEW:
        raise S3Error(
            "RequestTimeTooSkewed",
            f"The request says that it is {stamp}, which is more than {MAX_SKEW} seconds from the time here.",
            remedy="Set the client's clock.",
        )
    return _claim(parts, stamp, content, canonical_query(query), headers, malformed=_malformed)


def _from_query(headers: Mapping[str, str], query: str, now: float) -> _Claim:
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Content-Sha256")
    fields = dict(text.partition("=")[::2] for text in query.split("&"))
    parts = {name: unquote_plus(fields[f"X-Amz-{name}"]) for name in names if f"X-Amz-{name}" in fields}
    for name in names[:-1]:
        if name not in parts:
            raise _malformed_query(f"X-Amz-{name} is missing")
    if parts["Algorithm"] != _ALGORITHM:
        raise _malformed_query(f"X-Amz-Algorithm is not {_ALGORITHM}")
    _check_time(parts["Date"], parts["Expires"], now)
    content = parts.get("Content-Sha256") or headers.get("x-amz-content-sha256") or UNSIGNED
    rest = canonical_query(query, without="X-Amz-Signature")
    return _claim(parts, parts["Date"], content, rest, headers, malformed=_malformed_query)


def _check_time(stamp: str, expires: str, now: float) -> None:
    if not _STAMP.fullmatch(stamp):
        raise _malformed_query("X-Amz-Date is not of the form 20130524T000000Z")
    seconds = int(expires) if expires.isascii() and expires.isdigit() and len(expires) < 10 else 0
    if not 1 <= seconds <= MAX_EXPIRES:
        raise _malformed_query(f"X-Amz-Expires is not a number of seconds from 1 to {MAX_EXPIRES}")
    begin = _seconds(stamp)
    if now > begin + seconds:
        raise S3Error("AccessDenied", "Request has expired.", remedy="Presign another URL.")
    if begin > now + MAX_SKEW:
        raise S3Error("AccessDenied", "Request is not yet valid.", remedy="Set the client's clock.")


def _claim(
    parts: Mapping[str, str],
    stamp: str,
    content: str,
    query: str,
    headers: Mapping[str, str],
    *,
    malformed: Callable[[str], S3Error],
) -> _Claim:
    scope = parts["Credential"].rsplit("/", 4)
    if len(scope) != 5 or scope[3:] != ["s3", "aws4_request"]:
        raise malformed("the credential is not KEY/DAY/REGION/s3/aws4_request")
    if scope[1] != stamp[:8]:
        raise malformed(f"the credential's day {scope[1][:20]!r} is not that of the date {stamp}")
    if content not in SIGNED_CHUNKS and content not in (UNSIGNED, UNSIGNED_CHUNKS) and not _HASH.fullmatch(content):
        raise S3Error("InvalidArgument", f"x-amz-content-sha256={content[:80]!r} is no SHA-256, nor a mode known here.")
    _check_signed(parts["SignedHeaders"].split(";"), headers)
    return _Claim(
        access_key=scope[0],
        day=scope[1],
        region=scope[2],
        signed=parts["SignedHeaders"],
        signature=parts["Signature"],
        stamp=stamp,
        content=content,
        query=query,
    )


def _check_signed(signed: list[str], headers: Mapping[str, str]) -> None:
    missing = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        missing.append("host")
    if missing:
        raise S3Error("AccessDenied", f"There are headers that have to be signed and are not: {', '.join(missing)}.")


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    return name, value


def _stamp_of(headers: Mapping[str, str]) -> str:
    """Return when a request was signed, in the form that is signed."""
    stamp = headers.get("x-amz-date")
    if stamp is None and "date" in headers:
        stamp = _from_http_date(headers["date"])
    if stamp is None or not _STAMP.fullmatch(stamp):
        raise S3Error("AccessDenied", "The request needs a header x-amz-date such as 20130524T000000Z.")
    return stamp


def _from_http_date(text: str) -> str | None:
    if _STAMP.fullmatch(text):
        return text
    try:
        return time.strftime("%Y%m%dT%H%M%SZ", parsedate_to_datetime(text).utctimetuple())
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _seconds(stamp: str) -> int:
    try:
        return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        raise S3Error("AccessDenied", f"The date {stamp!r} is none.") from error


def _malformed(why: str) -> S3Error:
    return S3Error("AuthorizationHeaderMalformed", f"The header Authorization is malformed: {why}.")


def _malformed_query(why: str) -> S3Error:
    return S3Error("AuthorizationQueryParametersError", f"The presigned query is malformed: {why}.")
