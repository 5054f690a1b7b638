"""Certificates and authorities that are renewed while the processes that use them run."""

from __future__ import annotations

import asyncio
import ssl
from weakref import WeakKeyDictionary

from preheat.errors import InvalidRequest
from preheat.logs import get_logger
from preheat.settings import TlsSettings
from preheat.tls import client_contexts, load_identity, load_trust, server_context

log = get_logger("tls")
_LOOK_SECONDS = 60.0


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
            load_identity(context, tls)
        except InvalidRequest as error:
            if str(error) != refused:
                log.warning(
                    "The renewed certificate is not taken over.", action="certificate_refused", error=str(error)
                )
            refused = str(error)
        else:
            seen, refused = now, ""
            log.info("A renewed certificate was taken over.", action="certificate_renewed")


async def follow_trust(*, look_seconds: float = _LOOK_SECONDS) -> None:
    """Let this process's clients trust an authority that is new in their CA file, until cancelled.

    A client's own certificate is taken over too. What is trusted no more is trusted until the process ends: a context
    cannot forget.
    """
    applied = WeakKeyDictionary[ssl.SSLContext, list[tuple[int, int, int]]]()
    while True:
        for context, tls in client_contexts():
            now = _stamps(tls)
            if now and applied.get(context) != now:
                _take_trust(context, tls, renewed=context in applied)
                applied[context] = now
        await asyncio.sleep(look_seconds)


def _take_trust(context: ssl.SSLContext, tls: TlsSettings, *, renewed: bool) -> None:
    try:
        load_trust(context, tls)
    except InvalidRequest as error:
        log.warning("The renewed authority is not taken over.", action="authority_refused", error=str(error))
    else:
        if renewed:
            log.info("A renewed authority was taken over.", action="authority_renewed", file=str(tls.ca))


def _stamps(tls: TlsSettings) -> list[tuple[int, int, int]]:
    """Return what changes when a file, or what a link leads to, is replaced; less if it is away for a moment."""
    found = (path.stat() for path in (tls.cert, tls.key, tls.ca) if path is not None and path.exists())
    return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found]
