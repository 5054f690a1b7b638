"""TLS contexts from the files that the settings name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from preheat.errors import InvalidRequest
from preheat.settings import TlsSettings

_clients: WeakKeyDictionary[ssl.SSLContext, TlsSettings] = WeakKeyDictionary()
"""The contexts of this process's clients, while somebody uses them: what their files say may change."""


def server_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """Return the context of a server, or none if it has no certificate.

    Raises:
        InvalidRequest: a file cannot be used.
    """
    if tls.cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_identity(context, tls)
    return context


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
        load_identity(context, tls)
    _clients[context] = tls
    return context


def client_contexts() -> Iterator[tuple[ssl.SSLContext, TlsSettings]]:
    """Yield the contexts of clients that are in use, with what they were made from."""
    yield from list(_clients.items())


def load_trust(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Let a client's context also trust what the CA file holds now, and show what its certificate is now.

    Raises:
        InvalidRequest: a file cannot be used.
    """
    client_context(tls)  # what fails half-way would leave the live one without a key that fits
    if tls.ca is not None:
        context.load_verify_locations(tls.ca)
    if tls.cert is not None:
        load_identity(context, tls)


def load_identity(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Give a context the certificate and the key that the settings name.

    Raises:
        InvalidRequest: they cannot be used.
    """
    assert tls.cert is not None
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(f"key {tls.key} or certificate", tls.cert, error) from error


def _unusable(what: str, path: Path | None, error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The {what} {path} cannot be used: {error}.", remedy="Give a readable PEM file.")
