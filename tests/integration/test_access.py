"""Access for real: a cluster that asks for tokens, TLS everywhere, and secrets that appear nowhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from preheat.cluster._nats import find_nats_server
from preheat.engine import Bucket, connect
from preheat.errors import EngineUnavailable, InvalidRequest
from preheat.settings import EngineSettings, TlsSettings
from testbed.ports import free_port
from testbed.processes import ChildProcess, listens


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test's own, below a directory."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def make(cls, directory: Path) -> Authority:
        directory.mkdir(exist_ok=True)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {directory.name}")])
        authority = cls(directory, ec.generate_private_key(ec.SECP256R1()), name)
        basic = x509.BasicConstraints(ca=True, path_length=0)
        authority._write("ca", authority._builder(name, authority.key).add_extension(basic, critical=True))
        return authority

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: str, *addresses: str) -> TlsSettings:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(each)) for each in addresses])
        cert = self._write(name, self._builder(subject, key).add_extension(names, critical=False))
        path = self.directory / f"{name}.key"
        encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(encoding, kind, serialization.NoEncryption()))
        return TlsSettings(cert=cert, key=path, ca=self.ca)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(tz=UTC)
        return (
            x509.CertificateBuilder(issuer_name=self.name, subject_name=subject, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    def _write(self, name: str, builder: x509.CertificateBuilder) -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("pki"))


@contextlib.contextmanager
def nats_server(directory: Path, config: str) -> Iterator[str]:
    """Run a server with JetStream, and return its address."""
    directory.mkdir(exist_ok=True)
    port = free_port()
    store = json.dumps(str(directory / "store"))
    (directory / "nats.conf").write_text(f"listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store} }}\n{config}")
    command = [find_nats_server(), "-c", directory / "nats.conf"]
    with ChildProcess(command, log=directory / "nats.log") as process:
        process.wait_ready(listens(port))
        yield f"127.0.0.1:{port}"


async def remember(settings: EngineSettings) -> bytes | None:
    """Write and read back by an engine's connection."""
    engine = await connect(settings, name="test")
    try:
        await engine.put(Bucket.CLUSTER, "k", b"v")
        entry = await engine.get(Bucket.CLUSTER, "k")
        return entry.value if entry else None
    finally:
        await engine.close()


class TestEngine:
    """NATS over TLS, with a client certificate, and with a JWT's credentials."""

    TOKEN = "tok3n-of-the-engine"

    @pytest.fixture(scope="class")
    def server(self, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        tls = authority.issue("nats", "127.0.0.1")
        config = f"""
            authorization {{ token: "{self.TOKEN}" }}
            tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", ca_file: "{tls.ca}", verify: true }}
        """
        with nats_server(tmp_path_factory.mktemp("nats-tls"), config) as address:
            yield f"tls://{self.TOKEN}@{address}"

    async def test_both_sides_show_certificates(self, authority: Authority, server: str):
        settings = EngineSettings(url=server, tls=authority.issue("coordinator"), connect_seconds=20)
        assert await remember(settings) == b"v"
        assert self.TOKEN not in repr(settings)

    async def test_a_server_that_somebody_else_vouches_for_is_not_spoken_to(
        self, authority: Authority, server: str, tmp_path: Path
    ):
        stranger = Authority.make(tmp_path / "stranger")
        mine = authority.issue("coordinator")
        for tls in (TlsSettings(cert=mine.cert, key=mine.key, ca=stranger.ca), TlsSettings(cert=mine.cert, key=mine.key)):
            with pytest.raises(EngineUnavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await connect(EngineSettings(url=server, tls=tls, connect_seconds=2), name="test")
            assert self.TOKEN not in str(caught.value)

    async def test_a_client_without_a_certificate_is_refused(self, authority: Authority, server: str):
        settings = EngineSettings(url=server, tls=TlsSettings(ca=authority.ca), connect_seconds=2)
        with pytest.raises(EngineUnavailable):
            await connect(settings, name="test")

    @pytest.mark.parametrize("field", ["ca", "cert", "credentials"])
    async def test_a_missing_file_is_named(self, authority: Authority, server: str, field: str, tmp_path: Path):
        gone = tmp_path / "gone.pem"
        mine = authority.issue("coordinator")
        settings = {
            "ca": EngineSettings(url=server, tls=TlsSettings(ca=gone)),
            "cert": EngineSettings(url=server, tls=TlsSettings(cert=gone, key=mine.key, ca=mine.ca)),
            "credentials": EngineSettings(url=server, tls=mine, credentials_file=gone),
        }
        with pytest.raises(InvalidRequest, match="gone.pem"):
            await connect(settings[field], name="test")

    async def test_a_credentials_file_stands_for_a_user(self, tmp_path: Path):
        config, credentials = jwt_accounts(tmp_path)
        with nats_server(tmp_path / "nats", config) as address:
            url = f"nats://{address}"
            assert await remember(EngineSettings(url=url, credentials_file=credentials, connect_seconds=20)) == b"v"
            with pytest.raises(EngineUnavailable):
                await connect(EngineSettings(url=url, connect_seconds=1), name="test")


def jwt_accounts(directory: Path) -> tuple[str, Path]:
    """Return the configuration of a server with one account, and the credentials file of a user of it."""
    operator, account, user = (_key_pair(kind) for kind in (b"O", b"A", b"U"))
    limits = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    unlimited = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    account_claims = {"type": "account", "version": 2, "limits": {**unlimited, **limits, "wildcards": True}}
    user_claims = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    account_jwt = _jwt(operator, account, account_claims)
    seed = bytes(user.seed).decode()
    (directory / "user.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{_jwt(account, user, user_claims)}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    config = f"""
        operator: {_jwt(operator, operator, {"type": "operator", "version": 2})}
        resolver: MEMORY
        resolver_preload: {{ {_public(account)}: {account_jwt} }}
    """
    return config, directory / "user.creds"
