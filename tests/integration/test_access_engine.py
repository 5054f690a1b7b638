"""The engine over TLS, with a client certificate, and with the credentials of a JWT: real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import nkeys
import pytest

from preheat.engine import Bucket, connect
from preheat.errors import EngineUnavailable, InvalidRequest
from preheat.settings import EngineSettings, TlsSettings
from testbed.certificates import Authority
from testbed.nats import run_nats
from testbed.ports import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("pki"))


async def remember(settings: EngineSettings) -> bytes | None:
    """Write and read back by an engine's connection."""
    engine = await connect(settings, name="test")
    try:
        await engine.put(Bucket.CLUSTER, "k", b"v")
        entry = await engine.get(Bucket.CLUSTER, "k")
        return entry.value if entry else None
    finally:
        await engine.close()


TOKEN = "tok3n-of-the-engine"


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tls = authority.issue("nats", "127.0.0.1")
    config = f"""
        authorization {{ token: "{TOKEN}" }}
        tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", ca_file: "{tls.ca}", verify: true }}
    """
    with run_nats(tmp_path_factory.mktemp("nats-tls"), config) as address:
        yield f"tls://{TOKEN}@{address}"


async def test_both_sides_show_certificates(authority: Authority, server: str):
    settings = EngineSettings(url=server, tls=authority.issue("coordinator"), connect_seconds=20)
    assert await remember(settings) == b"v"
    assert TOKEN not in repr(settings)


async def test_a_server_that_somebody_else_vouches_for_is_not_spoken_to(
    authority: Authority, server: str, tmp_path: Path
):
    stranger = Authority.make(tmp_path / "stranger")
    mine = authority.issue("coordinator")
    for trusted in (stranger.ca, None):
        tls = TlsSettings(cert=mine.cert, key=mine.key, ca=trusted)
        with pytest.raises(EngineUnavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await connect(EngineSettings(url=server, tls=tls, connect_seconds=2), name="test")
        assert TOKEN not in str(caught.value)


async def test_a_client_without_a_certificate_is_refused(authority: Authority, server: str):
    settings = EngineSettings(url=server, tls=TlsSettings(ca=authority.ca), connect_seconds=2)
    with pytest.raises(EngineUnavailable):
        await connect(settings, name="test")


async def test_a_client_that_misses_its_cancellation_has_a_deadline_too(monkeypatch: pytest.MonkeyPatch):
    missed = 0

    async def goes_on(**_: object) -> None:
        nonlocal missed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if missed:
                    raise
                missed += 1

    monkeypatch.setattr(nats, "connect", goes_on)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        await connect(EngineSettings(connect_seconds=0.1), name="test")
    assert missed == 1


@pytest.mark.long
async def test_a_token_in_a_file_may_change_while_the_connection_is_away(tmp_path: Path):
    """As a Secret's volume does: NATS starts anew with the new token, and no coordinator or worker has to."""
    file = tmp_path / "token"
    file.write_text("first\n")
    config = 'authorization {{ token: "{}" }}'
    port = free_port()
    with run_nats(tmp_path / "nats", config.format("first"), port=port) as address:
        settings = EngineSettings(url=f"nats://{address}", token_file=file, connect_seconds=20, request_seconds=20)
        engine = await connect(settings, name="test")
    try:
        with run_nats(tmp_path / "nats", config.format("second"), port=port):
            writing = asyncio.create_task(engine.put(Bucket.CLUSTER, "k", b"v"))
            await asyncio.sleep(0)
            file.write_text("second\n")
            assert await writing > 0
    finally:
        await engine.close()


@pytest.mark.parametrize("content", ["", "two words", None])
async def test_a_token_file_that_holds_no_token_is_named(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(InvalidRequest, match=r"token file .*token"):
        await connect(EngineSettings(token_file=tmp_path / "token"), name="test")


@pytest.mark.parametrize("field", ["ca", "cert", "credentials"])
async def test_a_missing_file_is_named(authority: Authority, server: str, field: str, tmp_path: Path):
    gone = tmp_path / "gone.pem"
    mine = authority.issue("coordinator")
    settings = {
        "ca": EngineSettings(url=server, tls=TlsSettings(ca=gone)),
        "cert": EngineSettings(url=server, tls=TlsSettings(cert=gone, key=mine.key, ca=mine.ca)),
        "credentials": EngineSettings(url=server, tls=mine, credentials_file=gone),
    }
    with pytest.raises(InvalidRequest, match=r"gone\.pem"):
        await connect(settings[field], name="test")


async def test_a_credentials_file_stands_for_a_user(tmp_path: Path):
    config, credentials = jwt_accounts(tmp_path)
    with run_nats(tmp_path / "nats", config) as address:
        url = f"nats://{address}"
        assert await remember(EngineSettings(url=url, credentials_file=credentials, connect_seconds=20)) == b"v"
        with pytest.raises(EngineUnavailable):
            await connect(EngineSettings(url=url, connect_seconds=1), name="test")


def jwt_accounts(directory: Path) -> tuple[str, Path]:
    """Return the configuration of a server with one account, and the credentials file of a user of it."""
    operator, system, account, user = (_key_pair(kind) for kind in (b"O", b"A", b"A", b"U"))
    limits = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    unlimited = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    account_claims = {"type": "account", "version": 2, "limits": {**unlimited, **limits, "wildcards": True}}
    user_claims = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    system_jwt = _jwt(operator, system, {"type": "account", "version": 2, "limits": unlimited})
    seed = bytes(user.seed).decode()
    (directory / "user.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{_jwt(account, user, user_claims)}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    config = f"""
        operator: {_jwt(operator, operator, {"type": "operator", "version": 2})}
        system_account: {_public(system)}
        resolver: MEMORY
        resolver_preload: {{
            {_public(system)}: {system_jwt}
            {_public(account)}: {_jwt(operator, account, account_claims)}
        }}
    """
    return config, directory / "user.creds"


def _key_pair(kind: bytes) -> nkeys.KeyPair:
    prefix = {b"O": nkeys.PREFIX_BYTE_OPERATOR, b"A": nkeys.PREFIX_BYTE_ACCOUNT, b"U": nkeys.PREFIX_BYTE_USER}[kind]
    return nkeys.from_seed(bytearray(nkeys.encode_seed(secrets.token_bytes(32), prefix)))


def _public(pair: nkeys.KeyPair) -> str:
    return bytes(pair.public_key).decode().rstrip("=")


def _jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, claims: dict[str, Any]) -> str:
    body = {"jti": secrets.token_hex(8), "iat": 1, "iss": _public(issuer), "sub": _public(subject), "nats": claims}
    parts = [_encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]
    return ".".join([*parts, _encoded(issuer.sign(".".join(parts).encode()))])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
