"""Certificates of a test's own authority, as PEM files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from preheat.settings import TlsSettings

_VALID = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """Who signs certificates; its files are in one directory."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def make(cls, directory: Path) -> Authority:
        """Make one, with its own certificate."""
        directory.mkdir(parents=True, exist_ok=True)
        authority = cls(directory, ec.generate_private_key(ec.SECP256R1()), _name(f"authority {directory.name}"))
        basic = x509.BasicConstraints(ca=True, path_length=0)
        authority._write("ca", authority._builder(authority.name, authority.key).add_extension(basic, critical=True))
        return authority

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return self.directory / "ca.pem"

    def issue(self, name: str, *addresses: str) -> TlsSettings:
        """Return a certificate for a client, or with IP addresses for a server, its key, and whom to trust."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key)
        if addresses:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(each)) for each in addresses])
            builder = builder.add_extension(names, critical=False)
        path = self.directory / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsSettings(cert=self._write(name, builder), key=path, ca=self.ca)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now, public = datetime.now(tz=UTC), key.public_key()
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder(issuer_name=self.name, subject_name=subject, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(issuer, critical=False)
        )

    def _write(self, name: str, builder: x509.CertificateBuilder) -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
