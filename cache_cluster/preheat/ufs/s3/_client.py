"""The S3 endpoint and credentials of this process, found the way boto3 finds them, for boto3 and for obstore."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from obstore.store import S3Store

from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._listing import leave_unparsed

if TYPE_CHECKING:  # obstore has this one for type checkers only
    from obstore.store import S3Credential

_DEFAULT_REGION = "us-east-1"
_API_VERSION = "2006-03-01"
"""The only one; boto3 looks through the directories of all services for it, which takes a fifth of a client's start."""
_CONNECTIONS = 32
"""Of boto3, which works in threads; obstore has no limit of its own."""
_CREDENTIALS_LIFETIME = timedelta(minutes=10)
"""How long obstore keeps credentials that expire; it asks again 5 minutes before, and botocore renews 10 before."""
_NO_LIMIT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Connection:
    """A boto3 client, and what obstore needs to reach the same endpoint."""

    client: Any
    credentials: Credentials
    endpoint: str
    region: str

    async def credential(self) -> S3Credential:
        """Return the credentials of now, renewed if they are about to expire."""
        frozen = await asyncio.to_thread(self.credentials.get_frozen_credentials)
        expires = isinstance(self.credentials, RefreshableCredentials)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIFETIME if expires else None,
        }


def connect(settings: UfsSettings) -> S3Connection:
    """Find endpoint, region and credentials; blocks, up to seconds if a metadata service is asked.

    Variables, profiles, web identities and instance roles are boto3's business. AWS_REGION is read too, which boto3
    leaves to other SDKs.

    Raises:
        botocore.exceptions.BotoCoreError: there are no credentials, or the profile is wrong.
        ValueError: the endpoint is not a URL.
    """
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    credentials.get_frozen_credentials()  # raises now, rather than inside obstore, what an expired login raises
    client = _client(session, settings)
    region = client.meta.region_name
    return S3Connection(
        client=client,
        credentials=credentials,
        endpoint=client.meta.endpoint_url.rstrip("/"),
        region=region if region and region != "aws-global" else _DEFAULT_REGION,
    )


def open_bucket(connection: S3Connection, bucket: str, settings: UfsSettings) -> S3Store:
    """Return obstore's view of a bucket."""
    return S3Store(
        bucket,
        config={
            "region": connection.region,
            "endpoint": connection.endpoint,
            "aws_endpoint_url_s3": connection.endpoint,  # else a variable of this name would win
            "virtual_hosted_style_request": False,
        },
        client_options={
            "allow_http": connection.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=settings.connect_seconds),
            "read_timeout": timedelta(seconds=settings.read_seconds),
            "timeout": _NO_LIMIT,  # of a whole body, however large: read_timeout is what notices a stall
        },
        retry_config={
            "max_retries": settings.retries,
            "retry_timeout": timedelta(seconds=settings.retry_seconds),
        },
        credential_provider=connection.credential,
    )


def _client(session: boto3.Session, settings: UfsSettings) -> Any:
    config = Config(
        connect_timeout=settings.connect_seconds,
        read_timeout=settings.read_seconds,
        retries={"mode": "standard", "total_max_attempts": settings.retries + 1},
        max_pool_connections=_CONNECTIONS,
        # Checksums in trailers are what many S3 servers do not know; a signed payload is checked by all of them.
        request_checksum_calculation="when_required",
        # Every S3 has buckets as paths; buckets as host names need DNS and certificates.
        s3={"addressing_style": "path", "payload_signing_enabled": True},
    )
    client = session.client("s3", api_version=_API_VERSION, config=config)
    leave_unparsed(client)
    return client
