"""Signed GETs of objects as they go over the wire."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from preheat.paths import UfsPath
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors
from preheat.ufs.s3._sign import Signer

if TYPE_CHECKING:  # botocore has no types at run time
    from botocore.credentials import ReadOnlyCredentials

_CREDENTIALS_SECONDS = 60.0
_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")
"""A key that is not quoted; a look at it takes a fifth of the time."""


class GetRequests:
    """Writes requests to one endpoint.

    Args:
        connection: the endpoint and the credentials.
    """

    def __init__(self, connection: S3Connection) -> None:
        url = urlsplit(connection.endpoint)
        self.host, self.port = url.hostname or "", url.port or 80
        self._root = url.path
        self._connection = connection
        self._signer = Signer(host=url.netloc, region=connection.region)
        self._credentials: ReadOnlyCredentials | None = None
        self._credentials_until = 0.0

    @property
    def fresh(self) -> bool:
        """Whether :meth:`refresh` would do nothing."""
        return self._credentials is not None and time.time() <= self._credentials_until

    async def refresh(self, path: UfsPath) -> None:
        """Look at the credentials again if the last look was a minute ago; raises AccessDenied if there are none."""
        if not self.fresh:
            with botocore_errors(path, self._connection.endpoint):
                self._credentials = await asyncio.to_thread(self._connection.credentials.get_frozen_credentials)
            self._credentials_until = time.time() + _CREDENTIALS_SECONDS

    def get(self, path: UfsPath, etag: str | None, start: int, end: int | None) -> bytes:
        """Return a GET of bytes [start, end); with no end of all bytes, and of the checksum that S3 keeps of them.

        :meth:`refresh` comes first.
        """
        assert self._credentials is not None
        key = path.key if _PLAIN.fullmatch(path.key) else quote(path.key, safe="/~")
        url_path = f"{self._root}/{path.bucket}/{key}"
        headers = self._signer.headers(url_path, self._credentials, time.time(), checksum=end is None)
        match = "" if etag is None else f'if-match:"{etag}"\r\n'
        span = "" if end is None else f"range:bytes={start}-{end - 1}\r\n"
        return f"GET {url_path} HTTP/1.1\r\n{headers}{match}{span}\r\n".encode()
