"""AWS Signature Version 4 of GETs, at a tenth of botocore's time."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # botocore has no types at run time
    from botocore.credentials import ReadOnlyCredentials

_EMPTY_SHA256 = hashlib.sha256().hexdigest()


class _Form(NamedTuple):
    """What all requests of a second have in common."""

    of: tuple[int, ReadOnlyCredentials, bool]
    """The second, the credentials, and whether the checksum is asked for."""
    signed: str
    """What is signed of a request behind its query."""
    text: str
    """What stands before the hash of that."""
    headers: str
    """All of them, up to the signature."""
    keyed: hmac.HMAC
    """The key of the day, worked in: a copy of it takes a third of the time of beginning anew."""


class Signer:
    """Signs GETs by AWS Signature Version 4; what those of one second have in common is computed once."""

    def __init__(self, *, host: str, region: str) -> None:
        self._host = host
        self._region = region
        self._form: _Form | None = None

    def headers(
        self, url_path: str, credentials: ReadOnlyCredentials, now: float, *, query: str = "", checksum: bool = False
    ) -> str:
        """Return the lines of the headers ``host``, ``x-amz-...`` and ``authorization``.

        Args:
            url_path: percent-encoded.
            credentials: what to sign with.
            now: seconds since the epoch.
            query: percent-encoded, in the order of the names.
            checksum: ask for the one that S3 keeps of the object.
        """
        of, form = (int(now), credentials, checksum), self._form
        if form is None or form.of != of:
            form = self._form = self._new_form(of)
        request = f"GET\n{url_path}\n{query}\n{form.signed}"
        text = f"{form.text}{hashlib.sha256(request.encode()).hexdigest()}"
        signature = form.keyed.copy()
        signature.update(text.encode())
        return f"{form.headers}{signature.hexdigest()}\r\n"

    def _new_form(self, of: tuple[int, ReadOnlyCredentials, bool]) -> _Form:
        second, credentials, checksum = of
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        mode, mode_name = ("x-amz-checksum-mode:ENABLED\n", "x-amz-checksum-mode;") if checksum else ("", "")
        lines = f"host:{self._host}\n{mode}x-amz-content-sha256:{_EMPTY_SHA256}\nx-amz-date:{stamp}\n"
        names = f"host;{mode_name}x-amz-content-sha256;x-amz-date"
        if credentials.token:
            lines += f"x-amz-security-token:{credentials.token}\n"
            names += ";x-amz-security-token"
        credential = f"{credentials.access_key}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature="
        return _Form(
            of=of,
            signed=f"{lines}\n{names}\n{_EMPTY_SHA256}",
            text=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
            headers=f"{lines}authorization:{authorization}".replace("\n", "\r\n"),
            keyed=hmac.new(self._key_of(credentials.secret_key, stamp[:8]), digestmod="sha256"),
        )

    def _key_of(self, secret: str, day: str) -> bytes:
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
