"""Receipts: what a verified job has proven, signed, so that it can be checked later and elsewhere.

A receipt is a compact JWS (RFC 7515) over the claims of :class:`Receipt`, signed with a key of the cluster's (Ed25519).
It is only made of a job that has succeeded with ``verify`` (I1), and says exactly how much of it was read back.
``docs/explanation/receipt.md`` has the claims and a test vector. Needs ``preheat[server]``.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from preheat.accounting import dataset_version
from preheat.errors import InvalidReceipt
from preheat.jobs import Job, JobState, JobType, Tally
from preheat.reports import Count

MEDIA_TYPE = "application/jose"
TOKEN_TYPE = "preheat-receipt+jwt"  # noqa: S105 - the header `typ`, which tells it from other tokens
ALGORITHM = "EdDSA"
_MAX_PATHS_BYTES = 4096
"""Of the paths that a receipt names; of more it has a digest: it has to stay small."""
_CLOCK_SECONDS = 300.0
"""How far the clocks of who signs and of who checks may be apart."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a job has proven: the claims of a receipt. Times are seconds since the epoch."""

    iss: str
    """The URL of the coordinator that signed it."""
    sub: str
    """The job's id."""
    iat: int
    """When the job ended."""
    verified_from: int
    """When the reading back began: each file was hot at some time from then until ``iat``."""
    type: JobType
    paths: tuple[str, ...] | None
    paths_digest: str | None
    """In the place of paths that are too long: see :func:`paths_digest`."""
    index: str | None
    file_filter_regex: str | None
    retry_of: str | None
    """The job of whose failed files only this is about."""
    dataset_version: str | None
    """Of all that was listed; a retry has none."""
    listed: Count
    verified: Count
    """Read back from each of their owners, with the length and the checksums of the listed version."""
    failed: Count
    replicas: int
    """How many owners each file has."""
    epoch: int
    """Of the placement map that says who they are."""
    min_hot_fraction: float | None
    max_failed_files: int | None

    @property
    def hot_fraction(self) -> float:
        """The share of the files that was proven to be hot."""
        return self.verified.files / self.listed.files if self.listed.files else 0.0


def receipt_of(job: Job, *, issuer: str) -> Receipt | None:
    """Return what an ended job has proven; none if it did not succeed with everything read back or counted failed."""
    read, spec, options = job.verification, job.spec, job.spec.options
    if job.state is not JobState.SUCCEEDED or job.finished_at is None or read is None:
        return None
    if not read.complete or read.done + read.failed != read.listed:
        return None
    named = sum(len(path.encode()) for path in spec.paths) <= _MAX_PATHS_BYTES
    return Receipt(
        iss=issuer,
        sub=job.id,
        iat=int(job.finished_at),
        verified_from=int(read.began_at or job.started_at or job.submitted_at),
        type=spec.type,
        paths=spec.paths if named else None,
        paths_digest=None if named else paths_digest(spec.paths),
        index=spec.index or None,
        file_filter_regex=options.file_filter_regex,
        retry_of=spec.retry_of or None,
        dataset_version=dataset_version(job),
        listed=_count(read.listed),
        verified=_count(read.done),
        failed=_count(read.failed),
        replicas=options.replicas,
        epoch=read.epoch,
        min_hot_fraction=options.min_hot_fraction,
        max_failed_files=options.max_failed_files,
    )


def why_none(job: Job) -> str:
    """Return why a job has no receipt."""
    if not job.spec.options.verify:
        return "it was submitted without verify, so nothing was read back"
    if job.state is JobState.SUCCEEDED:
        return "it ended when its coordinator did not sign receipts yet"
    return f"it is {job.state}, and only a job that has SUCCEEDED gets one"


def paths_digest(paths: Iterable[str]) -> str:
    """Return the SHA-256 over the paths in UTF-8, the length of each before it as 4 bytes big-endian."""
    encoded = (path.encode() for path in paths)
    return f"sha256:{hashlib.sha256(b''.join(len(path).to_bytes(4) + path for path in encoded)).hexdigest()}"


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> str:
    """Return a receipt as a compact JWS."""
    headers = {"kid": key_id(key.public_key()), "typ": TOKEN_TYPE}
    return jwt.api_jws.encode(msgspec.json.encode(receipt), key, ALGORITHM, headers)


def verify(text: str, keys: Mapping[str, Ed25519PublicKey], *, now: float) -> Receipt:
    """Return what a receipt says, if one of the keys signed it.

    Args:
        text: the compact JWS.
        keys: of the cluster that it is to be from, by their ids: see :func:`read_keys`.
        now: seconds since the epoch.

    Raises:
        InvalidReceipt: it is none, was edited, or another cluster signed it.
    """
    key = _key_of(text, keys)
    try:
        claims = jwt.decode(text, key, algorithms=[ALGORITHM], options={"verify_iat": False})
        receipt = msgspec.convert(claims, Receipt)
    except jwt.InvalidSignatureError as error:
        raise InvalidReceipt("The signature is not that of this content: the receipt was edited, or forged.") from error
    except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
        raise InvalidReceipt(f"The claims are not those of a receipt: {error}.") from error
    if receipt.iat > now + _CLOCK_SECONDS:
        raise InvalidReceipt(
            f"The receipt is of {_shown(receipt.iat)}, and here it is {_shown(now)}.", remedy="Check both clocks."
        )
    return receipt


def _key_of(text: str, keys: Mapping[str, Ed25519PublicKey]) -> Ed25519PublicKey:
    """Return the key that a receipt says it was signed with."""
    try:
        header = jwt.get_unverified_header(text)
    except jwt.InvalidTokenError as error:
        raise InvalidReceipt(f"This is not a receipt, which is three parts with two dots: {error}.") from error
    kind = {name: header.get(name) for name in ("alg", "typ")}
    if kind != {"alg": ALGORITHM, "typ": TOKEN_TYPE}:
        raise InvalidReceipt(f"This is not a receipt but a token with {kind}.")
    key = keys.get(key_name := str(header.get("kid")))
    if key is None:
        known = ", ".join(keys) or "none"
        raise InvalidReceipt(
            f"The receipt was signed with the key {key_name}, which is none of this cluster's ({known}).",
            remedy="Ask the coordinator of the cluster that made it (--coordinator), or name its saved keys (--keys).",
        )
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Return a key's name: its thumbprint as RFC 7638 and RFC 8037 define it."""
    public = OKPAlgorithm.to_jwk(key, as_dict=True)
    members = json.dumps(public, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """Return a key as others get it (RFC 7517)."""
    return {**OKPAlgorithm.to_jwk(key, as_dict=True), "kid": key_id(key), "alg": ALGORITHM, "use": "sig"}


def read_keys(document: bytes) -> dict[str, Ed25519PublicKey]:
    """Return the keys of a JWKS by their ids; those of other kinds are left out.

    Raises:
        InvalidReceipt: it is no JWKS.
    """
    try:
        found = msgspec.json.decode(document, type=_KeySet).keys
        keys = [OKPAlgorithm.from_jwk(item) for item in found if item.get("crv") == "Ed25519"]
    except (msgspec.DecodeError, jwt.InvalidKeyError) as error:
        remedy = "Save what `preheat receipt keys` prints."
        raise InvalidReceipt(f"The keys are no JWKS: {error}.", remedy=remedy) from error
    return {key_id(key): key for key in keys if isinstance(key, Ed25519PublicKey)}


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _count(tally: Tally) -> Count:
    return Count(files=tally.objects, bytes=tally.bytes)
