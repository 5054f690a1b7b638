"""TLS contexts from the files that the settings name."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from preheat.errors import InvalidRequest
from preheat.logs import get_logger
from preheat.settings import TlsSettings

log = get_logger("tls")
_LOOK_SECONDS = 60.0


def server_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """Return the context of a server, or none if it has no certificate.

    Raises:
        InvalidRequest: a file cannot be used.
    """
    if tls.cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_identity(context, tls)
    return context


async def follow_certificate(
    context: ssl.SSLContext | None, tls: TlsSettings, *, look_seconds: float = _LOOK_SECONDS
) -> None:
    """Take a renewed certificate over into a server's context until cancelled: new connections are shown it.

    What cannot be used is told once, and the one before holds on.
    """
    if context is None:
        return
    seen, refused = _stamps(tls), ""
    while True:
        await asyncio.sleep(look_seconds)
        if (now := _stamps(tls)) == seen:
            continue
        try:
            server_context(tls)  # what fails half-way would leave the live one without a key that fits
            _load_identity(context, tls)
        except InvalidRequest as error:
            if str(error) != refused:
                log.warning(
                    "The renewed certificate is not taken over.", action="certificate_refused", error=str(error)
                )
            refused = str(error)
        else:
            seen, refused = now, ""
            log.info("A renewed certificate was taken over.", action="certificate_renewed")


def _stamps(tls: TlsSettings) -> list[tuple[int, int, int]]:
    """Return what changes when a file, or what a link leads to, is replaced; less if it is away for a moment."""
    found = (path.stat() for path in (tls.cert, tls.key) if path is not None and path.exists())
    return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found]


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the context of a client: it trusts the CA file, by default the system's, and may have a certificate.

    Raises:
        InvalidRequest: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("CA file", tls.ca, error) from error
    if tls.cert is not None:
        _load_identity(context, tls)
    return context


def _load_identity(context: ssl.SSLContext, tls: TlsSettings) -> None:
    assert tls.cert is not None
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(f"key {tls.key} or certificate", tls.cert, error) from error


def _unusable(what: str, path: Path | None, error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The {what} {path} cannot be used: {error}.", remedy="Give a readable PEM file.")
