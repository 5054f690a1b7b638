"""ListObjectsV2 on the wire; blocking, for threads.

Plain HTTP endpoints are asked without a client library, at a third of its CPU time. That deals with success alone:
whatever else an endpoint answers, and any broken connection, is left to boto3, which asks again and knows encryption,
retries and all errors.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote, urlencode, urlsplit

from preheat.paths import UfsPath
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors, unreachable
from preheat.ufs.s3._listing import Answer, answer_of, is_error, read_answer
from preheat.ufs.s3._sign import Signer
from preheat.ufs.s3._wire import S3Wire

_ALWAYS: dict[str, str | int] = {"list-type": 2, "encoding-type": "url"}
_WIRE_NAMES = {
    "Prefix": "prefix",
    "MaxKeys": "max-keys",
    "Delimiter": "delimiter",
    "StartAfter": "start-after",
    "ContinuationToken": "continuation-token",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One request for a page."""

    prefix: str
    limit: int
    """The most keys of a page."""
    delimiter: str = ""
    after: str = ""
    """The page begins behind this key."""
    token: str = ""
    """Or where a page before this one said that it goes on."""

    def parameters(self) -> dict[str, str | int]:
        """Return what differs from the defaults, by boto3's names."""
        values: dict[str, str | int] = {
            "Prefix": self.prefix,
            "MaxKeys": self.limit,
            "Delimiter": self.delimiter,
            "StartAfter": "" if self.token else self.after,
            "ContinuationToken": self.token,
        }
        return {name: value for name, value in values.items() if value}


class ListRequests:
    """Asks one endpoint.

    Args:
        connection: the endpoint and the credentials.
        settings: deadlines.
    """

    def __init__(self, connection: S3Connection, settings: UfsSettings) -> None:
        self._connection = connection
        plain = S3Wire.reaches(connection.endpoint)
        self._plain = _PlainRequests(connection, settings) if plain else None

    def ask(self, path: UfsPath, query: Query) -> Answer:
        """Return the answer to a query in the bucket of a path.

        Raises:
            BucketNotFound, AccessDenied, OriginUnavailable: as named; the message names the path.
        """
        with botocore_errors(path, self._connection.endpoint):
            answer = self._plain.ask(path, query) if self._plain else None
            if answer is not None:
                return answer
            client = self._connection.client
            return answer_of(client.list_objects_v2(Bucket=path.bucket, **query.parameters()))

    def close(self) -> None:
        """Close the connections."""
        if self._plain is not None:
            self._plain.close()


class _PlainRequests:
    """Signed requests on kept connections."""

    def __init__(self, connection: S3Connection, settings: UfsSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._idle: deque[_Channel] = deque()
        self._closed = False

    def ask(self, path: UfsPath, query: Query) -> Answer | None:
        """Return a success; None if boto3 should ask.

        Raises:
            OriginUnavailable: the endpoint sent nothing for ``read_seconds``.
            ValueError: as :func:`read_answer`.
        """
        channel = self._channel()
        if channel is None:
            return None
        try:
            answer = channel.ask(path.bucket, query)
        except TimeoutError as error:
            channel.close()
            raise unreachable(path, self._connection.endpoint) from error
        except (OSError, HTTPException):
            channel.close()
            return None
        self._release(channel)
        return answer

    def close(self) -> None:
        """Close the connections that are idle, and the others when they are."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _channel(self) -> _Channel | None:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return _Channel(self._connection, self._settings)
        except OSError:
            return None

    def _release(self, channel: _Channel) -> None:
        if channel.reusable and not self._closed:
            self._idle.append(channel)
        else:
            channel.close()


class _Channel:
    """One connection, which carries one request at a time."""

    def __init__(self, connection: S3Connection, settings: UfsSettings) -> None:
        url = urlsplit(connection.endpoint)
        self._root = url.path
        self._credentials = connection.credentials
        self._signer = Signer(host=url.netloc, region=connection.region)
        self._socket = socket.create_connection((url.hostname, url.port or 80), settings.connect_seconds)
        self._socket.settimeout(settings.read_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reusable = False

    def ask(self, bucket: str, query: Query) -> Answer | None:
        """Send a query and return the answer; None if it is an error.

        Raises:
            OSError, HTTPException: the connection broke, or this is not HTTP.
            ValueError: as :func:`read_answer`.
        """
        named = {_WIRE_NAMES[name]: value for name, value in query.parameters().items()}
        text = urlencode(sorted((_ALWAYS | named).items()), quote_via=quote, safe="-_.~")
        return self._get(f"{self._root}/{bucket}", text)

    def _get(self, url_path: str, query: str) -> Answer | None:
        credentials = self._credentials.get_frozen_credentials()
        headers = self._signer.headers(url_path, credentials, time.time(), query=query)
        self._socket.sendall(f"GET {url_path}?{query} HTTP/1.1\r\n{headers}\r\n".encode())
        response = HTTPResponse(self._socket, method="GET")
        response.begin()
        body = response.read()
        self.reusable = not response.will_close
        if is_error(response.status, body):
            return None
        return read_answer(body, response.headers.get("server", ""))

    def close(self) -> None:
        """Close it at once."""
        self._socket.close()
