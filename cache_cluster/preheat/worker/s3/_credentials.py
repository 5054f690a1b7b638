"""Who sends an S3 request, by the S3 credentials of a token, and what it may list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from preheat.access import Grant, Role, TokenRecord, authorize
from preheat.errors import Forbidden, Unauthenticated
from preheat.paths import UfsPath
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._sigv4 import Signature, verify


class Tokens(Protocol):
    """Knows the tokens: :class:`preheat.tokens.TokenStore`."""

    def s3_record(self, access_key_id: str) -> TokenRecord:
        """Return the valid token to which an access key belongs.

        Raises:
            Unauthenticated: there is none.
            EngineUnavailable: the tokens are not known yet.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sent a request, and what the signature vouches for."""

    grant: Grant
    signature: Signature


class S3Credentials:
    """Recognises the senders of S3 requests.

    Args:
        tokens: to which the access keys belong.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def authenticate(self, method: str, target: str, headers: Mapping[str, str], *, now: float) -> Caller:
        """Return who sent a request; the arguments are those of :func:`preheat.worker.s3._sigv4.verify`.

        Raises:
            S3Error: InvalidAccessKeyId if the key is unknown, revoked or expired. Otherwise as ``verify``.
            EngineUnavailable: the tokens are not known yet.
        """
        found: list[TokenRecord] = []

        def secret_of(access_key_id: str) -> str:
            found.append(self._record(access_key_id))
            return found[0].secret_key

        signature = verify(method, target, headers, secret_of=secret_of, now=now)
        return Caller(grant=found[0].grant, signature=signature)

    def _record(self, access_key_id: str) -> TokenRecord:
        try:
            return self._tokens.s3_record(access_key_id)
        except Unauthenticated as error:
            raise S3Error("InvalidAccessKeyId", error.message, remedy=_REMEDY) from error


_REMEDY = "An admin makes another one with `preheat token create --s3`."


def authorize_listing(grant: Grant, prefix: UfsPath) -> None:
    """Refuse a listing that could show what a grant does not cover.

    Args:
        grant: of the caller.
        prefix: the bucket's path with the listing's prefix, which may end anywhere within a name: ``data`` lists
            ``database``, too, so a grant for ``data/`` does not allow it.

    Raises:
        Forbidden: as named.
    """
    authorize(grant, Role.READ)
    if not grant.covers_listing(prefix):
        raise Forbidden(
            f"prefix='{prefix}' is outside of what the token is for: {', '.join(grant.prefixes)}.",
            remedy="List with one of these as the prefix, with its slash.",
        )
