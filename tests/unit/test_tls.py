"""A renewed certificate is shown without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

from structlog.testing import capture_logs

from preheat.settings import TlsSettings
from preheat.tls import client_context, server_context
from preheat.tls_renewal import follow_certificate, follow_trust
from testbed.certificates import Authority

LOOK_SECONDS = 0.01
DEADLINE = 10.0


async def shown(port: int) -> bytes:
    """Return the certificate that a server shows; nothing if there is no handshake."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except ssl.SSLError:
        return b""
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return certificate


async def until(port: int, satisfied: Callable[[bytes], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not satisfied(await shown(port)):
            await asyncio.sleep(LOOK_SECONDS)


async def test_a_renewed_certificate_is_shown_and_a_damaged_one_is_not(tmp_path: Path):
    authority = Authority.make(tmp_path / "authority")
    first, second = (authority.issue(name, "127.0.0.1") for name in ("first", "second"))
    tls = TlsSettings(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key")

    def mount(pair: TlsSettings) -> None:
        for source, target in ((pair.cert, tls.cert), (pair.key, tls.key)):
            assert source
            assert target
            shutil.copy(source, target)

    mount(first)
    context = server_context(tls)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    following = asyncio.create_task(follow_certificate(context, tls, look_seconds=LOOK_SECONDS))
    port = server.sockets[0].getsockname()[1]
    old = await shown(port)
    mount(second)
    await until(port, lambda now: now not in {b"", old})
    renewed = await shown(port)
    assert tls.cert
    with capture_logs() as told:
        tls.cert.write_text("no certificate")
        async with asyncio.timeout(DEADLINE):
            while not told:
                await asyncio.sleep(LOOK_SECONDS)
    assert (await shown(port), [line["action"] for line in told]) == (renewed, ["certificate_refused"])
    following.cancel()
    server.close()
    await server.wait_closed()


async def test_without_a_certificate_there_is_nothing_to_follow():
    assert await follow_certificate(None, TlsSettings()) is None


async def test_an_authority_that_is_renewed_is_trusted_by_clients_that_run(tmp_path: Path):
    old, new = (Authority.make(tmp_path / name) for name in ("old", "new"))
    trusted = tmp_path / "ca.crt"
    shutil.copy(old.ca, trusted)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server_context(new.issue("worker", "127.0.0.1"))
    )
    context = client_context(TlsSettings(ca=trusted))

    async def trusts() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], ssl=context)
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True

    following = asyncio.create_task(follow_trust(look_seconds=LOOK_SECONDS))
    assert not await trusts()
    with capture_logs() as told:
        trusted.write_text("no certificate")
        async with asyncio.timeout(DEADLINE):
            while not told:
                await asyncio.sleep(LOOK_SECONDS)
    assert [line["action"] for line in told] == ["authority_refused"]
    shutil.copy(new.ca, trusted)
    async with asyncio.timeout(DEADLINE):
        while not await trusts():
            await asyncio.sleep(LOOK_SECONDS)
    following.cancel()
    server.close()
    await server.wait_closed()
